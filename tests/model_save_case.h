/* model_save_case.h: what the tests of saved models share: golden models and their logits, a model of blocks, calls. */
#ifndef CLF_TESTS_MODEL_SAVE_CASE_H
#define CLF_TESTS_MODEL_SAVE_CASE_H

#include "folder_case.h"
#include "model_case.h"

#include "../lib/model/gguf_write.h"
#include "../lib/model/model.h"
#include "tiny_gguf.h"

enum { TOKENS = 12 };

static inline clf_model *load(clf_context *ctx, const char *path, const char *adapter) {
    clf_model *m;
    assert_ok(ctx, clf_model_load(
                       &m, &(clf_model_args){
                               .path = path, .adapter = adapter, .mmap = true, .contexts = &ctx, .n_contexts = 1}));
    return m;
}

/* Logits [TOKENS, vocab] of some ids, to be freed. */
static inline float *logits_of(clf_context *ctx, clf_model *m, int64_t *n) {
    int32_t ids[TOKENS];
    clf_model_info info;
    make_ids(ids, TOKENS, 7);
    assert_ok(ctx, clf_model_get_info(m, &info));
    *n = (int64_t)TOKENS * info.vocab_size;
    float *logits = calloc((size_t)*n, sizeof *logits);
    clf_session *s = open_session(ctx, &(clf_session_args){.model = m, .context_length = TOKENS});
    assert_ok(ctx, clf_session_eval(s, ids, TOKENS, CLF_LOGITS_ALL, logits));
    clf_session_destroy(s);
    return logits;
}

/* Loads a model and holds its logits to `want`: bits, or within `tolerance`. */
static inline void same_logits(clf_context *ctx, const char *path, const char *adapter, const float *want, int64_t n,
                               double tolerance) {
    int64_t got_n;
    clf_model *m = load(ctx, path, adapter);
    float *got = logits_of(ctx, m, &got_n);
    assert_int_equal(got_n, n);
    const double error = difference(got, want, n);
    const bool equal = tolerance > 0 ? error <= tolerance : !memcmp(got, want, (size_t)n * sizeof *got);
    if (!equal) fail_msg("%s + %s: logits differ by %.2e", path, adapter ? adapter : "nothing", error);
    free(got);
    clf_model_destroy(m);
}

static const char *const names[] = {"llama", "phi3"};

static inline void base_path(char path[128], int i, bool gguf) {
    snprintf(path, 128, gguf ? "golden/gguf/%s.gguf" : "golden/models/%s", names[i]);
}

/* The tiny model with its layers' matrices in Q8_0. */
static inline void write_q8(const char *path) {
    tiny_gguf tiny = tiny_gguf_make();
    clf_error err = {0};
    clf_gguf *g;
    clf_gguf_writer *w;
    assert_int_equal(clf_gguf_open(&g, &(clf_model_file_args){.data = tiny.data, .data_size = tiny.size}, &err), 0);
    assert_int_equal(clf_gguf_writer_create(&w, path, &err), 0);
    assert_int_equal(clf_gguf_write_keys_of(w, g, &err), 0);
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < clf_gguf_tensor_count(g); i++) {
            clf_file_tensor t = *clf_gguf_tensor(g, i);
            const int64_t n = t.shape[0] * (t.ndim > 1 ? t.shape[1] : 1);
            const bool blocks = t.ndim > 1 && !strncmp(t.name, "blk.", 4);
            const float *x = t.data;
            uint8_t q[TINY_HIDDEN * TINY_FFN / 32 * 34];
            if (blocks) t.dtype = CLF_Q8_0;
            for (int64_t b = 0; blocks && pass && b < n / 32; b++) {
                float most = 0;
                for (int j = 0; j < 32; j++) most = fmaxf(most, fabsf(x[32 * b + j]));
                const uint16_t d = clf_f32_to_f16(most / 127);
                memcpy(q + 34 * b, &d, 2);
                for (int j = 0; j < 32; j++)
                    q[34 * b + 2 + j] = (uint8_t)(int8_t)lrintf(x[32 * b + j] / clf_f16_to_f32(d));
            }
            if (!pass)
                assert_int_equal(clf_gguf_write_tensor(w, &t, &err), 0);
            else
                assert_int_equal(
                    clf_gguf_write_data(w, i, blocks ? q : t.data, blocks ? (uint64_t)n / 32 * 34 : t.nbytes, &err), 0);
        }
    assert_int_equal(clf_gguf_writer_finish(w, &err), 0);
    clf_gguf_writer_destroy(w);
    clf_gguf_close(g);
    free(tiny.data);
}

static inline clf_status save(const clf_model *m, const char *path, const char *dtype) {
    return clf_model_save(m, &(clf_model_save_args){.path = path, .dtype = dtype});
}
static inline clf_status save_adapter(const clf_model *m, const char *path, const char *base) {
    return clf_model_save_adapter(m, &(clf_adapter_save_args){.path = path, .base_model = base});
}

#endif
