/* attention_forward.h: what the forms of attention forward share: units of work and their unfinished results. Rows are
 * as in lib/ops/attention.h: row r of a sequence's group is query r / group of head r % group. */
#ifndef CLF_CPU_ATTENTION_FORWARD_H
#define CLF_CPU_ATTENTION_FORWARD_H

#include "attention.h"

/* Rows [row, row + rows) of a sequence's group, all in one row block of the layout, and the keys [begin, end) that this
 * unit of work looks at. */
typedef struct attention_unit {
    attention_sequence s;
    int64_t kv_head, row, begin, end;
    int rows;
} attention_unit;

/* An unfinished result: out · sum, not divided yet, relative to the maximum. Rows are padded to CLF_ATTENTION_LANES. */
typedef struct attention_partial {
    float *out; /* [rows][v_pitch] */
    float *max; /* [rows], −inf: no key seen yet */
    float *sum; /* [rows] */
} attention_partial;

/* Each form adds the unit's keys to an empty partial result; `work` is a thread's own, as the plan says. attention_few
 * takes sequences of up to CLF_ATTENTION_FEW rows. */
#define attention_few    CPU_FN(attention_few)
#define attention_panels CPU_FN(attention_panels)
void attention_few(const attention *a, const attention_unit *u, const attention_partial *out, float *work);
void attention_panels(const attention *a, const attention_unit *u, const attention_unit *after,
                      const attention_partial *out, float *work);

static inline int64_t attention_query(const attention *a, int64_t row) {
    return row / a->group;
}
static inline int64_t attention_head(const attention *a, const attention_unit *u, int64_t row) {
    return u->kv_head * a->group + row % a->group;
}
/* One row of a unit, and then the next, without a division. */
typedef struct attention_row {
    int64_t query, head, first, last; /* of the group's heads */
} attention_row;

static inline attention_row attention_row_of(const attention *a, const attention_unit *u, int64_t row) {
    const int64_t first = u->kv_head * a->group;
    return (attention_row){row / a->group, first + row % a->group, first, first + a->group - 1};
}
static inline void attention_row_next(attention_row *r) {
    r->query += r->head == r->last;
    r->head = r->head == r->last ? r->first : r->head + 1;
}
/* Address of a row's element of a tensor shaped as the query. */
static inline char *attention_row_at(const attention_unit *u, const clf_tensor *t, const attention_row *r) {
    return attention_at(t, u->s.batch, r->head, u->s.query + r->query);
}

/* The keys of the unit's range that its rows may see, in order. */
static inline attention_walk attention_unit_keys(const attention *a, const attention_unit *u) {
    return attention_walk_of(a, attention_query(a, u->row), u->begin, u->end);
}

#endif
