/* linear_cross_entropy_full.c: the loss of z = softcap(x · Wᵀ) and its gradients by x and by the weights, each product
 * made once.
 *
 * Rows are taken in chunks. The weights are swept once for each chunk, BLOCK rows at a time, so that a block comes from
 * memory once and then serves three products (linear_cross_entropy_full.h) from L2:
 *
 *     of the chunk before, whose lse is known:  dz from z in place,  d_x += dz · w,  d_weight += dzᵀ · x
 *     of this chunk, into the same place:       z = x · wᵀ, and running maximum and sum of exp(z)
 *
 * so n chunks take n + 1 sweeps. What is kept is one chunk's z, and a d_x of it for each thread, which has the same
 * blocks in every sweep; chunks are as large as CROSS_ENTROPY_SHARE of all logits allows. Sums of threads are added in
 * their order: the same threads give the same bits. */
#include <stdlib.h>

#include "linear_cross_entropy_full.h"

enum {
    LEAST_ROWS = 8,          /* of a chunk, whatever they take */
    CACHED = 640 << 10,      /* bytes of a chunk's rows of x, the next one's and d_x: in L2 beside the blocks */
    AHEAD = 4 * TILE_V * VL, /* columns of d_weight that are asked for ahead */
    ROW = (BLOCK + 15) / 16 * 16
};

/* A row of a chunk, as one thread sees it. */
typedef struct row_sums {
    double sum, z; /* of exp(z − most), of z */
    float most;
} row_sums;

typedef struct chunk {
    int64_t first; /* in job.active */
    int rows;
    const float *x[MOST_ROWS]; /* their rows, zeros from k to pitch */
    int32_t label[MOST_ROWS];
    float label_z[MOST_ROWS];
    /* dz = scale · exp(z − lse) − spread − hit at the label */
    float lse[MOST_ROWS], scale[MOST_ROWS], spread[MOST_ROWS], hit[MOST_ROWS];
} chunk;

typedef struct job {
    const clf_linear_cross_entropy_args *args;
    int64_t k, pitch, vocab, blocks, n_active;
    int rows, threads; /* most of a chunk; those planned for */
    bool own_x, own_w; /* rows are read where they lie */
    int64_t *active;   /* the rows that have a label */
    float *z;          /* [blocks][rows][BLOCK] */
    float *d_x;        /* [threads][rows][pitch] */
    float *x;          /* [2][rows][pitch], unless own_x */
    float *w;          /* [threads][BLOCK][pitch], unless own_w */
    row_sums *sums;    /* [threads][rows] */
} job;

static size_t plan(job *j, char *base) {
    size_t used = 0;
    const size_t rows = (size_t)j->rows, threads = (size_t)j->threads, row = (size_t)j->pitch * sizeof(float);
    j->active = cpu_carve(base, &used, (size_t)j->n_active * sizeof *j->active);
    j->z = cpu_carve(base, &used, (size_t)j->blocks * rows * BLOCK * sizeof *j->z);
    if (j->args->d_x) j->d_x = cpu_carve(base, &used, threads * rows * row);
    if (!j->own_x) j->x = cpu_carve(base, &used, 2 * rows * row);
    if (!j->own_w) j->w = cpu_carve(base, &used, threads * BLOCK * row);
    j->sums = cpu_carve(base, &used, threads * rows * sizeof *j->sums);
    return used;
}

/* The most rows that keep to CROSS_ENTROPY_SHARE and CACHED, then evenly shared over the chunks; whole tiles of dots.
 */
static void choose_rows(job *j) {
    const double allowed = (double)j->args->x->shape[0] * (double)j->vocab * sizeof(float) / CROSS_ENTROPY_SHARE;
    const int64_t cached = CACHED / (3 * (j->pitch ? j->pitch : 1) * (int64_t)sizeof(float));
    const int64_t most = cached < MOST_ROWS ? cached : MOST_ROWS;
    for (j->rows = LEAST_ROWS; j->rows + DOT_M <= most && j->rows < j->n_active; j->rows += DOT_M) {
        job more = *j;
        more.rows += DOT_M;
        if ((double)plan(&more, NULL) > allowed) break;
    }
    const int64_t chunks = (j->n_active + j->rows - 1) / j->rows, even = (j->n_active + chunks - 1) / chunks;
    j->rows = (int)((even + DOT_M - 1) / DOT_M * DOT_M);
}

/* n values of a row as floats, zeros up to `pitch`. */
static void widen(clf_dtype dtype, const void *from, int64_t n, int64_t pitch, float *to) {
    cpu_decode_row(dtype, from, n, to);
    memset(to + n, 0, (size_t)(pitch - n) * sizeof *to);
}

/* ---- one block ---- */

/* The block's rows of the weights; those past the end are the last again. */
static void block_rows(const job *j, int64_t v0, int count, float *buffer, const float **w) {
    const clf_tensor *weight = j->args->weight;
    for (int i = 0; i < BLOCK; i++) {
        if (i >= count)
            w[i] = w[count - 1];
        else if (j->own_w)
            w[i] = clf_row(weight, v0 + i);
        else
            widen(weight->dtype, clf_row(weight, v0 + i), j->k, j->pitch, buffer + i * j->pitch),
                w[i] = buffer + i * j->pitch;
    }
}

/* A row's z become dz; 0 past `count`. */
static void to_gradient(const job *j, const chunk *c, int m, int64_t v0, int count, float *z) {
    const float cap = j->args->softcap;
    const vf lse = v_set1(c->lse[m]), scale = v_set1(c->scale[m]), spread = v_set1(c->spread[m]), one = v_set1(1);
    const int64_t label = c->label[m] - v0;
    float d[ROW] = {0};
    for (int v = 0; v < BLOCK; v += VL) {
        const vf at = v_load_n(z + v, BLOCK - v < VL ? BLOCK - v : VL);
        v_store(d + v, v_sub(v_mul(scale, v_exp2(v_mul(v_sub(at, lse), v_set1(1.44269504f)))), spread));
    }
    if (label >= 0 && label < count) d[label] -= c->hit[m];
    for (int v = 0; cap != 0 && v < BLOCK; v += VL) {
        const vf share = v_div(v_load_n(z + v, BLOCK - v < VL ? BLOCK - v : VL), v_set1(cap));
        v_store(d + v, v_mul(v_load(d + v), v_mul(v_sub(one, share), v_add(one, share))));
    }
    for (int v = 0; v < BLOCK; v++) z[v] = v < count ? d[v] : 0;
}

/* A row's products become z, and are summed. */
static void collect(const job *j, chunk *c, int m, int64_t v0, int count, float *z, row_sums *s) {
    const float cap = j->args->softcap;
    float own[ROW];
    vf most = v_set1(-INFINITY), sum = v_set1(0);
    for (int v = 0; v < ROW; v++) own[v] = v < count ? z[v] : -INFINITY;
    for (int v = 0; v < ROW; v += VL) {
        vf at = v_load(own + v);
        if (cap != 0) at = v_mul(v_set1(cap), v_tanh(v_div(at, v_set1(cap))));
        v_store(own + v, at);
    }
    for (int v = count; v < ROW; v++) own[v] = -INFINITY; /* the cap made numbers of them */
    for (int v = 0; v < ROW; v += VL) most = v_max(v_load(own + v), most);
    const float old = s->most, top = v_hmax(most);
    if (top > old) {
        s->most = top;
        s->sum *= exp((double)old - (double)top);
    }
    for (int v = 0; v < ROW; v += VL)
        sum = v_add(sum, v_exp2(v_mul(v_sub(v_load(own + v), v_set1(s->most)), v_set1(1.44269504f))));
    s->sum += (double)v_hsum(sum);
    if (j->args->label_smoothing != 0)
        for (int v = 0; v < count; v++) s->z += (double)own[v];
    const int64_t label = c->label[m] - v0;
    if (label >= 0 && label < count) c->label_z[m] = own[label];
    memcpy(z, own, BLOCK * sizeof *z);
}

/* d_x += dz · w; meanwhile the block `next` is asked for. */
static void add_d_x(const job *j, const chunk *c, const float *dz, int count, const float *const *w, const char *next,
                    float *d_x) {
    const int tiles = (c->rows + TILE_R - 1) / TILE_R;
    const int64_t apart = j->args->weight->stride[0] * (int64_t)sizeof(float);
    for (int64_t at = 0; at < j->pitch; at += TILE_V * VL) {
        for (int i = 0; next && i < BLOCK; i++)
            for (int line = 0; line < TILE_V * VL; line += 16)
                __builtin_prefetch(next + i * apart + (at + line) * (int64_t)sizeof(float), 0, 2);
        for (int tile = 0; tile < tiles; tile++) {
            const int m = c->rows * tile / tiles;
            outer(c->rows * (tile + 1) / tiles - m, false, dz + m * BLOCK, count, w, at, d_x + m * j->pitch + at,
                  j->pitch);
        }
    }
}

/* d_weight += dzᵀ · x */
static void add_d_weight(const job *j, const chunk *c, const float *dz, int64_t v0, int count) {
    const clf_tensor *t = j->args->d_weight;
    for (int v = 0; v < count; v += TILE_R) {
        const int rows = count - v < TILE_R ? count - v : TILE_R;
        float *to = clf_row(t, v0 + v);
        for (int64_t at = 0; at < j->k; at += TILE_V * VL) {
            if (at + TILE_V * VL <= j->k) {
                const int64_t ahead = at + AHEAD < j->k ? at + AHEAD : at + AHEAD - j->k + TILE_R * t->stride[0];
                for (int r = 0; r < rows && v0 + v + r + TILE_R < j->vocab; r++)
                    for (int line = 0; line < TILE_V * VL; line += 16)
                        __builtin_prefetch(to + r * t->stride[0] + ahead + line, 1, 2);
                outer(rows, true, dz + v, c->rows, c->x, at, to + at, t->stride[0]);
            } else {
                float part[TILE_R][TILE_V * VL] = {{0}};
                outer(rows, true, dz + v, c->rows, c->x, at, part[0], TILE_V * VL);
                for (int r = 0; r < rows; r++)
                    for (int64_t i = 0; at + i < j->k; i++) to[r * t->stride[0] + at + i] += part[r][i];
            }
        }
    }
}

/* ---- a sweep ---- */

/* Thread t's blocks: of chunk `before` the gradients, of `now` z; either may be NULL. */
static void sweep(const job *j, const chunk *before, chunk *now, int t, int threads) {
    int64_t begin, end;
    cpu_share(j->blocks, t, threads, &begin, &end);
    float *d_x = j->d_x ? j->d_x + (int64_t)t * j->rows * j->pitch : NULL;
    row_sums *sums = j->sums + (int64_t)t * j->rows;
    if (before && d_x) memset(d_x, 0, (size_t)(before->rows * j->pitch) * sizeof *d_x);
    for (int m = 0; now && m < now->rows; m++) sums[m] = (row_sums){.most = -INFINITY};
    for (int64_t b = begin; b < end; b++) {
        const int64_t v0 = b * BLOCK;
        const int count = j->vocab - v0 < BLOCK ? (int)(j->vocab - v0) : BLOCK;
        const float *w[BLOCK];
        float *z = j->z + b * j->rows * BLOCK;
        block_rows(j, v0, count, j->w ? j->w + t * BLOCK * j->pitch : NULL, w);
        if (before) {
            const bool more = j->own_w && v0 + 2 * BLOCK <= j->vocab;
            for (int m = 0; m < before->rows; m++) to_gradient(j, before, m, v0, count, z + m * BLOCK);
            if (d_x) add_d_x(j, before, z, count, w, more ? clf_row(j->args->weight, v0 + BLOCK) : NULL, d_x);
            add_d_weight(j, before, z, v0, count);
        }
        if (!now) continue;
        dot(now->x, now->rows, w, j->own_w ? j->k : j->pitch, z);
        for (int m = 0; m < now->rows; m++) collect(j, now, m, v0, count, z + m * BLOCK, sums + m);
    }
}

/* Row m of a chunk: d_x from the threads'. */
static void write_d_x(const job *j, const chunk *c, int m, int threads) {
    const clf_tensor *out = j->args->d_x;
    char *to = clf_row(out, j->active[c->first + m]);
    CPU_FOR_DTYPE(
        DTYPE, out->dtype, for (int64_t at = 0; at < j->k; at += VL) {
            vf sum = v_load(j->d_x + m * j->pitch + at);
            for (int t = 1; t < threads; t++)
                sum = v_add(sum, v_load(j->d_x + ((int64_t)t * j->rows + m) * j->pitch + at));
            v_store_as_n(to + (size_t)at * cpu_bytes(DTYPE), sum, j->k - at < VL ? (int)(j->k - at) : VL, DTYPE);
        });
}

/* Rows [first, first + rows) of those that have a label; `side` 0 or 1, in turns. */
static void begin_chunk(const job *j, chunk *c, int64_t first, int side) {
    c->first = first;
    c->rows = j->n_active - first < j->rows ? (int)(j->n_active - first) : j->rows;
    for (int m = 0; m < c->rows; m++) {
        const int64_t row = j->active[first + m];
        float *own = j->x ? j->x + ((int64_t)side * j->rows + m) * j->pitch : NULL;
        c->label[m] = ((const int32_t *)clf_data(j->args->labels))[row];
        c->x[m] = own ? own : clf_row(j->args->x, row);
        if (own) widen(j->args->x->dtype, clf_row(j->args->x, row), j->k, j->pitch, own);
    }
}

/* All z are there: losses, and what the gradients need. */
static void end_chunk(const job *j, chunk *c, int threads) {
    for (int m = 0; m < c->rows; m++) {
        double sum = 0, z = 0;
        float most = -INFINITY;
        for (int t = 0; t < threads; t++)
            if (j->sums[t * j->rows + m].most > most) most = j->sums[t * j->rows + m].most;
        for (int t = 0; t < threads; t++) {
            const row_sums *s = &j->sums[t * j->rows + m];
            sum += s->sum * exp((double)s->most - (double)most);
            z += s->z;
        }
        const double lse = (double)most + log(sum);
        const row_gradient g =
            end_row(j->args, j->active[c->first + m], lse, (double)c->label_z[m], z / (double)j->vocab);
        c->lse[m] = (float)lse;
        c->scale[m] = (float)g.scale;
        c->spread[m] = (float)g.spread;
        c->hit[m] = (float)g.hit;
    }
}

static void run(const job *j) {
    chunk chunks[2], *before = NULL;
    int threads = 1, side = 0; /* threads that come, not those asked for */
    for (int64_t first = 0; first < j->n_active || before; first += j->rows, side = !side) {
        chunk *now = first < j->n_active ? &chunks[side] : NULL;
        if (now) begin_chunk(j, now, first, side);
#pragma omp parallel num_threads(j->threads)
        {
            const int t = omp_get_thread_num(), n = omp_get_num_threads();
            if (t == 0) threads = n;
            sweep(j, before, now, t, n);
#pragma omp barrier
            if (before && j->d_x) {
                int64_t begin, end;
                cpu_share(before->rows, t, n, &begin, &end);
                for (int64_t m = begin; m < end; m++) write_d_x(j, before, (int)m, n);
            }
        }
        if (now) end_chunk(j, now, threads);
        before = now;
    }
}

clf_status linear_cross_entropy_full(clf_context *ctx, const clf_linear_cross_entropy_args *args, int64_t skip,
                                     int64_t n) {
    enum { STEP = TILE_V * VL };
    const clf_tensor *x = args->x, *w = args->weight;
    job j = {.args = args, .k = x->shape[1], .vocab = w->shape[0], .n_active = n - skip};
    j.pitch = (j.k + STEP - 1) / STEP * STEP;
    j.blocks = (j.vocab + BLOCK - 1) / BLOCK;
    j.own_x = x->dtype == CLF_F32 && j.k == j.pitch;
    j.own_w = w->dtype == CLF_F32 && j.k == j.pitch;
    j.threads = cpu_threads(ctx, j.blocks, j.vocab * (j.k + 1) * n);
    choose_rows(&j);
    clf_buffer *scratch;
    CLF_TRY(clf_buffer_create(&scratch, ctx, plan(&j, NULL), CLF_TAG_SCRATCH));
    plan(&j, scratch->memory.host);
    list_rows(args, skip, j.n_active, j.active);
    run(&j);
    clf_buffer_release(scratch);
    return CLF_OK;
}
