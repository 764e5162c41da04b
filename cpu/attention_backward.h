/* attention_backward.h: what the parts of attention's backward pass share. Its units of work are a batch entry and a
 * key/value head: all blocks of queries that look at these keys add to the same d_key and d_value. */
#ifndef CLF_CPU_ATTENTION_BACKWARD_H
#define CLF_CPU_ATTENTION_BACKWARD_H

#include "attention.h"

enum { ATTENTION_STEP = CLF_ATTENTION_KEYS, ATTENTION_BLOCK = CLF_ATTENTION_BACKWARD_ROWS };

typedef struct attention_backward {
    attention a;
    const clf_attention_backward_args *args;
    bool scores;    /* anything but d_value is wanted, so dS is */
    bool mask_sums; /* d_mask is summed over the queries, in mask_sums below */
} attention_backward;

/* Queries [query, query + rows) of one head and sequence; a layout shows all of them the same keys. */
typedef struct attention_block {
    attention_sequence s;
    int64_t head, query;
    int rows;
} attention_block;

/* A thread's own memory. P, dS and what changes them: [STEP keys][BLOCK queries]. */
typedef struct attention_scratch {
    float *d_key, *d_value;                             /* [keys of the entry][pitch or v_pitch]: sums of one unit */
    float *mask_sums;                                   /* [group][keys] likewise */
    double *sinks, *slopes;                             /* [batch · heads]: sums of d_sinks, d_alibi_slopes */
    float *q_columns, *q_panels, *g_columns, *g_panels; /* q, and dO; panels of q scaled (attention_tile.h) */
    float *d_query;                                     /* [BLOCK][pitch] */
    float *p, *ds;
    float *bend;         /* 1 − tanh²: the soft cap's derivative */
    float *bias;         /* alibi and mask */
    float *keep;         /* dropout: 0 or 1 / (1 − dropout) */
    float *k, *v;        /* [STEP][pitch or v_pitch], converted */
    float *base, *delta; /* [BLOCK] */
} attention_scratch;

/* Adds the block's share to the sums in scratch; writes its rows of d_query; adds to d_mask where it has a row for each
 * query. */
#define attention_backward_block CPU_FN(attention_backward_block)
void attention_backward_block(const attention_backward *b, const attention_block *q, const attention_scratch *t);

#endif
