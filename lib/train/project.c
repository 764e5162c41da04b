/* project.c: products by frozen or trained weights, and by the pairs of an adapter beside them. */
#include "project.h"

#include "../core/random.h"

clf_tensor clf_work_take(const clf_tensor *work, int64_t *at, int64_t width) {
    const int64_t n = work->shape[0];
    const clf_tensor t = clf_view_of(work, 2, (const int64_t[]){n, width}, NULL, n * *at);
    *at += width;
    return t;
}

/* Each adapter of each block drops other elements, the same ones in every pass over the micro-batch. */
static uint64_t dropout_seed(const clf_pass *p, const clf_layer *l, clf_weight id) {
    return clf_seed_of(p->seed, (uint64_t)(l - p->model->layers) * CLF_W_MATRICES + id);
}

static clf_status drop(const clf_pass *p, const clf_layer *l, clf_weight id, const clf_tensor *x,
                       const clf_tensor *residual, clf_tensor *out) {
    return clf_dropout(
        l->ctx,
        &(clf_dropout_args){
            .x = x, .residual = residual, .probability = p->dropout, .seed = dropout_seed(p, l, id), .out = out});
}

/* What adapter `id` sees of x: x, or with dropout a part of it. */
static clf_status seen(const clf_pass *p, const clf_layer *l, clf_weight id, const clf_tensor *x, clf_tensor *out) {
    *out = *x;
    if (p->dropout == 0) return CLF_OK;
    int64_t at = 0;
    *out = clf_work_take(&p->work[CLF_WORK_SEEN], &at, x->shape[1]);
    return drop(p, l, id, x, NULL, out);
}

/* Puts in place of x what the matrices see of it: with ternary weights x rounded, in `rounded`. The gradient by that is
 * taken for the gradient by x. */
static clf_status round_input(const clf_pass *p, const clf_layer *l, const clf_tensor **x, clf_tensor *rounded) {
    if (!p->ternary || !*x) return CLF_OK;
    int64_t at = 0;
    *rounded = clf_work_take(&p->work[CLF_WORK_SEEN], &at, (*x)->shape[1]);
    CLF_TRY(clf_fake_quantize(l->ctx, &(clf_fake_quantize_args){.x = *x, .out = rounded}));
    *x = rounded;
    return CLF_OK;
}

/* Adapters of the products of one x: numbers at[0 … n − 1] from `first`. */
typedef struct adapters {
    clf_weight first;
    int n, at[CLF_LINEAR_MAX];
} adapters;

static adapters adapters_of(const clf_pass *p, const clf_layer *l, clf_weight first, int count) {
    adapters a = {.first = first};
    for (int i = 0; i < count && !p->base_only; i++)
        if (l->lora[first + (clf_weight)i].a.buffer) a.at[a.n++] = i;
    return a;
}

static clf_weight weight_of(const adapters *a, int j) {
    return a->first + (clf_weight)a->at[j];
}

/* Places for what lies between each A and its B. */
static void take_inner(clf_tensor inner[], const adapters *a, const clf_layer *l, const clf_tensor *work) {
    int64_t column = 0;
    for (int j = 0; j < a->n; j++) inner[j] = clf_work_take(work, &column, l->lora[weight_of(a, j)].a.shape[0]);
}

/* inner = seen(x)·Aᵀ, all at once where they see the same */
static clf_status shrink(const clf_pass *p, const clf_layer *l, const adapters *a, const clf_tensor *x,
                         clf_tensor inner[]) {
    clf_linear_args args = {.x = x};
    clf_tensor part;
    take_inner(inner, a, l, &p->work[CLF_WORK_INNER]);
    for (int j = 0; j < a->n; j++) {
        args.weight[j] = &l->lora[weight_of(a, j)].a;
        args.out[j] = &inner[j];
    }
    if (p->dropout == 0 && a->n) return clf_linear(l->ctx, &args);
    for (int j = 0; j < a->n; j++) {
        CLF_TRY(seen(p, l, weight_of(a, j), x, &part));
        CLF_TRY(clf_linear(l->ctx, &(clf_linear_args){.x = &part, .weight = {args.weight[j]}, .out = {args.out[j]}}));
    }
    return CLF_OK;
}

clf_status clf_project(const clf_pass *p, const clf_layer *l, clf_weight first, int count, const clf_tensor *x,
                       const clf_tensor *residual, clf_tensor *out) {
    clf_tensor rounded;
    CLF_TRY(round_input(p, l, &x, &rounded));
    clf_linear_args args = {.x = x, .residual = residual, .precision = CLF_LINEAR_EXACT};
    for (int i = 0; i < count; i++) {
        args.weight[i] = &l->weight[first + (clf_weight)i];
        args.bias[i] = clf_weight_of(l, CLF_W_QUERY_BIAS + first + (clf_weight)i);
        args.out[i] = &out[i];
    }
    CLF_TRY(clf_linear(l->ctx, &args));
    const adapters a = adapters_of(p, l, first, count);
    clf_tensor inner[CLF_LINEAR_MAX];
    CLF_TRY(shrink(p, l, &a, x, inner));
    for (int j = 0; j < a.n; j++) {
        const clf_lora *lora = &l->lora[weight_of(&a, j)];
        clf_tensor *y = &out[a.at[j]];
        CLF_TRY(clf_linear(
            l->ctx,
            &(clf_linear_args){.x = &inner[j], .weight = {&lora->b}, .residual = y, .scale = lora->scale, .out = {y}}));
    }
    return CLF_OK;
}

/* One after another, each with a part of x of its own. */
static clf_status dropped_backward(const clf_pass *p, const clf_layer *l, const clf_layer_gradients *g,
                                   const adapters *a, const clf_tensor *x, const clf_tensor d_inner[],
                                   clf_tensor *d_x) {
    clf_tensor part;
    for (int j = 0; j < a->n; j++) {
        const clf_weight id = weight_of(a, j);
        if (x) {
            CLF_TRY(seen(p, l, id, x, &part));
            CLF_TRY(clf_linear_backward(
                l->ctx, &(clf_linear_backward_args){.x = &part, .d_out = {&d_inner[j]}, .d_weight = {g->a[id]}}));
        }
        if (!d_x) continue;
        int64_t column = 0;
        part = clf_work_take(&p->work[CLF_WORK_SEEN], &column, d_x->shape[1]);
        CLF_TRY(clf_linear_backward(
            l->ctx, &(clf_linear_backward_args){.weight = {&l->lora[id].a}, .d_out = {&d_inner[j]}, .d_x = &part}));
        CLF_TRY(drop(p, l, id, &part, d_x, d_x));
    }
    return CLF_OK;
}

/* With d_inner = scale · d_out·B: d_A += d_innerᵀ·seen(x) and d_B += scale · d_outᵀ·inner where x is given,
 * d_x += dropout(d_inner·A) where d_x is. */
static clf_status adapters_backward(const clf_pass *p, const clf_layer *l, const clf_layer_gradients *g,
                                    const adapters *a, const clf_tensor *x, const clf_tensor *d_out, clf_tensor *d_x) {
    clf_tensor inner[CLF_LINEAR_MAX], d_inner[CLF_LINEAR_MAX];
    clf_linear_backward_args args = {.x = x, .residual = d_x, .d_x = d_x};
    if (x) CLF_TRY(shrink(p, l, a, x, inner));
    take_inner(d_inner, a, l, &p->work[CLF_WORK_D_INNER]);
    for (int j = 0; j < a->n; j++) {
        const clf_weight id = weight_of(a, j);
        const clf_lora *lora = &l->lora[id];
        CLF_TRY(clf_linear_backward(l->ctx, &(clf_linear_backward_args){.x = x ? &inner[j] : NULL,
                                                                        .weight = {&lora->b},
                                                                        .d_out = {&d_out[a->at[j]]},
                                                                        .scale = lora->scale,
                                                                        .d_x = &d_inner[j],
                                                                        .d_weight = {x ? g->b[id] : NULL}}));
        args.weight[j] = &lora->a;
        args.d_out[j] = &d_inner[j];
        args.d_weight[j] = x ? g->a[id] : NULL;
    }
    if (p->dropout > 0) return dropped_backward(p, l, g, a, x, d_inner, d_x);
    return a->n ? clf_linear_backward(l->ctx, &args) : CLF_OK;
}

bool clf_trained(const clf_layer_gradients *g, clf_weight first, int count) {
    for (clf_weight id = first; id < first + (clf_weight)count; id++)
        if (g->weight[id] || g->weight[CLF_W_QUERY_BIAS + id] || g->a[id] || g->b[id]) return true;
    return false;
}

clf_status clf_project_backward(const clf_pass *p, const clf_layer *l, const clf_layer_gradients *g, clf_weight first,
                                int count, const clf_tensor *x, const clf_tensor *d_out, clf_tensor *d_x) {
    clf_tensor rounded;
    CLF_TRY(round_input(p, l, &x, &rounded));
    clf_linear_backward_args args = {.x = x, .d_x = d_x};
    bool any = d_x != NULL;
    for (int i = 0; i < count; i++) {
        const clf_weight id = first + (clf_weight)i;
        args.weight[i] = &l->weight[id];
        args.d_out[i] = &d_out[i];
        if (!x) continue;
        args.d_weight[i] = g->weight[id];
        args.d_bias[i] = g->weight[CLF_W_QUERY_BIAS + id];
        any |= args.d_weight[i] || args.d_bias[i];
    }
    if (any) CLF_TRY(clf_linear_backward(l->ctx, &args));
    const adapters a = adapters_of(p, l, first, count);
    return adapters_backward(p, l, g, &a, x, d_out, d_x);
}
