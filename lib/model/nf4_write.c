/* nf4_write.c: NF4 into safetensors: codes as they come, scales when all of a matrix is known. */
#include "nf4_write.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../core/tensor.h"
#include "nf4.h"

enum { NAME = 256, STATE = 256 /* bytes of JSON, padded with spaces: it is described before its offset is known */ };
enum { CODES, MAGNITUDES, MAP, NESTED, NESTED_MAP, STATE_TEXT };

static const char *const suffixes[CLF_NF4_PARTS] = {
    "", ".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map", ".quant_state.bitsandbytes__nf4"};

static int64_t groups_of(int64_t blocks) {
    return (blocks + CLF_NF4_NESTED - 1) / CLF_NF4_NESTED;
}

clf_status clf_nf4_describe(clf_safetensors_writer *writer, const clf_file_tensor *t, clf_error *err) {
    const int64_t n = clf_file_elements(t), blocks = n / CLF_NF4_VALUES;
    const clf_file_tensor parts[CLF_NF4_PARTS] = {
        [CODES] = {.dtype = CLF_U8, .ndim = 2, .shape = {n / 2, 1}},
        [MAGNITUDES] = {.dtype = CLF_U8, .ndim = 1, .shape = {blocks}},
        [MAP] = {.dtype = CLF_F32, .ndim = 1, .shape = {16}},
        [NESTED] = {.dtype = CLF_F32, .ndim = 1, .shape = {groups_of(blocks)}},
        [NESTED_MAP] = {.dtype = CLF_F32, .ndim = 1, .shape = {CLF_NF4_MAP}},
        [STATE_TEXT] = {.dtype = CLF_U8, .ndim = 1, .shape = {STATE}},
    };
    for (int i = 0; i < CLF_NF4_PARTS; i++) {
        char name[NAME];
        clf_file_tensor part = parts[i];
        CLF_CHECK(err, (size_t)snprintf(name, sizeof name, "%s%s", t->name, suffixes[i]) < sizeof name, CLF_UNSUPPORTED,
                  "tensor %.100s: its name is too long", t->name);
        part.name = name;
        CLF_TRY(clf_safetensors_write_tensor(writer, &part, err));
    }
    return CLF_OK;
}

clf_status clf_nf4_begin(clf_nf4_writing *w, clf_safetensors_writer *writer, const clf_file_tensor *t, int64_t index,
                         int64_t most, clf_error *err) {
    *w = (clf_nf4_writing){
        .writer = writer, .matrix = *t, .index = index, .blocks = clf_file_elements(t) / CLF_NF4_VALUES};
    w->magnitude = malloc((size_t)w->blocks * sizeof *w->magnitude);
    w->codes = malloc((size_t)most / 2);
    CLF_CHECK(err, w->magnitude && w->codes, CLF_OUT_OF_MEMORY, "tensor %s: out of host memory", t->name);
    return CLF_OK;
}

clf_status clf_nf4_write(clf_nf4_writing *w, const float *x, int64_t n, clf_error *err) {
    clf_nf4_codes(w->codes, w->magnitude + w->done, x, n);
    w->done += n / CLF_NF4_VALUES;
    return clf_safetensors_write_data(w->writer, w->index + CODES, w->codes, (uint64_t)n / 2, err);
}

static clf_status write_floats(const clf_nf4_writing *w, int part, const float *x, int64_t n, clf_error *err) {
    return clf_safetensors_write_data(w->writer, w->index + part, x, (uint64_t)n * sizeof *x, err);
}

static clf_status write_state(const clf_nf4_writing *w, float offset, clf_error *err) {
    const char *dtype = w->matrix.dtype == CLF_F16 ? "float16" : w->matrix.dtype == CLF_BF16 ? "bfloat16" : "float32";
    char text[STATE + 1];
    memset(text, ' ', sizeof text);
    const int n = snprintf(text, sizeof text,
                           "{\"quant_type\": \"nf4\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": [%lld, %lld], "
                           "\"nested_blocksize\": %d, \"nested_dtype\": \"float32\", \"nested_offset\": %.17g}",
                           CLF_NF4_VALUES, dtype, (long long)w->matrix.shape[0], (long long)w->matrix.shape[1],
                           CLF_NF4_NESTED, (double)offset);
    text[n] = ' ';
    return clf_safetensors_write_data(w->writer, w->index + STATE_TEXT, text, STATE, err);
}

clf_status clf_nf4_finish(clf_nf4_writing *w, clf_error *err) {
    float map[CLF_NF4_MAP], offset;
    const int64_t groups = groups_of(w->blocks);
    uint8_t *codes = malloc((size_t)w->blocks);
    float *nested = malloc((size_t)groups * sizeof *nested);
    clf_status st =
        codes && nested ? CLF_OK : clf_fail(err, CLF_OUT_OF_MEMORY, "tensor %s: out of host memory", w->matrix.name);
    if (st == CLF_OK) {
        clf_nf4_nest(codes, nested, &offset, map, w->magnitude, w->blocks);
        st = clf_safetensors_write_data(w->writer, w->index + MAGNITUDES, codes, (uint64_t)w->blocks, err);
    }
    if (st == CLF_OK) st = write_floats(w, MAP, clf_nf4_values, 16, err);
    if (st == CLF_OK) st = write_floats(w, NESTED, nested, groups, err);
    if (st == CLF_OK) st = write_floats(w, NESTED_MAP, map, CLF_NF4_MAP, err);
    if (st == CLF_OK) st = write_state(w, offset, err);
    free(codes);
    free(nested);
    return st;
}

void clf_nf4_end(clf_nf4_writing *w) {
    free(w->magnitude);
    free(w->codes);
    *w = (clf_nf4_writing){0};
}
