/* packed.c: the parts of packed matrices: found, checked against each other, and put together. */
#include "packed.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/checked.h"
#include "../core/tensor.h"
#include "json.h"

enum { NAME = 256, BITS = 4, EACH = 8 /* codes of an int32 */, MIDDLE = 8, MAX_STATE = 1 << 16 };

static const char state_suffix[] = ".quant_state.bitsandbytes__nf4";

static bool ends_with(const char *name, const char *end) {
    const size_t n = strlen(name), m = strlen(end);
    return n >= m && !strcmp(name + n - m, end);
}

/* The part of a matrix: `stem`, of which `length` bytes count, and `suffix`. */
static const clf_file_tensor *part(const clf_safetensors *s, const char *stem, size_t length, const char *suffix) {
    char name[NAME];
    if (length + strlen(suffix) >= sizeof name) return NULL;
    memcpy(name, stem, length);
    strcpy(name + length, suffix);
    return clf_safetensors_find(s, name);
}

static clf_status need(const clf_file_tensor **out, const clf_safetensors *s, const char *stem, size_t length,
                       const char *suffix, clf_error *err) {
    *out = part(s, stem, length, suffix);
    CLF_CHECK(err, *out, CLF_BAD_FILE, "tensor %.*s%s: missing", (int)length, stem, suffix);
    return CLF_OK;
}

static clf_status check_part(const clf_file_tensor *t, clf_dtype dtype, int ndim, int64_t rows, int64_t columns,
                             clf_error *err) {
    CLF_CHECK(err, t->dtype == dtype, CLF_UNSUPPORTED, "tensor %s: dtype: expected %s, got %s", t->name,
              clf_dtype_name(dtype), clf_dtype_name(t->dtype));
    const bool fits = t->ndim == ndim && t->shape[0] == rows && (ndim < 2 || t->shape[1] == columns);
    if (ndim < 2)
        CLF_CHECK(err, fits, CLF_BAD_FILE,
                  "tensor %s: shape: expected [%" PRId64 "], got %" PRIu64 " bytes in %d dimensions", t->name, rows,
                  t->nbytes, t->ndim);
    CLF_CHECK(err, fits, CLF_BAD_FILE,
              "tensor %s: shape: expected [%" PRId64 ", %" PRId64 "], got %" PRIu64 " bytes in %d dimensions", t->name,
              rows, columns, t->nbytes, t->ndim);
    return CLF_OK;
}

/* Element i of a part, at any alignment. */
static uint32_t word(const clf_file_tensor *t, int64_t i) {
    uint32_t v;
    memcpy(&v, (const char *)t->data + (size_t)i * sizeof v, sizeof v);
    return v;
}
static float real(const clf_file_tensor *t, int64_t i) {
    const uint32_t u = word(t, i);
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}
static uint16_t half(const clf_file_tensor *t, int64_t i) {
    uint16_t v;
    memcpy(&v, (const char *)t->data + (size_t)i * sizeof v, sizeof v);
    return v;
}

/* ---- GPTQ and AWQ ---- */

/* Where row r of eight lies in an int32. */
static int place(const clf_packed *p, int64_t r) {
    static const int awq[EACH] = {0, 4, 1, 5, 2, 6, 3, 7};
    return BITS * (p->method == CLF_PACKING_AWQ ? awq[r % EACH] : (int)(r % EACH));
}

static int zero_of(const clf_packed *p, int64_t group, int64_t row) {
    const int stored = word(p->zeros, group * (p->rows / EACH) + row / EACH) >> place(p, row) & 15;
    return p->zeros_as_are ? stored : (stored + 1) & 15;
}

static int64_t group_of(const clf_packed *p, int64_t column) {
    return p->order ? (int32_t)word(p->order, column) : column / p->group;
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
        if (word(p->zeros, i) != (p->zeros_as_are ? 0x88888888u : 0x77777777u)) return false;
    return true;
}

static clf_status take_groups(clf_file_tensor *t, clf_packed *p, const clf_safetensors *s,
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
    CLF_TRY(need(&p->scales, s, codes->name, stem, ".scales", err));
    CLF_TRY(need(&p->zeros, s, codes->name, stem, ".qzeros", err));
    CLF_TRY(check_part(p->scales, CLF_F16, 2, groups, p->rows, err));
    CLF_TRY(check_part(p->zeros, CLF_I32, 2, groups, p->rows / EACH, err));
    p->order = awq ? NULL : part(s, codes->name, stem, ".g_idx");
    if (p->order) CLF_TRY(check_part(p->order, CLF_I32, 1, p->columns, 0, err));
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
                                   ? word(p->codes, c * (p->rows / EACH) + (row + i) / EACH) >> shift[i]
                                   : word(p->codes, c / EACH * p->rows + row + i) >> BITS * (c % EACH);
            out[i * p->columns + c] = (int8_t)((int)(v & 15) - zero[i]);
        }
    }
}

static clf_status not_finite(const clf_file_tensor *t, int64_t row, int64_t column, clf_error *err) {
    return clf_fail(err, CLF_NOT_FINITE, "tensor %s: [%" PRId64 ", %" PRId64 "]: expected a finite number as %s",
                    t->name, row, column, clf_dtype_name(t->dtype));
}

/* One row of blocks of 32, Q4_0's or Q5_0's: scale, and code + 8 or 16. */
static clf_status group_blocks(uint8_t *out, const clf_file_tensor *t, int64_t row, const int8_t *difference,
                               clf_error *err) {
    const clf_packed *p = t->packed;
    const bool five = t->dtype == CLF_Q5_0;
    for (int64_t c = 0; c < p->columns; c += 32, out += five ? 22 : 18) {
        const uint16_t scale = half(p->scales, c / p->group * p->rows + row);
        if ((scale & 0x7c00) == 0x7c00) return not_finite(t, row, c, err);
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
        const float scale = clf_f16_to_f32(half(p->scales, group_of(p, c) * p->rows + row));
        out[c] = clf_f32_to_f16(scale * (float)difference[c]);
        if ((out[c] & 0x7c00) == 0x7c00) return not_finite(t, row, c, err);
    }
    return CLF_OK;
}

static clf_status group_rows(char *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err) {
    const clf_packed *p = t->packed;
    const size_t row_bytes = clf_dtype_bytes(t->dtype, p->columns);
    int8_t *difference = malloc((size_t)p->columns * STRIP);
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

/* ---- NF4 ---- */

static clf_status state_int(const json_t *root, const char *key, int64_t *out, clf_error *err) {
    const json_t *v = json_object_get(root, key);
    CLF_CHECK(err, json_is_integer(v) && json_integer_value(v) > 0, CLF_BAD_FILE, "%s: expected a positive integer",
              key);
    *out = (int64_t)json_integer_value(v);
    return CLF_OK;
}

static clf_status read_state(clf_packed *p, clf_dtype *dtype, const json_t *root, clf_error *err) {
    static const struct {
        const char *name;
        clf_dtype dtype;
    } names[] = {{"bfloat16", CLF_BF16}, {"float16", CLF_F16}, {"float32", CLF_F32}};
    const json_t *shape = json_object_get(root, "shape"), *offset = json_object_get(root, "nested_offset");
    const char *type = json_string_value(json_object_get(root, "quant_type")),
               *name = json_string_value(json_object_get(root, "dtype"));
    CLF_CHECK(err, type && !strcmp(type, "nf4"), CLF_UNSUPPORTED, "quant_type: expected nf4, got %.40s",
              type ? type : "no string");
    *dtype = CLF_DTYPE_COUNT;
    for (int i = 0; i < 3 && name; i++)
        if (!strcmp(name, names[i].name)) *dtype = names[i].dtype;
    CLF_CHECK(err, *dtype != CLF_DTYPE_COUNT, CLF_UNSUPPORTED,
              "dtype: expected bfloat16, float16 or float32, got %.40s", name ? name : "no string");
    CLF_TRY(state_int(root, "blocksize", &p->group, err));
    CLF_CHECK(err, p->group % 64 == 0, CLF_UNSUPPORTED, "blocksize: expected a multiple of 64, got %" PRId64, p->group);
    CLF_CHECK(err, json_is_array(shape) && json_array_size(shape) == 2, CLF_BAD_FILE, "shape: expected two integers");
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_array_get(shape, i);
        CLF_CHECK(err, json_is_integer(v) && json_integer_value(v) > 0, CLF_BAD_FILE, "shape: expected two integers");
        *(i ? &p->columns : &p->rows) = (int64_t)json_integer_value(v);
    }
    if (!p->nested) return CLF_OK;
    CLF_TRY(state_int(root, "nested_blocksize", &p->nested_group, err));
    CLF_CHECK(err, json_is_number(offset), CLF_BAD_FILE, "nested_offset: expected a number");
    p->offset = (float)json_number_value(offset);
    return CLF_OK;
}

static clf_status check_map(const clf_file_tensor *map, clf_error *err) {
    for (int i = 0; i < 16; i++)
        CLF_CHECK(err, real(map, i) == clf_nf4_values[i], CLF_UNSUPPORTED,
                  "tensor %s: [%d]: expected NF4's %.9g, got %.9g", map->name, i, (double)clf_nf4_values[i],
                  (double)real(map, i));
    return CLF_OK;
}

/* What the state says about the parts. */
static clf_status check_blocks(const clf_packed *p, clf_error *err) {
    int64_t n, blocks, nested;
    CLF_CHECK(err, clf_product_i64((int64_t[]){p->rows, p->columns}, 2, &n), CLF_BAD_FILE,
              "tensor %s: shape: too large", p->codes->name);
    CLF_CHECK(err, p->codes->nbytes == (uint64_t)n / 2 + (uint64_t)(n % 2), CLF_BAD_FILE,
              "tensor %s: expected %" PRId64 " bytes for [%" PRId64 ", %" PRId64 "], got %" PRIu64, p->codes->name,
              n / 2 + n % 2, p->rows, p->columns, p->codes->nbytes);
    blocks = n / p->group + (n % p->group != 0);
    CLF_TRY(check_part(p->scales, p->nested ? CLF_U8 : CLF_F32, 1, blocks, 0, err));
    if (!p->nested) return CLF_OK;
    nested = blocks / p->nested_group + (blocks % p->nested_group != 0);
    return check_part(p->nested, CLF_F32, 1, nested, 0, err);
}

static clf_status take_nf4(clf_file_tensor *t, clf_packed *p, const clf_safetensors *s, const clf_file_tensor *codes,
                           const clf_file_tensor *state, clf_error *err) {
    const size_t stem = strlen(codes->name);
    const clf_file_tensor *map;
    *p = (clf_packed){.method = CLF_PACKING_NF4, .codes = codes};
    CLF_CHECK(err, codes->dtype == CLF_U8, CLF_UNSUPPORTED, "tensor %s: dtype: expected u8, got %s", codes->name,
              clf_dtype_name(codes->dtype));
    CLF_TRY(need(&p->scales, s, codes->name, stem, ".absmax", err));
    CLF_TRY(need(&map, s, codes->name, stem, ".quant_map", err));
    CLF_TRY(check_part(map, CLF_F32, 1, 16, 0, err));
    p->nested = part(s, codes->name, stem, ".nested_absmax");
    if (p->nested) {
        CLF_TRY(need(&p->nested_map, s, codes->name, stem, ".nested_quant_map", err));
        CLF_TRY(check_part(p->nested_map, CLF_F32, 1, 256, 0, err));
    }
    CLF_CHECK(err, state->dtype == CLF_U8 && state->ndim == 1 && state->nbytes <= MAX_STATE, CLF_BAD_FILE,
              "tensor %s: expected up to %d bytes of JSON", state->name, MAX_STATE);
    t->dtype = CLF_NF4;
    if (!codes->data) return CLF_OK;
    json_t *root;
    clf_dtype computes = CLF_F32;
    CLF_TRY(clf_json_parse(&root, state->data, state->nbytes, state->name, err));
    const clf_status st = read_state(p, &computes, root, err);
    json_decref(root);
    if (st != CLF_OK) return clf_fail_in(err, "tensor %s", state->name);
    CLF_TRY(check_map(map, err));
    CLF_TRY(check_blocks(p, err));
    if (p->columns % 64) t->dtype = computes;
    return CLF_OK;
}

/* The magnitude of block b: in float32, the product rounded before the sum. */
static float magnitude(const clf_packed *p, int64_t b) {
    if (!p->nested) return real(p->scales, b);
    const float product =
        real(p->nested_map, ((const uint8_t *)p->scales->data)[b]) * real(p->nested, b / p->nested_group);
    return product + p->offset;
}

static int nf4_code(const clf_packed *p, int64_t i) {
    return ((const uint8_t *)p->codes->data)[i / 2] >> (i % 2 ? 0 : 4) & 15;
}

static clf_status nf4_rows(uint8_t *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err) {
    const clf_packed *p = t->packed;
    const int64_t begin = first * p->columns, end = begin + n * p->columns;
    for (int64_t i = begin; t->dtype == CLF_NF4 && i < end; i += 64, out += 36) {
        const float scale = magnitude(p, i / p->group);
        if (!isfinite(scale)) return not_finite(t, i / p->columns, i % p->columns, err);
        memcpy(out, &scale, sizeof scale);
        for (int j = 0; j < 32; j++) {
            const int64_t at = i + j / 16 * 32 + j % 16;
            out[4 + j] = (uint8_t)(nf4_code(p, at) | nf4_code(p, at + 16) << 4);
        }
    }
    for (int64_t i = begin; t->dtype != CLF_NF4 && i < end; i++) {
        const float v = magnitude(p, i / p->group) * clf_nf4_values[nf4_code(p, i)];
        const uint16_t bits = t->dtype == CLF_F16 ? clf_f32_to_f16(v) : clf_f32_to_bf16(v);
        const bool is_float = t->dtype == CLF_F32;
        if (!isfinite(v) || (t->dtype == CLF_F16 && (bits & 0x7c00) == 0x7c00))
            return not_finite(t, i / p->columns, i % p->columns, err);
        memcpy(out, is_float ? (const void *)&v : &bits, is_float ? sizeof v : sizeof bits);
        out += is_float ? sizeof v : sizeof bits;
    }
    return CLF_OK;
}

/* ---- the list ---- */

/* Whether a tensor is a part of a packed matrix other than its codes. */
static bool is_part(const clf_packing_config *config, const char *name) {
    static const char *const of_groups[] = {".qzeros", ".scales", ".g_idx"}, *const of_nf4[] = {
                                                                                 ".weight.absmax", ".weight.quant_map",
                                                                                 ".weight.nested_absmax",
                                                                                 ".weight.nested_quant_map"};
    for (int i = 0; config->method == CLF_PACKING_NF4 && i < 4; i++)
        if (ends_with(name, of_nf4[i])) return true;
    for (int i = 0; config->method != CLF_PACKING_NF4 && i < 3; i++)
        if (ends_with(name, of_groups[i])) return true;
    return config->method == CLF_PACKING_NF4 && strstr(name, ".weight.quant_state.");
}

/* A part without its codes would be passed over. */
static clf_status check_owner(const clf_safetensors *s, const clf_packing_config *config, const char *name,
                              clf_error *err) {
    const bool nf4 = config->method == CLF_PACKING_NF4;
    const char *end = nf4 ? strstr(name, ".weight.") + strlen(".weight") : strrchr(name, '.');
    CLF_CHECK(err, part(s, name, (size_t)(end - name), nf4 ? "" : ".qweight"), CLF_BAD_FILE,
              "tensor %.100s: %.*s%s is missing", name, (int)(end - name), name, nf4 ? "" : ".qweight");
    return CLF_OK;
}

static clf_status add(clf_packed_list *list, const clf_safetensors *s, const clf_packing_config *config,
                      const clf_file_tensor *t, clf_error *err) {
    clf_file_tensor *to = &list->tensor[list->count];
    clf_packed *p = &list->packed[list->n_packed];
    *to = *t;
    if (is_part(config, t->name)) return check_owner(s, config, t->name, err);
    const clf_file_tensor *state =
        config->method == CLF_PACKING_NF4 ? part(s, t->name, strlen(t->name), state_suffix) : NULL;
    const bool groups = config->method != CLF_PACKING_NF4 && ends_with(t->name, ".qweight");
    list->count++;
    if (!state && !groups) return CLF_OK;
    if (state)
        CLF_TRY(take_nf4(to, p, s, t, state, err));
    else
        CLF_TRY(take_groups(to, p, s, config, t, err));
    const size_t length = strlen(t->name) - (groups ? strlen(".qweight") : strlen(".weight"));
    char *name = malloc(length + sizeof ".weight");
    CLF_CHECK(err, name, CLF_OUT_OF_MEMORY, "out of memory for a tensor's name");
    snprintf(name, length + sizeof ".weight", "%.*s.weight", (int)length, t->name);
    to->name = name;
    to->packed = p;
    to->ndim = 2;
    to->shape[0] = p->rows;
    to->shape[1] = p->columns;
    list->n_packed++;
    return CLF_OK;
}

clf_status clf_packed_list_make(clf_packed_list *out, const clf_safetensors *s, const clf_packing_config *config,
                                clf_error *err) {
    const int64_t n = clf_safetensors_count(s);
    *out = (clf_packed_list){.tensor = calloc((size_t)n + 1, sizeof *out->tensor),
                             .packed = calloc((size_t)n + 1, sizeof *out->packed)};
    clf_status st = out->tensor && out->packed
                        ? CLF_OK
                        : clf_fail(err, CLF_OUT_OF_MEMORY, "out of memory for %" PRId64 " tensors", n);
    for (int64_t i = 0; i < n && st == CLF_OK; i++) {
        const clf_file_tensor *t = clf_safetensors_at(s, i);
        if (config->method == CLF_PACKING_NONE)
            out->tensor[out->count++] = *t;
        else
            st = add(out, s, config, t, err);
    }
    if (st != CLF_OK) clf_packed_list_free(out);
    return st;
}

void clf_packed_list_free(clf_packed_list *list) {
    for (int64_t i = 0; i < list->count; i++)
        if (list->tensor[i].packed) free((void *)(uintptr_t)list->tensor[i].name);
    free(list->tensor);
    free(list->packed);
    *list = (clf_packed_list){0};
}

clf_status clf_packed_rows(void *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err) {
    const int64_t row = t->first_row + first;
    return t->packed->method == CLF_PACKING_NF4 ? nf4_rows(out, t, row, n, err) : group_rows(out, t, row, n, err);
}
