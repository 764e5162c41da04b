/* saved.h: what the forward pass of a block keeps for its backward pass, as data, so that the memory plan and the
 * allocation are one computation. T tokens lie one sequence after another, without padding:
 *
 *     x                                    the block's input
 *     q, k, v = h·W + b, h = norm(x)       after norm and rotation; before them too where there is a norm per head
 *     o = attention(q, k, v), lse
 *     y = x + o·Wo                         the residual stream between the halves
 *     g, u = h·Wg, h·Wu, h = norm(y)
 *
 * and a root mean square per norm and row. h, act(g)·u and the output are made again: they cost an element-wise pass.
 */
#ifndef CLF_TRAIN_SAVED_H
#define CLF_TRAIN_SAVED_H

#include "../model/model.h"

/* [T, width] in the compute dtype. */
typedef enum clf_saved {
    CLF_SAVED_INPUT,            /* x */
    CLF_SAVED_QUERY,            /* q */
    CLF_SAVED_KEY,              /* k */
    CLF_SAVED_VALUE,            /* v */
    CLF_SAVED_ATTENDED,         /* o */
    CLF_SAVED_MIDDLE,           /* y */
    CLF_SAVED_GATE,             /* g */
    CLF_SAVED_UP,               /* u */
    CLF_SAVED_RAW_QUERY,        /* q before its norm; no width without norms per head */
    CLF_SAVED_RAW_KEY,          /* k likewise */
    CLF_SAVED_ATTENTION_BRANCH, /* o·Wo before its post norm; no width without post norms */
    CLF_SAVED_FFN_BRANCH,       /* (act(g)·u)·Wd likewise */
    CLF_SAVED_COUNT
} clf_saved;

/* F32 [T, width]: 1/√(mean + eps) of each norm; lse is [heads, T]. */
typedef enum clf_saved_stat {
    CLF_STAT_LSE,
    CLF_STAT_ATTENTION_NORM,
    CLF_STAT_FFN_NORM,
    CLF_STAT_QUERY_NORM,
    CLF_STAT_KEY_NORM,
    CLF_STAT_POST_ATTENTION_NORM,
    CLF_STAT_POST_FFN_NORM,
    CLF_STAT_COUNT
} clf_saved_stat;

typedef struct clf_saved_set {
    clf_tensor act[CLF_SAVED_COUNT];
    clf_tensor stat[CLF_STAT_COUNT];
} clf_saved_set;

/* Widths; 0: not needed. */
void clf_saved_widths(int64_t width[CLF_SAVED_COUNT], int64_t stat[CLF_STAT_COUNT], const clf_config *config);
/* Bytes of one set, the input apart. */
uint64_t clf_saved_bytes(const clf_config *config, int64_t tokens, clf_dtype dtype);
/* Allocates all but the input. On failure what was made is the caller's to release. */
clf_status clf_saved_init(clf_saved_set *set, clf_context *ctx, const clf_config *config, int64_t tokens,
                          clf_dtype dtype);
void clf_saved_release(clf_saved_set *set);
/* The first n rows of [rows] or [rows, width], borrowed; nothing of nothing. */
clf_tensor clf_first_rows(const clf_tensor *t, int64_t n);
/* The set's first `tokens` rows, borrowed. */
clf_saved_set clf_saved_rows(const clf_saved_set *set, int64_t tokens);

#endif
