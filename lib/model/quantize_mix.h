/* quantize_mix.h: what clf_quantize()'s `type` stands for: a dtype for most matrices, and the ones that get another. */
#ifndef CLF_MODEL_QUANTIZE_MIX_H
#define CLF_MODEL_QUANTIZE_MIX_H

#include "../core/dtype.h"
#include "architecture.h"

typedef struct clf_quantize_type {
    const char *name;   /* "q4_k_m" */
    clf_dtype dtype;    /* of most matrices */
    uint32_t file_type; /* general.file_type, as llama.cpp numbers it */
} clf_quantize_type;

/* A type by its name, any case; CLF_INVALID_ARGUMENT, with the known ones in the message, for others. */
clf_status clf_quantize_type_named(const clf_quantize_type **out, const char *name, clf_error *err);

/* A matrix that looks for its dtype. */
typedef struct clf_quantize_place {
    const char *stem; /* "attn_v" of "blk.3.attn_v.weight" */
    int layer;        /* -1: the model's */
    bool importance;  /* there is an importance matrix */
} clf_quantize_place;

/* The dtype that the mix gives a matrix. It may not suit its rows. */
clf_dtype clf_quantize_mixed(const clf_quantize_type *type, const clf_config *config, clf_quantize_place place);
/* Those that only hold what is ternary already. */
static inline bool clf_dtype_is_ternary(clf_dtype dtype) {
    return dtype == CLF_TQ1_0 || dtype == CLF_TQ2_0 || dtype == CLF_Q2_0 || clf_dtype_is_interleaved(dtype);
}

#endif
