/* importance.c: Σ x² over tokens for each column of the blocks' matrices, collected while a session evaluates a text,
 * and written as llama.cpp's imatrix. Matrices that share an input share the sums: query, key and value; gate and up.
 */
#include "importance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "chunks.h"
#include "gguf_write.h"
#include "importance_file.h"
#include "session.h"

enum { MOST_CHUNKS = 1 << 30 };

typedef enum input { ATTENTION, ATTENDED, FFN, GATED, INPUTS } input;

static const input input_of[CLF_W_MATRICES] = {
    [CLF_W_QUERY] = ATTENTION, [CLF_W_KEY] = ATTENTION, [CLF_W_VALUE] = ATTENTION, [CLF_W_OUTPUT] = ATTENDED,
    [CLF_W_GATE] = FFN,        [CLF_W_UP] = FFN,        [CLF_W_DOWN] = GATED};

typedef struct sums {
    double *squares; /* [width], in clf_importance.squares */
    int64_t width, rows;
} sums;

struct clf_importance {
    clf_model *model;
    clf_session *session;
    int64_t context, chunks;
    sums (*of)[INPUTS]; /* [n_layers] */
    double *squares;    /* of all */
    float *x;           /* [chunk, greatest width], on the host */
};

clf_status clf_importance_meet(clf_importance *m, const clf_layer *layer, clf_weight first, const clf_tensor *x) {
    if (!m) return CLF_OK;
    const int index = (int)(layer - m->model->layers);
    sums *s = &m->of[index][input_of[first]];
    const int64_t rows = x->shape[0], width = x->shape[1];
    CLF_TRY(clf_tensor_read(x, m->x, (size_t)(rows * width) * sizeof *m->x));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) s->squares[i] += (double)m->x[r * width + i] * m->x[r * width + i];
    s->rows += rows;
    for (int64_t i = 0; i < width; i++) {
        char name[CLF_WEIGHT_NAME_SIZE];
        CLF_CHECK(&layer->ctx->error, isfinite(s->squares[i]), CLF_NOT_FINITE,
                  "importance: %s: column %lld of its input is not finite", clf_weight_name(name, index, first),
                  (long long)i);
    }
    return CLF_OK;
}

static clf_status init(clf_importance *m, clf_model *model, int64_t context) {
    const clf_config *c = &model->config;
    clf_error *err = &model->contexts[0]->error;
    m->model = model;
    m->context = context ? context : CLF_CHUNK_CONTEXT;
    CLF_CHECK(err, context >= 0, CLF_INVALID_ARGUMENT, "importance: context: expected 0 or more, got %lld",
              (long long)context);
    CLF_TRY(clf_session_create(&m->session, &(clf_session_args){.model = model, .context_length = m->context}));
    const int64_t width[INPUTS] = {[ATTENTION] = c->hidden_size,
                                   [ATTENDED] = clf_extent_of(CLF_EXTENT_ATTENTION, c),
                                   [FFN] = c->hidden_size,
                                   [GATED] = c->ffn_size};
    int64_t all = 0, greatest = 0;
    for (int i = 0; i < INPUTS; i++) {
        all += width[i];
        greatest = width[i] > greatest ? width[i] : greatest;
    }
    m->of = calloc((size_t)c->n_layers, sizeof *m->of);
    m->squares = calloc((size_t)(c->n_layers * all), sizeof *m->squares);
    m->x = malloc((size_t)(m->session->args.chunk * greatest) * sizeof *m->x);
    CLF_CHECK(err, m->of && m->squares && m->x, CLF_OUT_OF_MEMORY, "importance: out of host memory");
    double *squares = m->squares;
    for (int layer = 0; layer < c->n_layers; layer++)
        for (int i = 0; i < INPUTS; squares += width[i++])
            m->of[layer][i] = (sums){.squares = squares, .width = width[i]};
    m->session->decoder.importance = m;
    return CLF_OK;
}

clf_status clf_importance_create(clf_importance **out, clf_model *model, int64_t context) {
    if (out) *out = NULL;
    if (!out || !model) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(model));
    clf_importance *m = calloc(1, sizeof *m);
    const clf_status st = m ? init(m, model, context)
                            : clf_fail(&model->contexts[0]->error, CLF_OUT_OF_MEMORY, "importance: out of host memory");
    if (st == CLF_OK)
        *out = m;
    else
        clf_importance_destroy(m);
    return st;
}

void clf_importance_destroy(clf_importance *m) {
    if (!m) return;
    clf_session_destroy(m->session);
    free(m->of);
    free(m->squares);
    free(m->x);
    free(m);
}

static clf_status add_chunk(clf_importance *m, const int32_t *ids) {
    const int64_t most = m->session->args.chunk;
    CLF_TRY(clf_session_clear(m->session));
    for (int64_t done = 0, n; done < m->context; done += n) {
        n = m->context - done < most ? m->context - done : most;
        CLF_TRY(clf_session_append(m->session, ids + done, n, n));
    }
    m->chunks++;
    return CLF_OK;
}

clf_status clf_importance_add(clf_importance *m, const int32_t *ids, int64_t n) {
    if (!m) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(m->model));
    clf_error *err = &m->model->contexts[0]->error;
    CLF_CHECK(err, n >= m->context, CLF_INVALID_ARGUMENT,
              "importance: n: expected at least a chunk of %lld tokens, got %lld", (long long)m->context, (long long)n);
    clf_chunks chunks;
    clf_status st = clf_chunks_init(&chunks, "importance", m->model, ids, n, m->context);
    if (st == CLF_OK && chunks.count > MOST_CHUNKS - m->chunks)
        st = clf_fail(err, CLF_INVALID_ARGUMENT, "importance: n: more than %d chunks", MOST_CHUNKS);
    for (int64_t i = 0; st == CLF_OK && i < chunks.count; i++) st = add_chunk(m, clf_chunks_at(&chunks, i));
    clf_chunks_release(&chunks);
    return st;
}

/* Of a matrix: NAME.in_sum2 [columns] and NAME.counts [1]. */
static clf_status describe(clf_gguf_writer *w, const clf_tensor_rule *rule, int layer, const sums *s, clf_error *err) {
    char name[CLF_NAME_SIZE];
    clf_file_tensor t = {.name = name, .dtype = CLF_F32, .ndim = 1, .shape = {s->width}};
    clf_name_in_gguf(name, rule, layer, ".weight" CLF_IMPORTANCE_SUMS);
    CLF_TRY(clf_gguf_write_tensor(w, &t, err));
    clf_name_in_gguf(name, rule, layer, ".weight" CLF_IMPORTANCE_COUNTS);
    t.shape[0] = 1;
    return clf_gguf_write_tensor(w, &t, err);
}

static clf_status write(clf_gguf_writer *w, int64_t index, const sums *s, float *values, clf_error *err) {
    const float rows = (float)s->rows;
    for (int64_t i = 0; i < s->width; i++) values[i] = (float)s->squares[i];
    CLF_TRY(clf_gguf_write_data(w, index, values, (uint64_t)s->width * sizeof *values, err));
    return clf_gguf_write_data(w, index + 1, &rows, sizeof rows, err);
}

/* Describes all matrices, or writes their sums. */
static clf_status each(clf_gguf_writer *w, const clf_importance *m, bool described, clf_error *err) {
    const bool fused = clf_architecture_named(m->model->config.architecture)->fused;
    int64_t index = 0;
    for (int layer = 0; layer < m->model->config.n_layers; layer++)
        for (int i = 0; i < clf_tensor_rule_count; i++) {
            const clf_tensor_rule *rule = &clf_tensor_rules[i];
            if (!clf_tensor_rule_is_stored(rule, fused)) continue;
            const clf_weight id = clf_weight_named(rule->parts[0] ? rule->parts[0] : rule->name, ".weight");
            const sums *s = &m->of[layer][input_of[id]];
            CLF_TRY(described ? write(w, index, s, m->x, err) : describe(w, rule, layer, s, err));
            index += 2;
        }
    return CLF_OK;
}

static clf_status save(clf_gguf_writer *w, const clf_importance *m, const char *dataset, clf_error *err) {
    const clf_string name = {dataset, strlen(dataset)};
    CLF_TRY(clf_gguf_write_string(w, "general.type", CLF_IMPORTANCE_TYPE, err));
    CLF_TRY(clf_gguf_write_strings(w, CLF_IMPORTANCE_DATASETS, &name, 1, err));
    CLF_TRY(clf_gguf_write_u32(w, CLF_IMPORTANCE_CHUNKS, (uint32_t)m->chunks, err));
    CLF_TRY(clf_gguf_write_u32(w, CLF_IMPORTANCE_CHUNK_SIZE, (uint32_t)m->context, err));
    CLF_TRY(each(w, m, false, err));
    CLF_TRY(each(w, m, true, err));
    return clf_gguf_writer_finish(w, err);
}

clf_status clf_importance_save(const clf_importance *m, const char *path, const char *dataset) {
    if (!m) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_model_enter(m->model));
    clf_error *err = &m->model->contexts[0]->error;
    CLF_CHECK(err, path && *path, CLF_INVALID_ARGUMENT, "importance: path: expected a name");
    CLF_CHECK(err, m->chunks, CLF_INVALID_ARGUMENT, "importance: nothing was added");
    clf_gguf_writer *w;
    clf_status st = clf_gguf_writer_create(&w, path, err);
    if (st == CLF_OK) st = save(w, m, dataset ? dataset : "", err);
    clf_gguf_writer_destroy(w);
    return st;
}
