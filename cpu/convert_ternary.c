/* convert_ternary.c: between rows of TQ1_0, TQ2_0 and Q2_0 and panels of T2 and T1, without loss, and from panels to
 * floats. A block of 16 rows is taken apart into codes, value + 1, and put together again.
 *
 * What doesn't fit is refused: the value 2 (code 3, of TQ2_0, Q2_0 and T2) in base-3 bytes, and Q2_0 whose 256 values
 * have more than one scale. */
#include "convert_ternary.h"

#include "ternary.h"

typedef uint8_t byte;

/* A block of 16 rows. */
typedef struct block_rows {
    byte code[T_ROWS][T_BLOCK];
    uint16_t scale[T_ROWS];
} block_rows;

static const byte *row_block(const clf_tensor *t, int64_t row, int64_t block) {
    return (const byte *)clf_row(t, row) + clf_dtype_bytes(t->dtype, block * T_BLOCK);
}
/* The panel that begins with `row`. */
static byte *panel_of(const clf_tensor *t, int64_t row) {
    return (byte *)clf_data(t) + clf_dtype_bytes(t->dtype, row * t->shape[1]);
}

/* The digits of base-3 fractions of 243: tripling brings up the next. */
static void fractions(const byte *q, int n, int digits, byte *code) {
    for (int t = 0, power = 1; t < digits; t++, power *= 3)
        for (int j = 0; j < n; j++) code[t * n + j] = (byte)((byte)(q[j] * power) * 3 >> 8);
}

static void read_tq1_0(const byte *b, byte *code, uint16_t *scale) {
    fractions(b, 32, 5, code);
    fractions(b + 32, 16, 5, code + 160);
    fractions(b + 48, 4, 4, code + 240);
    memcpy(scale, b + 52, 2);
}

static void read_tq2_0(const byte *b, byte *code, uint16_t *scale) {
    for (int g = 0; g < 8; g++)
        for (int j = 0; j < 32; j += 8) {
            uint64_t eight;
            memcpy(&eight, b + g / 4 * 32 + j, sizeof eight);
            eight = eight >> g % 4 * 2 & 0x0303030303030303u;
            memcpy(code + 32 * g + j, &eight, sizeof eight);
        }
    memcpy(scale, b + 64, 2);
}

/* Four blocks of 64; false if their scales differ. */
static bool read_q2_0(const byte *b, byte *code, uint16_t *scale) {
    bool same = true;
    for (int s = 0; s < 4; s++, b += 18) {
        uint16_t d;
        memcpy(&d, b, 2);
        if (s == 0) *scale = d;
        same &= d == *scale;
        for (int j = 0; j < 64; j++) code[64 * s + j] = b[2 + j / 4] >> j % 4 * 2 & 3;
    }
    return same;
}

/* Block `block` of the 16 rows from `row` on; false if that isn't possible. */
static bool read_block(const clf_tensor *x, int64_t row, int64_t block, block_rows *to) {
    bool same = true;
    if (clf_dtype_is_interleaved(x->dtype)) {
        const byte *panel = panel_of(x, row);
        ternary_codes codes;
        ternary_expand(x->dtype, ternary_words(x->dtype, panel, x->shape[1], block), codes);
        for (int step = 0; step < T_STEPS; step++)
            for (int r = 0; r < T_ROWS; r++) memcpy(to->code[r] + 4 * step, codes[step] + 4 * r, 4);
        memcpy(to->scale, ternary_scales(panel, block), sizeof to->scale);
        return true;
    }
    for (int r = 0; r < T_ROWS; r++) {
        const byte *from = row_block(x, row + r, block);
        if (x->dtype == CLF_TQ1_0)
            read_tq1_0(from, to->code[r], &to->scale[r]);
        else if (x->dtype == CLF_TQ2_0)
            read_tq2_0(from, to->code[r], &to->scale[r]);
        else
            same &= read_q2_0(from, to->code[r], &to->scale[r]);
    }
    return same;
}

/* Words of `digits` codes a byte; bytes of 16 rows lie side by side and no number exceeds 255: nothing is carried. */
INLINE void pack_words(ternary_codes codes, uint32_t base, int digits, byte *words) {
    for (int step = 0; step < T_STEPS; step += digits, words += T_WORD) {
        uint32_t word[T_ROWS] = {0}, fours[T_ROWS];
        for (int p = digits - 1; p >= 0; p--) {
            if (step + p >= T_STEPS) continue;
            memcpy(fours, codes[step + p], sizeof fours);
            for (int r = 0; r < T_ROWS; r++) word[r] = base * word[r] + fours[r];
        }
        memcpy(words, word, sizeof word);
    }
}

static void write_interleaved(const block_rows *from, clf_dtype dtype, byte *words) {
    ternary_codes codes;
    for (int r = 0; r < T_ROWS; r++)
        for (int step = 0; step < T_STEPS; step++) memcpy(codes[step] + 4 * r, from->code[r] + 4 * step, 4);
    if (dtype == CLF_T1)
        pack_words(codes, 3, 5, words);
    else
        pack_words(codes, 4, 4, words);
}

static void write_tq1_0(const byte *code, uint16_t scale, byte *to) {
    for (int j = 0; j < 52; j++) { /* the bytes ⌈digits · 256 / 243⌉; four digits are the first four of five */
        const int n = j < 32 ? 32 : j < 48 ? 16 : 4, digits = j < 48 ? 5 : 4;
        const byte *first = code + (j < 32 ? j : j < 48 ? 160 + j - 32 : 240 + j - 48);
        int number = 0;
        for (int t = 0; t < 5; t++) number = 3 * number + (t < digits ? first[t * n] : 0);
        to[j] = (byte)((number * 256 + 242) / 243);
    }
    memcpy(to + 52, &scale, 2);
}

static void write_tq2_0(const byte *code, uint16_t scale, byte *to) {
    for (int j = 0; j < 64; j++) {
        const byte *first = code + j / 32 * 128 + j % 32;
        to[j] = (byte)(first[0] | first[32] << 2 | first[64] << 4 | first[96] << 6);
    }
    memcpy(to + 64, &scale, 2);
}

static void write_q2_0(const byte *code, uint16_t scale, byte *to) {
    for (int s = 0; s < 4; s++, to += 18, code += 64) {
        memcpy(to, &scale, 2);
        for (int j = 0; j < 16; j++)
            to[2 + j] = (byte)(code[4 * j] | code[4 * j + 1] << 2 | code[4 * j + 2] << 4 | code[4 * j + 3] << 6);
    }
}

static void write_floats(const byte *code, uint16_t scale, clf_dtype dtype, byte *to) {
    const float d = clf_f16_to_f32(scale);
    float value[T_BLOCK];
    for (int i = 0; i < T_BLOCK; i++) value[i] = d * (float)(code[i] - 1);
    for (int i = 0; i < T_BLOCK; i += VL) v_store_as(to + (size_t)i * cpu_bytes(dtype), v_load(value + i), dtype);
}

static bool has_three(const block_rows *from) {
    byte three = 0;
    for (int r = 0; r < T_ROWS; r++)
        for (int i = 0; i < T_BLOCK; i++) three |= from->code[r][i] & from->code[r][i] >> 1;
    return three;
}

/* False if out's dtype can't hold the codes. */
static bool write_block(const block_rows *from, const clf_tensor *out, int64_t row, int64_t block) {
    if ((out->dtype == CLF_T1 || out->dtype == CLF_TQ1_0) && has_three(from)) return false;
    if (clf_dtype_is_interleaved(out->dtype)) {
        byte *panel = panel_of(out, row);
        memcpy(panel + block * T_ROWS * 2, from->scale, sizeof from->scale);
        write_interleaved(from, out->dtype,
                          panel + (ternary_words(out->dtype, panel, out->shape[1], block) - (const byte *)panel));
        return true;
    }
    for (int r = 0; r < T_ROWS; r++) {
        byte *to = (byte *)clf_row(out, row + r) + clf_dtype_bytes(out->dtype, block * T_BLOCK);
        if (out->dtype == CLF_TQ1_0)
            write_tq1_0(from->code[r], from->scale[r], to);
        else if (out->dtype == CLF_TQ2_0)
            write_tq2_0(from->code[r], from->scale[r], to);
        else if (out->dtype == CLF_Q2_0)
            write_q2_0(from->code[r], from->scale[r], to);
        else
            write_floats(from->code[r], from->scale[r], out->dtype, to);
    }
    return true;
}

clf_status cpu_convert_ternary(clf_context *ctx, const clf_tensor *x, const clf_tensor *out) {
    const int64_t panels = x->shape[0] / T_ROWS, blocks = x->shape[1] / T_BLOCK;
    const int threads = cpu_threads(ctx, panels, 2 * (int64_t)clf_dtype_bytes(x->dtype, clf_elements(x)));
    int64_t bad = panels; /* the first panel that couldn't be */
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(min : bad)
    {
        int64_t begin, end;
        block_rows rows;
        cpu_share(panels, omp_get_thread_num(), omp_get_num_threads(), &begin, &end);
        for (int64_t i = begin; i < end && bad >= panels; i++)
            for (int64_t b = 0; b < blocks; b++)
                if (!read_block(x, i * T_ROWS, b, &rows) || !write_block(&rows, out, i * T_ROWS, b)) bad = i;
    }
    CLF_CHECK(&ctx->error, bad == panels, CLF_INVALID_ARGUMENT,
              "convert: x: rows %lld to %lld: %s can't hold the value 2, or several scales for 256 values",
              (long long)bad * T_ROWS, (long long)bad * T_ROWS + T_ROWS - 1, clf_dtype_name(out->dtype));
    return CLF_OK;
}
