/* packed_nf4.c: bitsandbytes' NF4: w = map[code] · the magnitude of a block, which may be a code itself. */
#include "packed_parts.h"

#include <inttypes.h>
#include <math.h>

#include "../core/checked.h"
#include "../core/tensor.h"
#include "json.h"

enum { MAX_STATE = 1 << 16 };

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
        CLF_CHECK(err, clf_packed_real(map, i) == clf_nf4_values[i], CLF_UNSUPPORTED,
                  "tensor %s: [%d]: expected NF4's %.9g, got %.9g", map->name, i, (double)clf_nf4_values[i],
                  (double)clf_packed_real(map, i));
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
    CLF_TRY(clf_packed_check(p->scales, p->nested ? CLF_U8 : CLF_F32, 1, blocks, 0, err));
    if (!p->nested) return CLF_OK;
    nested = blocks / p->nested_group + (blocks % p->nested_group != 0);
    return clf_packed_check(p->nested, CLF_F32, 1, nested, 0, err);
}

clf_status clf_packed_take_nf4(clf_file_tensor *t, clf_packed *p, const clf_safetensors *s,
                               const clf_file_tensor *codes, const clf_file_tensor *state, clf_error *err) {
    const size_t stem = strlen(codes->name);
    const clf_file_tensor *map;
    *p = (clf_packed){.method = CLF_PACKING_NF4, .codes = codes};
    CLF_CHECK(err, codes->dtype == CLF_U8, CLF_UNSUPPORTED, "tensor %s: dtype: expected u8, got %s", codes->name,
              clf_dtype_name(codes->dtype));
    CLF_TRY(clf_packed_need(&p->scales, s, codes->name, stem, ".absmax", err));
    CLF_TRY(clf_packed_need(&map, s, codes->name, stem, ".quant_map", err));
    CLF_TRY(clf_packed_check(map, CLF_F32, 1, 16, 0, err));
    p->nested = clf_packed_part(s, codes->name, stem, ".nested_absmax");
    if (p->nested) {
        CLF_TRY(clf_packed_need(&p->nested_map, s, codes->name, stem, ".nested_quant_map", err));
        CLF_TRY(clf_packed_check(p->nested_map, CLF_F32, 1, 256, 0, err));
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
    if (!p->nested) return clf_packed_real(p->scales, b);
    const float product = clf_packed_real(p->nested_map, ((const uint8_t *)p->scales->data)[b]) *
                          clf_packed_real(p->nested, b / p->nested_group);
    return product + p->offset;
}

static int nf4_code(const clf_packed *p, int64_t i) {
    return ((const uint8_t *)p->codes->data)[i / 2] >> (i % 2 ? 0 : 4) & 15;
}

clf_status clf_packed_nf4_rows(uint8_t *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err) {
    const clf_packed *p = t->packed;
    const int64_t begin = first * p->columns, end = begin + n * p->columns;
    for (int64_t i = begin; t->dtype == CLF_NF4 && i < end; i += 64, out += 36) {
        const float scale = magnitude(p, i / p->group);
        if (!isfinite(scale)) return clf_packed_not_finite(t, i / p->columns, i % p->columns, err);
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
            return clf_packed_not_finite(t, i / p->columns, i % p->columns, err);
        memcpy(out, is_float ? (const void *)&v : &bits, is_float ? sizeof v : sizeof bits);
        out += is_float ? sizeof v : sizeof bits;
    }
    return CLF_OK;
}
