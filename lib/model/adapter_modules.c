/* adapter_modules.c: an adapter's pairs on their way into a file. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter_modules.h"
#include "row_order.h"
#include "saved_tensors.h"

/* All of an F32 tensor on the host, to be freed. */
static clf_status read_floats(float **out, const clf_model *m, const clf_tensor *t, clf_error *err) {
    const size_t bytes = (size_t)clf_elements(t) * sizeof(float);
    *out = malloc(bytes);
    CLF_CHECK(err, *out, CLF_OUT_OF_MEMORY, "adapter: out of host memory");
    const clf_status st = clf_model_failed(m, t->ctx, clf_tensor_read(t, *out, bytes));
    if (st != CLF_OK) {
        free(*out);
        *out = NULL;
    }
    return st;
}

/* Whether all parts are adapted by one A. */
static clf_status look_for_shared(clf_adapter_module *x, const clf_model *m, clf_error *err) {
    float *first = NULL, *other = NULL;
    clf_status st = CLF_OK;
    x->shared = x->part_rule[1] != NULL;
    for (int i = 0; i < 3 && x->part_rule[i]; i++)
        x->shared &= x->part[i] && x->part[0] && x->part[i]->a.shape[0] == x->part[0]->a.shape[0];
    if (!x->shared) return CLF_OK;
    const size_t bytes = (size_t)clf_elements(&x->part[0]->a) * sizeof(float);
    CLF_TRY(read_floats(&first, m, &x->part[0]->a, err));
    for (int i = 1; st == CLF_OK && x->shared && i < 3 && x->part_rule[i]; i++) {
        st = read_floats(&other, m, &x->part[i]->a, err);
        if (st == CLF_OK) x->shared = !memcmp(first, other, bytes);
        free(other);
        other = NULL;
    }
    free(first);
    return st;
}

/* The module of rule `r`, if any part of it is adapted. */
static clf_status take(clf_adapter_modules *list, const clf_tensor_rule *r, int layer, clf_error *err) {
    const clf_model *m = list->model;
    clf_adapter_module x = {
        .rule = r, .layer = layer, .n = clf_extent_of(r->rows, &m->config), .k = clf_extent_of(r->columns, &m->config)};
    bool any = false;
    for (int i = 0; i < 3 && (i == 0 || r->parts[i]); i++) {
        x.part_rule[i] = r->parts[i] ? clf_tensor_rule_named(r->parts[i]) : r;
        const clf_lora *l = &m->layers[layer].lora[clf_weight_named(x.part_rule[i]->name, ".weight")];
        if (!l->a.buffer) continue;
        if (!any) x.scale = l->scale;
        any = true;
        x.part[i] = l;
        x.rank += l->a.shape[0];
    }
    if (!any) return CLF_OK;
    CLF_TRY(look_for_shared(&x, m, err));
    if (x.shared) x.rank = x.part[0]->a.shape[0];
    list->module[list->count++] = x;
    return CLF_OK;
}

static void find_most_frequent(clf_adapter_modules *list) {
    int64_t best_rank = 0, best_alpha = 0;
    for (int64_t i = 0; i < list->count; i++) {
        const clf_adapter_module *x = &list->module[i];
        int64_t same_rank = 0, same_alpha = 0;
        for (int64_t j = 0; j < list->count; j++) {
            same_rank += list->module[j].rank == x->rank;
            same_alpha += clf_adapter_alpha(&list->module[j]) == clf_adapter_alpha(x);
        }
        if (same_rank > best_rank) best_rank = same_rank, list->rank = x->rank;
        if (same_alpha > best_alpha) best_alpha = same_alpha, list->alpha = clf_adapter_alpha(x);
    }
}

/* PEFT keeps a tied matrix once for each of its uses. */
static void list_whole(clf_adapter_modules *list) {
    const clf_model *m = list->model;
    const bool tied = m->config.tied_output;
    if (m->embedding_trained) {
        list->whole[list->n_whole].name = "base_model.model.model.embed_tokens.weight";
        list->whole[list->n_whole++].weight = &m->embedding;
    }
    if (tied ? m->embedding_trained : m->output_trained) {
        list->whole[list->n_whole].name = "base_model.model.lm_head.weight";
        list->whole[list->n_whole++].weight = &m->output;
    }
}

clf_status clf_adapter_modules_list(clf_adapter_modules *out, const clf_model *m, clf_error *err) {
    const bool fused = clf_architecture_named(m->config.architecture)->fused;
    *out = (clf_adapter_modules){.model = m};
    CLF_CHECK(err, m->lora_rank, CLF_INVALID_ARGUMENT, "adapter: the model carries none");
    out->module = calloc((size_t)m->config.n_layers * CLF_W_MATRICES, sizeof *out->module);
    CLF_CHECK(err, out->module, CLF_OUT_OF_MEMORY, "adapter: out of host memory");
    clf_status st = CLF_OK;
    for (int layer = 0; layer < m->config.n_layers; layer++)
        for (int i = 0; st == CLF_OK && i < clf_tensor_rule_count; i++)
            if (clf_tensor_rule_is_stored(&clf_tensor_rules[i], fused))
                st = take(out, &clf_tensor_rules[i], layer, err);
    if (st != CLF_OK) return clf_adapter_modules_free(out), st;
    find_most_frequent(out);
    list_whole(out);
    return CLF_OK;
}

void clf_adapter_modules_free(clf_adapter_modules *list) {
    free(list->module);
    *list = (clf_adapter_modules){0};
}

/* A: [rank, k]. */
static clf_status gather_a(float *out, const clf_adapter_module *x, const clf_model *m, clf_error *err) {
    for (int i = 0; i < 3 && x->part_rule[i]; i++) {
        float *a;
        if (!x->part[i] || (i && x->shared)) continue;
        CLF_TRY(read_floats(&a, m, &x->part[i]->a, err));
        const int64_t n = clf_elements(&x->part[i]->a);
        memcpy(out, a, (size_t)n * sizeof *out);
        out += n;
        free(a);
    }
    return CLF_OK;
}

/* B: [n, rank], zeros outside of the parts' blocks. */
static clf_status gather_b(float *out, const clf_adapter_module *x, const clf_model *m, clf_rope_pairing pairing,
                           double alpha, clf_error *err) {
    const clf_config *c = &m->config;
    const double scale = alpha != 0 ? alpha / (double)x->rank : (double)x->scale;
    int64_t column = 0;
    memset(out, 0, (size_t)(x->n * x->rank) * sizeof *out);
    for (int i = 0; i < 3 && x->part_rule[i]; i++) {
        const int64_t n = clf_extent_of(x->part_rule[i]->rows, c);
        float *const block = out;
        out += n * x->rank;
        if (!x->part[i]) continue;
        float *b;
        CLF_TRY(read_floats(&b, m, &x->part[i]->b, err));
        const int64_t r = x->part[i]->b.shape[1];
        const float factor = scale != 0 ? (float)((double)x->part[i]->scale / scale) : 1;
        const bool reorder = clf_tensor_rule_is_rotated(x->part_rule[i]) && c->rope.pairing != pairing;
        for (int64_t row = 0; row < n; row++) {
            const int64_t source = reorder ? clf_row_source(row, c->head_dim, c->rope.pairing) : row;
            for (int64_t j = 0; j < r; j++) block[row * x->rank + column + j] = factor * b[source * r + j];
        }
        free(b);
        if (!x->shared) column += r;
    }
    return CLF_OK;
}

typedef struct pair {
    char name[2][256];
    clf_file_tensor t[2]; /* A, B */
} pair;

static void describe(pair *p, const clf_adapter_module *x, clf_adapter_name name, const char *const end[2]) {
    for (int i = 0; i < 2; i++) {
        char stem[200];
        name(stem, sizeof stem, x);
        snprintf(p->name[i], sizeof p->name[i], "%s%s", stem, end[i]);
        p->t[i] = (clf_file_tensor){.name = p->name[i], .dtype = CLF_F32, .ndim = 2};
    }
    p->t[0].shape[0] = p->t[1].shape[1] = x->rank;
    p->t[0].shape[1] = x->k;
    p->t[1].shape[0] = x->n;
}

static clf_file_tensor describe_whole(const clf_adapter_modules *list, int i) {
    const clf_tensor *w = list->whole[i].weight;
    return (clf_file_tensor){
        .name = list->whole[i].name, .dtype = CLF_F32, .ndim = 2, .shape = {w->shape[0], w->shape[1]}};
}

static clf_status write_values(const clf_tensor_writer *w, int64_t index, const clf_file_tensor *t, const float *values,
                               clf_error *err) {
    const int64_t n = t->shape[0] * t->shape[1];
    CLF_CHECK(err, clf_all_finite(values, CLF_F32, n), CLF_NOT_FINITE,
              "tensor %s: expected finite numbers, got an infinity or NaN", t->name);
    return clf_write_data(w, index, values, (uint64_t)n * sizeof *values, err);
}

clf_status clf_adapter_modules_write(const clf_adapter_modules *list, const clf_tensor_writer *w,
                                     clf_rope_pairing pairing, double alpha, clf_adapter_name name, const char *a,
                                     const char *b, clf_error *err) {
    const char *const end[] = {a, b};
    pair p;
    for (int64_t i = 0; i < list->count; i++) {
        describe(&p, &list->module[i], name, end);
        CLF_TRY(clf_write_tensor(w, &p.t[0], err));
        CLF_TRY(clf_write_tensor(w, &p.t[1], err));
    }
    for (int i = 0; i < list->n_whole; i++) {
        const clf_file_tensor t = describe_whole(list, i);
        CLF_TRY(clf_write_tensor(w, &t, err));
    }
    for (int64_t i = 0; i < list->count; i++) {
        const clf_adapter_module *x = &list->module[i];
        float *values = malloc((size_t)((x->n > x->k ? x->n : x->k) * x->rank) * sizeof *values);
        CLF_CHECK(err, values, CLF_OUT_OF_MEMORY, "adapter: out of host memory");
        describe(&p, x, name, end);
        clf_status st = gather_a(values, x, list->model, err);
        if (st == CLF_OK) st = write_values(w, 2 * i, &p.t[0], values, err);
        if (st == CLF_OK) st = gather_b(values, x, list->model, pairing, alpha, err);
        if (st == CLF_OK) st = write_values(w, 2 * i + 1, &p.t[1], values, err);
        free(values);
        CLF_TRY(st);
    }
    for (int i = 0; i < list->n_whole; i++) {
        const clf_file_tensor t = describe_whole(list, i);
        float *values;
        CLF_TRY(read_floats(&values, list->model, list->whole[i].weight, err));
        const clf_status st = write_values(w, 2 * list->count + i, &t, values, err);
        free(values);
        CLF_TRY(st);
    }
    return CLF_OK;
}
