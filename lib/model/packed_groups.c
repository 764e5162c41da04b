/* packed_groups.c: GPTQ and AWQ: w = scale · (code − zero), scale and zero of a group of columns. */
#include "packed_parts.h"

#include <inttypes.h>
#include <stdlib.h>

#include "../core/checked.h"
#include "../core/tensor.h"

enum { BITS = 4, EACH = 8 /* codes of an int32 */, MIDDLE = 8 };

/* Where row r of eight lies in an int32. */
static int place(const clf_packed *p, int64_t r) {
    static const int awq[EACH] = {0, 4, 1, 5, 2, 6, 3, 7};
    return BITS * (p->method == CLF_PACKING_AWQ ? awq[r % EACH] : (int)(r % EACH));
}

static int zero_of(const clf_packed *p, int64_t group, int64_t row) {
    const int stored = clf_packed_word(p->zeros, group * (p->rows / EACH) + row / EACH) >> place(p, row) & 15;
    return p->zeros_as_are ? stored : (stored + 1) & 15;
}

static int64_t group_of(const clf_packed *p, int64_t column) {
    return p->order ? (int32_t)clf_packed_word(p->order, column) : column / p->group;
}

/* Groups are within range; whether each is a run of `group` neighbours. */
static clf_status check_order(const clf_packed *p, bool *in_order, clf_error *err) {
    const int64_t groups = p->scales->shape[0];
    *in_order = true;
    for (int64_t c = 0; p->order && c < p->columns; c++) {
        const int64_t g = group_of(p, c);
        CLF_CHECK(err, g >= 0 && g < groups, CLF_BAD_FILE,
                  "tensor %s: [%" PRId64 "]: expected 0 to %" PRId64 ", got %" PRId64, p->order->name, c, groups - 1,
                  g);
        *in_order &= g == c / p->group;
    }
    return CLF_OK;
}

static bool zeros_are_in_the_middle(const clf_packed *p) {
    for (int64_t i = 0, n = p->zeros->shape[0] * p->zeros->shape[1]; i < n; i++)
        if (clf_packed_word(p->zeros, i) != (p->zeros_as_are ? 0x88888888u : 0x77777777u)) return false;
    return true;
}

clf_status clf_packed_take_groups(clf_file_tensor *t, clf_packed *p, const clf_safetensors *s,
                                  const clf_packing_config *config, const clf_file_tensor *codes, clf_error *err) {
    const bool awq = config->method == CLF_PACKING_AWQ;
    const size_t stem = strlen(codes->name) - strlen(".qweight");
    *p = (clf_packed){.method = config->method, .codes = codes, .zeros_as_are = awq || config->zeros_as_are};
    CLF_CHECK(err, codes->ndim == 2 && codes->dtype == CLF_I32, CLF_UNSUPPORTED,
              "tensor %s: expected a matrix of i32, got %d dimensions of %s", codes->name, codes->ndim,
              clf_dtype_name(codes->dtype));
    const int64_t *shape = codes->shape;
    CLF_CHECK(err,
              clf_product_i64((int64_t[]){shape[0], awq ? 1 : EACH}, 2, &p->columns) &&
                  clf_product_i64((int64_t[]){shape[1], awq ? EACH : 1}, 2, &p->rows) && p->rows > 0 &&
                  p->columns > 0 && p->rows % EACH == 0,
              CLF_BAD_FILE, "tensor %s: shape: expected rows in whole int32s of 8, got [%" PRId64 ", %" PRId64 "]",
              codes->name, shape[0], shape[1]);
    p->group = config->group_size ? config->group_size : p->columns;
    const int64_t groups = p->columns / p->group + (p->columns % p->group != 0);
    CLF_TRY(clf_packed_need(&p->scales, s, codes->name, stem, ".scales", err));
    CLF_TRY(clf_packed_need(&p->zeros, s, codes->name, stem, ".qzeros", err));
    CLF_TRY(clf_packed_check(p->scales, CLF_F16, 2, groups, p->rows, err));
    CLF_TRY(clf_packed_check(p->zeros, CLF_I32, 2, groups, p->rows / EACH, err));
    p->order = awq ? NULL : clf_packed_part(s, codes->name, stem, ".g_idx");
    if (p->order) CLF_TRY(clf_packed_check(p->order, CLF_I32, 1, p->columns, 0, err));
    bool in_order = !config->act_order, middle = config->symmetric;
    if (codes->data) {
        CLF_TRY(check_order(p, &in_order, err));
        middle = zeros_are_in_the_middle(p);
    }
    const bool fits = in_order && p->columns % 32 == 0 && p->group % 32 == 0;
    t->dtype = !fits ? CLF_F16 : middle ? CLF_Q4_0 : CLF_Q5_0;
    return CLF_OK;
}

enum { STRIP = 16 /* rows at a time: an int32's neighbours are other rows */ };

/* code − zero of n rows from `row` on, n ≤ STRIP and within an eight-aligned strip's reach, as [n][columns]. */
static void differences(const clf_packed *p, int64_t row, int64_t n, int8_t *out) {
    int zero[STRIP], shift[STRIP];
    int64_t before = -1;
    for (int64_t i = 0; i < n; i++) shift[i] = place(p, row + i);
    for (int64_t c = 0; c < p->columns; c++) {
        const int64_t g = group_of(p, c);
        for (int64_t i = 0; g != before && i < n; i++) zero[i] = zero_of(p, g, row + i);
        before = g;
        for (int64_t i = 0; i < n; i++) {
            const uint32_t v = p->method == CLF_PACKING_AWQ
                                   ? clf_packed_word(p->codes, c * (p->rows / EACH) + (row + i) / EACH) >> shift[i]
                                   : clf_packed_word(p->codes, c / EACH * p->rows + row + i) >> BITS * (c % EACH);
            out[i * p->columns + c] = (int8_t)((int)(v & 15) - zero[i]);
        }
    }
}

/* One row of blocks of 32, Q4_0's or Q5_0's: scale, and code + 8 or 16. */
static clf_status group_blocks(uint8_t *out, const clf_file_tensor *t, int64_t row, const int8_t *difference,
                               clf_error *err) {
    const clf_packed *p = t->packed;
    const bool five = t->dtype == CLF_Q5_0;
    for (int64_t c = 0; c < p->columns; c += 32, out += five ? 22 : 18) {
        const uint16_t scale = clf_packed_half(p->scales, c / p->group * p->rows + row);
        if ((scale & 0x7c00) == 0x7c00) return clf_packed_not_finite(t, row, c, err);
        uint32_t high = 0;
        uint8_t *low = out + (five ? 6 : 2);
        memcpy(out, &scale, sizeof scale);
        for (int j = 0; j < 16; j++) {
            const int a = difference[c + j] + (five ? 16 : MIDDLE), b = difference[c + j + 16] + (five ? 16 : MIDDLE);
            low[j] = (uint8_t)((a & 15) | (b & 15) << 4);
            high |= (uint32_t)(a >> 4) << j | (uint32_t)(b >> 4) << (j + 16);
        }
        if (five) memcpy(out + 2, &high, sizeof high);
    }
    return CLF_OK;
}

static clf_status group_halves(uint16_t *out, const clf_file_tensor *t, int64_t row, const int8_t *difference,
                               clf_error *err) {
    const clf_packed *p = t->packed;
    for (int64_t c = 0; c < p->columns; c++) {
        const float scale = clf_f16_to_f32(clf_packed_half(p->scales, group_of(p, c) * p->rows + row));
        out[c] = clf_f32_to_f16(scale * (float)difference[c]);
        if ((out[c] & 0x7c00) == 0x7c00) return clf_packed_not_finite(t, row, c, err);
    }
    return CLF_OK;
}

clf_status clf_packed_group_rows(char *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err) {
    const clf_packed *p = t->packed;
    const size_t row_bytes = clf_dtype_bytes(t->dtype, p->columns);
    int8_t *difference = calloc((size_t)p->columns, STRIP);
    CLF_CHECK(err, difference, CLF_OUT_OF_MEMORY, "tensor %s: out of host memory", t->name);
    clf_status st = CLF_OK;
    for (int64_t done = 0, m; done < n && st == CLF_OK; done += m) {
        m = n - done < STRIP ? n - done : STRIP;
        differences(p, first + done, m, difference);
        for (int64_t i = 0; i < m && st == CLF_OK; i++, out += row_bytes) {
            const int8_t *row = difference + i * p->columns;
            st = t->dtype == CLF_F16 ? group_halves((uint16_t *)(void *)out, t, first + done + i, row, err)
                                     : group_blocks((uint8_t *)out, t, first + done + i, row, err);
        }
    }
    free(difference);
    return st;
}
