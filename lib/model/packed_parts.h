/* packed_parts.h: what packed.c, which finds packed matrices, and the two families of formats, packed_groups.c and
 * packed_nf4.c, have between them: the parts of a matrix, and their elements. */
#ifndef CLF_MODEL_PACKED_PARTS_H
#define CLF_MODEL_PACKED_PARTS_H

#include <string.h>

#include "packed.h"

/* The part of a matrix that is called as the first `length` bytes of `stem` and `suffix`; NULL: there is none. */
const clf_file_tensor *clf_packed_part(const clf_safetensors *s, const char *stem, size_t length, const char *suffix);
/* The same; CLF_BAD_FILE where there is none. */
clf_status clf_packed_need(const clf_file_tensor **out, const clf_safetensors *s, const char *stem, size_t length,
                           const char *suffix, clf_error *err);
/* A part has this dtype and shape, [rows] or [rows, columns]. */
clf_status clf_packed_check(const clf_file_tensor *part, clf_dtype dtype, int ndim, int64_t rows, int64_t columns,
                            clf_error *err);
/* Fails: element [row, column] of `t` isn't finite as its dtype. */
clf_status clf_packed_not_finite(const clf_file_tensor *t, int64_t row, int64_t column, clf_error *err);

/* Element i of a part, at any alignment. */
static inline uint32_t clf_packed_word(const clf_file_tensor *t, int64_t i) {
    uint32_t v;
    memcpy(&v, (const char *)t->data + (size_t)i * sizeof v, sizeof v);
    return v;
}
static inline float clf_packed_real(const clf_file_tensor *t, int64_t i) {
    const uint32_t u = clf_packed_word(t, i);
    float v;
    memcpy(&v, &u, sizeof v);
    return v;
}
static inline uint16_t clf_packed_half(const clf_file_tensor *t, int64_t i) {
    uint16_t v;
    memcpy(&v, (const char *)t->data + (size_t)i * sizeof v, sizeof v);
    return v;
}

/* Fill `packed`, and the dtype of `t`, from the parts beside `codes`. */
clf_status clf_packed_take_groups(clf_file_tensor *t, clf_packed *packed, const clf_safetensors *s,
                                  const clf_packing_config *config, const clf_file_tensor *codes, clf_error *err);
clf_status clf_packed_take_nf4(clf_file_tensor *t, clf_packed *packed, const clf_safetensors *s,
                               const clf_file_tensor *codes, const clf_file_tensor *state, clf_error *err);
/* Rows [first, first + n) of the whole matrix. */
clf_status clf_packed_group_rows(char *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err);
clf_status clf_packed_nf4_rows(uint8_t *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err);

#endif
