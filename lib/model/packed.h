/* packed.h: matrices [rows, columns] that other libraries quantised to four bits, each in several tensors of a folder,
 * as what clf_linear() takes. P is the matrix's name without ".weight"; codes are 0 … 15, eight in an int32, the first
 * in its low bits.
 *
 *     GPTQ   P.qweight [columns / 8, rows], P.qzeros [groups, rows / 8], P.scales [groups, rows] F16, P.g_idx [columns]
 *            w[r][c] = scale[g][r] · (code[c][r] − zero[g][r]), g = g_idx[c]; zeros are stored less 1, modulo 16
 *            (checkpoint_format "gptq_v2": as they are); without g_idx, g = c / group_size
 *     AWQ    P.qweight [columns, rows / 8], P.qzeros [groups, rows / 8], P.scales [groups, rows] F16
 *            the same; the eight rows of an int32 are 0, 2, 4, 6, 1, 3, 5, 7, zeros are as they are
 *     NF4    P.weight U8 (the first of two codes in the high bits), P.weight.absmax, .quant_map, .nested_absmax,
 *            .nested_quant_map, .quant_state.bitsandbytes__nf4 (JSON): QLoRA's, arXiv:2305.14314
 *            w = map[code] · absmax of its block; absmax is float, or nested: nested_map[code] · nested_absmax + offset
 *
 * code − zero lies within −15 … 15, so that groups of whole blocks of 32 become Q4_0 where every zero is 8, and Q5_0
 * otherwise, exactly: the scale stays the half that it is. Groups whose columns are not neighbours (act-order), or that
 * blocks don't fit, become F16, rounded once. NF4 stays NF4 (the nested scale is computed as bitsandbytes does), or
 * becomes its own F16, BF16 or F32 where rows aren't whole blocks of 64. */
#ifndef CLF_MODEL_PACKED_H
#define CLF_MODEL_PACKED_H

#include "safetensors.h"

typedef struct clf_packed {
    clf_packing method;
    int64_t rows, columns; /* of the whole matrix; NF4 without data: 0, as the caller has to say */
    int64_t group;         /* columns, NF4: consecutive elements, that share a scale */
    bool zeros_as_are;
    const clf_file_tensor *codes, *scales, *zeros, *order; /* order: g_idx, NULL: none */
    const clf_file_tensor *nested, *nested_map;            /* NULL: scales are floats */
    int64_t nested_group;
    float offset;
} clf_packed;

/* A folder's tensors with packed matrices as one each, and without their parts. */
typedef struct clf_packed_list {
    int64_t count, n_packed;
    clf_file_tensor *tensor; /* names of packed ones are owned */
    clf_packed *packed;      /* those of packed tensors; as many as there are tensors at most */
} clf_packed_list;

/* CLF_BAD_FILE for parts that are missing or don't fit together, CLF_UNSUPPORTED for what isn't read; both name the
 * tensor. Where the file's data aren't there (metadata_only) the configuration says what dtype a matrix becomes. */
clf_status clf_packed_list_make(clf_packed_list *out, const clf_safetensors *s, const clf_packing_config *config,
                                clf_error *err);
void clf_packed_list_free(clf_packed_list *list);
/* Rows [first, first + n) of a packed tensor as its dtype has them. CLF_NOT_FINITE for a scale that isn't, or a product
 * that F16 doesn't hold. */
clf_status clf_packed_rows(void *out, const clf_file_tensor *t, int64_t first, int64_t n, clf_error *err);

#endif
