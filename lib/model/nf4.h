/* nf4.h: 4-bit NormalFloat with double quantisation (QLoRA, arXiv:2305.14314), as bitsandbytes computes it: of each 64
 * values in a row the largest magnitude, and for each value the nearest of 16 quantiles times that. The magnitudes,
 * less their mean, are rounded to 8 bits of the signed dynamic map in blocks of 256; what they have become is what our
 * blocks hold. */
#ifndef CLF_MODEL_NF4_H
#define CLF_MODEL_NF4_H

#include "../core/status.h"

enum { CLF_NF4_VALUES = 64, CLF_NF4_BYTES = 36, CLF_NF4_NESTED = 256, CLF_NF4_MAP = 256 };

/* n finite values, whole blocks, into blocks of CLF_NF4; `out` may be x, which is lost then. CLF_OUT_OF_MEMORY,
 * CLF_NOT_FINITE naming the first that isn't.
 */
clf_status clf_nf4_quantize(void *out, const float *x, int64_t n, clf_error *err);

/* As bitsandbytes stores them: n finite values, whole blocks, as codes [n / 2], the first of two in the high bits, and
 * magnitudes [n / 64]; and n magnitudes as codes [n] of `map`, relative to nested [n / 256, rounded up], less offset.
 */
void clf_nf4_codes(uint8_t *codes, float *magnitude, const float *x, int64_t n);
void clf_nf4_nest(uint8_t *code, float *nested, float *offset, float map[CLF_NF4_MAP], const float *magnitude,
                  int64_t n);

#endif
