/* quantize_case.h: what the tests of clf_quantize() share: LLaMAs of a chosen width in a folder of their own, calls
 * whose report is kept, and the file that was written held to it. _GNU_SOURCE is defined. */
#ifndef CLF_TESTS_QUANTIZE_CASE_H
#define CLF_TESTS_QUANTIZE_CASE_H

#include "folder_case.h"
#include "model_case.h"

#include "../lib/core/dtype.h"
#include "../lib/model/gguf_write.h"
#include "../lib/model/model_file.h"

typedef enum quantize_values { NORMAL, TERNARY } quantize_values;

typedef struct quantize_model {
    int hidden, ffn, layers; /* four heads over one */
    clf_dtype dtype;         /* of matrices: F32 or F16 */
    quantize_values values;
    bool tied;
    const char *broken; /* a matrix of which one weight, in row 3, column 7, is `value`; NULL: none */
    float value;
} quantize_model;

static inline float quantize_uniform(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return ((float)(*seed >> 8) + 0.5f) * 0x1p-24f;
}

/* Of n weights of a matrix: normal ones, or 0 and ± one value. */
static inline void quantize_fill(float *w, int64_t n, quantize_values values, float size, uint32_t *seed) {
    for (int64_t i = 0; i < n; i++) {
        const float u = quantize_uniform(seed), v = quantize_uniform(seed);
        w[i] = size * (values == TERNARY ? (float)((int)(u * 3) - 1) : sqrtf(-2 * logf(u)) * cosf(6.2831853f * v));
    }
}

static inline void quantize_describe(clf_gguf_writer *w, const quantize_model *m, const char *name, int rows,
                                     int columns, clf_error *err) {
    const clf_file_tensor t = {
        .name = name, .dtype = columns ? m->dtype : CLF_F32, .ndim = columns ? 2 : 1, .shape = {rows, columns}};
    assert_int_equal(clf_gguf_write_tensor(w, &t, err), CLF_OK);
}

static inline void quantize_put(clf_gguf_writer *w, const quantize_model *m, int64_t index, const char *name, int rows,
                                int columns, clf_error *err) {
    uint32_t seed = 17 + 31 * (uint32_t)index;
    const int64_t n = (int64_t)rows * (columns ? columns : 1);
    float *x = malloc((size_t)n * sizeof *x);
    uint16_t *half = malloc((size_t)n * sizeof *half);
    if (columns)
        quantize_fill(x, n, strcmp(name, "token_embd.weight") ? m->values : NORMAL, 0.0625f, &seed);
    else
        for (int64_t i = 0; i < n; i++) x[i] = 1;
    if (m->broken && !strcmp(name, m->broken)) x[3 * columns + 7] = m->value;
    for (int64_t i = 0; i < n; i++) half[i] = clf_f32_to_f16(x[i]);
    const bool f16 = columns && m->dtype == CLF_F16;
    assert_int_equal(clf_gguf_write_data(w, index, f16 ? (void *)half : x, (uint64_t)n * (f16 ? 2 : 4), err), CLF_OK);
    free(x);
    free(half);
}

static inline void quantize_make(const char *path, const quantize_model *m) {
    const struct {
        const char *name;
        int rows, columns;
    } ends[] = {{"token_embd.weight", VOCAB, m->hidden},
                {"output_norm.weight", m->hidden, 0},
                {"output.weight", VOCAB, m->hidden}},
      block[] = {{"attn_norm", m->hidden, 0},           {"attn_q", m->hidden, m->hidden},
                 {"attn_k", m->hidden / 4, m->hidden},  {"attn_v", m->hidden / 4, m->hidden},
                 {"attn_output", m->hidden, m->hidden}, {"ffn_norm", m->hidden, 0},
                 {"ffn_gate", m->ffn, m->hidden},       {"ffn_up", m->ffn, m->hidden},
                 {"ffn_down", m->hidden, m->ffn}};
    enum { BLOCK = 9 };
    const int n_ends = m->tied ? 2 : 3;
    clf_error err = {0};
    clf_gguf_writer *w;
    assert_int_equal(clf_gguf_writer_create(&w, path, &err), CLF_OK);
    clf_gguf_write_string(w, "general.architecture", "llama", &err);
    clf_gguf_write_u32(w, "general.file_type", 1, &err);
    clf_gguf_write_u32(w, "llama.context_length", 256, &err);
    clf_gguf_write_u32(w, "llama.embedding_length", (uint32_t)m->hidden, &err);
    clf_gguf_write_u32(w, "llama.block_count", (uint32_t)m->layers, &err);
    clf_gguf_write_u32(w, "llama.feed_forward_length", (uint32_t)m->ffn, &err);
    clf_gguf_write_u32(w, "llama.attention.head_count", 4, &err);
    clf_gguf_write_u32(w, "llama.attention.head_count_kv", 1, &err);
    clf_gguf_write_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f, &err);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n_ends + m->layers * BLOCK; i++) {
            char name[64];
            const int b = i < n_ends ? i : (i - n_ends) % BLOCK;
            if (i < n_ends)
                snprintf(name, sizeof name, "%s", ends[b].name);
            else
                snprintf(name, sizeof name, "blk.%d.%s.weight", (i - n_ends) / BLOCK, block[b].name);
            const int rows = i < n_ends ? ends[b].rows : block[b].rows,
                      columns = i < n_ends ? ends[b].columns : block[b].columns;
            if (pass)
                quantize_put(w, m, i, name, rows, columns, &err);
            else
                quantize_describe(w, m, name, rows, columns, &err);
        }
    if (clf_gguf_writer_finish(w, &err) != CLF_OK) fail_msg("%s", err.message);
    clf_gguf_writer_destroy(w);
}

static const quantize_model wide = {.hidden = 256, .ffn = 512, .layers = 2, .dtype = CLF_F16},
                            narrow = {.hidden = 64, .ffn = 96, .layers = 2};

/* What was reported. */
typedef struct report {
    int count, stop_after; /* 0: never */
    struct {
        char name[64];
        clf_quantized_tensor t;
    } of[128];
} report;

static inline bool take(void *user, const clf_quantized_tensor *t) {
    report *r = user;
    assert_int_equal(t->index, r->count);
    assert_true(r->count < 128);
    snprintf(r->of[r->count].name, 64, "%s", t->name);
    r->of[r->count++].t = *t;
    return r->count != r->stop_after;
}

static inline const clf_quantized_tensor *reported(const report *r, const char *name) {
    for (int i = 0; i < r->count; i++)
        if (!strcmp(r->of[i].name, name)) return &r->of[i].t;
    fail_msg("%s: not reported", name);
    return NULL;
}

static inline clf_status quantize(clf_context *ctx, clf_quantize_args args, report *r, clf_quantize_result *result) {
    *r = (report){.stop_after = r->stop_after};
    args.tensor = take;
    args.user = r;
    return clf_quantize(ctx, &args, result);
}

/* A tensor of a file as floats, to be freed. */
static inline float *floats_of(clf_context *ctx, const clf_file_tensor *t) {
    const int64_t n = clf_file_elements(t);
    float *x = malloc((size_t)n * sizeof *x);
    clf_tensor *in, *out;
    assert_ok(ctx, clf_tensor_create(&in, ctx, &(clf_tensor_args){.dtype = t->dtype, .ndim = 1, .shape = {n}}));
    assert_ok(ctx, clf_tensor_write(in, t->data, (size_t)t->nbytes));
    assert_ok(ctx, clf_tensor_create(&out, ctx, &(clf_tensor_args){.ndim = 1, .shape = {n}, .data = x}));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = in, .out = out}));
    clf_tensor_destroy(in);
    clf_tensor_destroy(out);
    return x;
}

static inline bool near(double a, double b, double tolerance) {
    return fabs(a - b) <= tolerance * fmax(fabs(a), fabs(b));
}

/* The file's tensors against the source's, and both against the report. */
static inline void check_file(clf_context *ctx, const char *source, const char *written, const report *r,
                              const char *type) {
    clf_error err = {0};
    clf_model_file *a, *b;
    assert_int_equal(clf_model_file_open(&a, &(clf_model_file_args){.path = source, .mmap = true}, &err), CLF_OK);
    if (clf_model_file_open(&b, &(clf_model_file_args){.path = written, .mmap = true}, &err) != CLF_OK)
        fail_msg("%s: %s", type, err.message);
    assert_int_equal(clf_model_file_count(a), clf_model_file_count(b));
    assert_int_equal(clf_model_file_count(a), r->count);
    for (int64_t i = 0; i < clf_model_file_count(a); i++) {
        const clf_file_tensor *from = clf_model_file_at(a, i), *to = clf_model_file_find(b, from->name);
        const clf_quantized_tensor *t = reported(r, from->name);
        assert_int_equal(t->from, from->dtype);
        assert_int_equal(t->to, to->dtype);
        assert_int_equal(t->bytes, to->nbytes);
        float *x = floats_of(ctx, from), *y = floats_of(ctx, to);
        double x2 = 0, y2 = 0, xy = 0, d2 = 0, largest = 0, zeros = 0;
        const int64_t n = clf_file_elements(from);
        for (int64_t k = 0; k < n; k++) {
            const double v = (double)x[k], w = (double)y[k];
            x2 += v * v, y2 += w * w, xy += v * w, d2 += (w - v) * (w - v);
            largest = fmax(largest, fabs(w - v));
            zeros += w == 0;
        }
        if (!near(t->relative_error, sqrt(d2 / x2), 1e-5) || !near(t->max_error, largest, 1e-5) ||
            !near(t->cosine, xy / sqrt(x2 * y2), 1e-6) || (t->zeros > 0 && !near(t->zeros, zeros / (double)n, 1e-9)))
            fail_msg("%s, %s: reported error %g, %g, %g; is %g, %g, %g", type, from->name, t->relative_error,
                     t->max_error, t->cosine, sqrt(d2 / x2), largest, xy / sqrt(x2 * y2));
        free(x);
        free(y);
    }
    clf_model_file_close(a);
    clf_model_file_close(b);
}

/* That a call is refused, says why, and leaves nothing behind. */
static inline void refused(clf_context *ctx, clf_quantize_args args, clf_status status, const char *why) {
    report r = {0};
    clf_quantize_result result;
    const int before = entries_of(folder);
    const clf_status got = quantize(ctx, args, &r, &result);
    if (got != status || !strstr(clf_error_message(ctx), why))
        fail_msg("expected %s, \"%s\"; got %s, \"%s\"", clf_status_string(status), why, clf_status_string(got),
                 clf_error_message(ctx));
    assert_int_equal(entries_of(folder), before);
}

#endif
