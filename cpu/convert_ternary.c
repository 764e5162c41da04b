/* convert_ternary.c: between rows of TQ1_0, TQ2_0 and Q2_0 and panels of T2 and T1, without loss, and from panels to
 * floats. A block of 16 rows is taken apart into codes, value + 1, and put together again.
 *
 * In between are steps (ternary.h): four values of each of 16 rows, 64 bytes side by side, which all arithmetic is done
 * on at once. TQ2_0 and TQ1_0 too have four neighbouring values in four neighbouring bytes, at the same bits of each:
 * what makes steps of their rows is a transposition of words of 32 bits.
 *
 * What doesn't fit is refused: the value 2 (code 3, of TQ2_0, Q2_0 and T2) in base-3 bytes, and Q2_0 whose 256 values
 * have more than one scale. */
#include "convert_ternary.h"

#include "ternary.h"

typedef uint8_t byte;

/* A block of 16 rows. */
typedef struct block_rows {
    ternary_codes code;
    uint16_t scale[T_ROWS];
} block_rows;

enum { COLUMNS = 16 }; /* words of a block's codes in a row, at most */
typedef uint32_t column[T_ROWS];

static const byte *row_block(const clf_tensor *t, int64_t row, int64_t block) {
    return (const byte *)clf_row(t, row) + clf_dtype_bytes(t->dtype, block * T_BLOCK);
}
/* The panel that begins with `row`. */
static byte *panel_of(const clf_tensor *t, int64_t row) {
    return (byte *)clf_data(t) + clf_dtype_bytes(t->dtype, row * t->shape[1]);
}

/* The bits of 16 rows of 16 words as 16 columns, or back. */
INLINE void transpose(uint32_t (*from)[16], uint32_t (*to)[16]) {
    float in[16][16], out[16][16];
    memcpy(in, from, sizeof in);
    for (int i = 0; i < 16; i += VL)
        for (int j = 0; j < 16; j += VL) {
            vf a[VL];
            UNROLL
            for (int r = 0; r < VL; r++) a[r] = v_load(in[i + r] + j);
            v_transpose(a);
            UNROLL
            for (int r = 0; r < VL; r++) v_store(out[j + r] + i, a[r]);
        }
    memcpy(to, out, sizeof out);
}

/* The first `bytes` of 16 rows, which lie `stride` apart, as columns, and the halves behind them; the next 16 rows are
 * fetched meanwhile. */
INLINE void read_columns(const byte *row, size_t stride, size_t bytes, column *to, uint16_t *scale) {
    uint32_t rows[T_ROWS][COLUMNS];
    for (int r = 0; r < T_ROWS; r++, row += stride) {
        __builtin_prefetch(row + T_ROWS * stride);
        memcpy(rows[r], row, bytes);
        memset((byte *)rows[r] + bytes, 0, sizeof rows[r] - bytes);
        memcpy(scale + r, row + bytes, sizeof *scale);
    }
    transpose(rows, to);
}
INLINE void write_columns(column *from, const uint16_t *scale, size_t bytes, byte *row, size_t stride) {
    uint32_t rows[T_ROWS][COLUMNS];
    transpose(from, rows);
    for (int r = 0; r < T_ROWS; r++, row += stride) {
        memcpy(row, rows[r], bytes);
        memcpy(row + bytes, scale + r, sizeof *scale);
    }
}

/* Step of plane `p` of column c, of TQ2_0: of each half of a block's bytes, planes of 32 values. */
INLINE int tq2_0_step(int c, int p) {
    return c / 8 * 32 + 8 * p + c % 8;
}

static void read_tq2_0(const byte *row, size_t stride, block_rows *to) {
    column columns[COLUMNS];
    read_columns(row, stride, 64, columns, to->scale);
    for (int c = 0; c < 16; c++)
        for (int p = 0; p < 4; p++) {
            column step;
            for (int r = 0; r < T_ROWS; r++) step[r] = columns[c][r] >> 2 * p & 0x03030303;
            memcpy(to->code[tq2_0_step(c, p)], step, sizeof step);
        }
}

static void write_tq2_0(const block_rows *from, byte *row, size_t stride) {
    column columns[COLUMNS] = {{0}}, step;
    for (int c = 0; c < 16; c++)
        for (int p = 0; p < 4; p++) {
            memcpy(step, from->code[tq2_0_step(c, p)], sizeof step);
            for (int r = 0; r < T_ROWS; r++) columns[c][r] |= step[r] << 2 * p;
        }
    write_columns(columns, from->scale, 64, row, stride);
}

/* Of TQ1_0: a block's bytes are 8 columns, then 4, of five digits each, then one of four; digits are planes of those.
 */
typedef struct digit_columns {
    int first, count, digits, step; /* first column, first step */
} digit_columns;
static const digit_columns tq1_0_parts[] = {{0, 8, 5, 0}, {8, 4, 5, 40}, {12, 1, 4, 60}};

/* The digits of base-3 fractions of 256: tripling brings up the next. */
static void read_tq1_0(const byte *row, size_t stride, block_rows *to) {
    column columns[COLUMNS];
    read_columns(row, stride, 52, columns, to->scale);
    for (const digit_columns *d = tq1_0_parts; d < tq1_0_parts + 3; d++)
        for (int c = 0; c < d->count; c++) {
            byte fraction[T_WORD];
            memcpy(fraction, columns[d->first + c], sizeof fraction);
            for (int p = 0; p < d->digits; p++) {
                byte *code = to->code[d->step + p * d->count + c];
                for (int i = 0; i < T_WORD; i++) { /* 3 · 86 = 258, 3 · 171 = 513 */
                    code[i] = (byte)((fraction[i] >= 86) + (fraction[i] >= 171));
                    fraction[i] = (byte)(3 * fraction[i]);
                }
            }
        }
}

/* The bytes ⌈digits · 256 / 243⌉; four digits are the first four of five. */
static void write_tq1_0(const block_rows *from, byte *row, size_t stride) {
    column columns[COLUMNS] = {{0}};
    for (const digit_columns *d = tq1_0_parts; d < tq1_0_parts + 3; d++)
        for (int c = 0; c < d->count; c++) {
            byte number[T_WORD] = {0};
            for (int p = 0; p < 5; p++)
                for (int i = 0; i < T_WORD; i++)
                    number[i] = (byte)(3 * number[i] + (p < d->digits ? from->code[d->step + p * d->count + c][i] : 0));
            for (int i = 0; i < T_WORD; i++) number[i] = (byte)((number[i] * 256 + 242) / 243);
            memcpy(columns[d->first + c], number, sizeof number);
        }
    write_columns(columns, from->scale, 52, row, stride);
}

/* Four blocks of 64, a byte for each step; false if their scales differ. */
static bool read_q2_0(const byte *b, int r, block_rows *to) {
    bool same = true;
    for (int s = 0; s < 4; s++, b += 18) {
        uint16_t d;
        memcpy(&d, b, 2);
        if (s == 0) to->scale[r] = d;
        same &= d == to->scale[r];
        for (int j = 0; j < 16; j++) {
            const uint32_t q = b[2 + j], four = (q | q << 6 | q << 12 | q << 18) & 0x03030303;
            memcpy(to->code[16 * s + j] + 4 * r, &four, sizeof four);
        }
    }
    return same;
}

static void write_q2_0(const block_rows *from, int r, byte *to) {
    for (int s = 0; s < 4; s++, to += 18) {
        memcpy(to, from->scale + r, 2);
        for (int j = 0; j < 16; j++) {
            const byte *code = from->code[16 * s + j] + 4 * r;
            to[2 + j] = (byte)(code[0] | code[1] << 2 | code[2] << 4 | code[3] << 6);
        }
    }
}

/* Block `block` of the 16 rows from `row` on; false if that isn't possible. */
static bool read_block(const clf_tensor *x, int64_t row, int64_t block, block_rows *to) {
    if (clf_dtype_is_interleaved(x->dtype)) {
        const byte *panel = panel_of(x, row);
        ternary_expand(x->dtype, ternary_words(x->dtype, panel, x->shape[1], block), to->code);
        memcpy(to->scale, ternary_scales(panel, block), sizeof to->scale);
        return true;
    }
    const byte *from = row_block(x, row, block);
    const size_t stride = clf_dtype_bytes(x->dtype, x->stride[0]);
    bool same = true;
    if (x->dtype == CLF_TQ1_0)
        read_tq1_0(from, stride, to);
    else if (x->dtype == CLF_TQ2_0)
        read_tq2_0(from, stride, to);
    else
        for (int r = 0; r < T_ROWS; r++) same &= read_q2_0(from + (size_t)r * stride, r, to);
    return same;
}

/* Words of `digits` codes a byte; bytes of 16 rows lie side by side and no number exceeds 255: nothing is carried. */
INLINE void pack_words(const byte (*codes)[T_WORD], uint32_t base, int digits, byte *words) {
    for (int step = 0; step < T_STEPS; step += digits, words += T_WORD) {
        column word = {0}, fours;
        for (int p = digits - 1; p >= 0; p--) {
            if (step + p >= T_STEPS) continue;
            memcpy(fours, codes[step + p], sizeof fours);
            for (int r = 0; r < T_ROWS; r++) word[r] = base * word[r] + fours[r];
        }
        memcpy(words, word, sizeof word);
    }
}

static void write_floats(const block_rows *from, int r, clf_dtype dtype, byte *to) {
    const float d = clf_f16_to_f32(from->scale[r]);
    float value[T_BLOCK];
    for (int i = 0; i < T_BLOCK; i++) value[i] = d * (float)(from->code[i / 4][4 * r + i % 4] - 1);
    for (int i = 0; i < T_BLOCK; i += VL) v_store_as(to + (size_t)i * cpu_bytes(dtype), v_load(value + i), dtype);
}

static bool has_three(const block_rows *from) {
    const byte *code = from->code[0];
    byte three = 0;
    for (int i = 0; i < T_BLOCK * T_ROWS; i++) three |= code[i] & code[i] >> 1;
    return three;
}

/* False if out's dtype can't hold the codes. */
static bool write_block(const block_rows *from, const clf_tensor *out, int64_t row, int64_t block) {
    if ((out->dtype == CLF_T1 || out->dtype == CLF_TQ1_0) && has_three(from)) return false;
    if (clf_dtype_is_interleaved(out->dtype)) {
        byte *panel = panel_of(out, row);
        byte *words = panel + (ternary_words(out->dtype, panel, out->shape[1], block) - (const byte *)panel);
        memcpy(panel + block * T_ROWS * 2, from->scale, sizeof from->scale);
        if (out->dtype == CLF_T1)
            pack_words(from->code, 3, 5, words);
        else
            pack_words(from->code, 4, 4, words);
        return true;
    }
    byte *to = (byte *)clf_row(out, row) + clf_dtype_bytes(out->dtype, block * T_BLOCK);
    const size_t stride = clf_dtype_bytes(out->dtype, out->stride[0]);
    if (out->dtype == CLF_TQ1_0)
        write_tq1_0(from, to, stride);
    else if (out->dtype == CLF_TQ2_0)
        write_tq2_0(from, to, stride);
    else
        for (int r = 0; r < T_ROWS; r++, to += stride) {
            if (out->dtype == CLF_Q2_0)
                write_q2_0(from, r, to);
            else
                write_floats(from, r, out->dtype, to);
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
