/* faults.c: every allocation and every file call of loading, generating, saving, evaluating and so on made to fail in
 * turn, once alone and once with all that follow, until a run passes untouched. Each time: an error with a message,
 * nothing kept, and the same handles work again. */
#define _GNU_SOURCE
#include "folder_case.h"
#include "model_case.h"

#include <jansson.h>

#include "fault_layer.h"
#include "tiny_gguf.h"

/* One run over all steps with one set of handles. A step that fails is done again, undisturbed. */
typedef struct run {
    clf_context *ctx;
    const char *path, *saved;
    bool map;
    clf_model *model;
    clf_session *session, *fork;
    clf_sampler *sampler;
    char text[1024];
    size_t length;
} run;

static bool on_text(void *user, const char *text, size_t length, int32_t id) {
    run *r = user;
    (void)id;
    memcpy(r->text + r->length, text, length);
    r->length += length;
    return true;
}

static clf_status load(run *r) {
    return clf_model_load(&r->model,
                          &(clf_model_args){.path = r->path, .mmap = r->map, .contexts = &r->ctx, .n_contexts = 1});
}
static clf_status open_it(run *r) {
    return clf_session_create(
        &r->session,
        &(clf_session_args){
            .model = r->model, .context_length = 24, .kv_dtype = CLF_F16, .evict = true, .keep = 2, .chunk = 6});
}
static clf_status make_sampler(run *r) {
    static const int32_t ids[] = {2, 0};
    static const float bias[] = {-INFINITY, -1};
    return clf_sampler_create(
        &r->sampler,
        &(clf_sampler_args){
            .temperature = 0.5f, .top_k = 20, .repetition_penalty = 1.1f, .bias_ids = ids, .bias = bias, .n_bias = 2});
}
static clf_status generate(run *r) {
    static const int32_t prompt[] = {1, 300, 301, 302, 303, 304, 305, 306};
    static const char *const stop[] = {"never there"};
    r->length = 0;
    clf_sampler_destroy(r->sampler); /* begins anew */
    clf_status st = make_sampler(r);
    if (st == CLF_OK) st = clf_session_clear(r->session);
    if (st == CLF_OK)
        st = clf_generate(r->session,
                          &(clf_generate_args){.prompt = prompt,
                                               .n_prompt = 8,
                                               .tokens = 24,
                                               .sampler = r->sampler,
                                               .stop = stop,
                                               .n_stop = 1,
                                               .text = on_text,
                                               .user = r},
                          NULL);
    return st;
}
static clf_status evaluate(run *r) { /* as before on failure, so that doing it again gives the same */
    static const int32_t ids[] = {400, 401, 402, 403, 404, 405, 406, 407, 408};
    float logits[9][TINY_VOCAB];
    const int64_t position = clf_session_position(r->session);
    const clf_status st = clf_session_eval(r->session, ids, 9, CLF_LOGITS_ALL, logits[0]);
    assert_int_equal(clf_session_position(r->session), position + (st == CLF_OK ? 9 : 0));
    return st;
}
static clf_status fork_it(run *r) {
    return clf_session_fork(&r->fork, r->session);
}
static clf_status save(run *r) {
    return clf_session_save(r->fork, r->saved);
}
static clf_status load_session(run *r) {
    const int64_t position = clf_session_position(r->session);
    const clf_status st = clf_session_load(r->session, r->saved);
    assert_int_equal(clf_session_position(r->session), position);
    return st;
}
static clf_status go_on(run *r) {
    const int64_t before = clf_session_position(r->session);
    const size_t length = r->length;
    clf_status st = clf_generate(r->session, &(clf_generate_args){.tokens = 1, .text = on_text, .user = r}, NULL);
    if (st == CLF_OK) return CLF_OK;
    r->length = length;
    assert_int_equal(clf_session_position(r->session), before);
    return st;
}

static clf_status judge(run *r) {
    int32_t ids[24];
    clf_evaluation e;
    for (int i = 0; i < 24; i++) ids[i] = 300 + 7 * i;
    return clf_evaluate(&e,
                        &(clf_evaluate_args){.model = r->model, .base = r->model, .ids = ids, .n = 24, .context = 8});
}
static clf_status importance(run *r) { /* a file that is whole, or none */
    int32_t ids[8];
    char path[310];
    clf_importance *m;
    for (int i = 0; i < 8; i++) ids[i] = 300 + 7 * i;
    snprintf(path, sizeof path, "%s.imatrix", r->saved);
    clf_status st = clf_importance_create(&m, r->model, 8);
    if (st == CLF_OK) st = clf_importance_add(m, ids, 8);
    if (st == CLF_OK) st = clf_importance_save(m, path, "text");
    clf_importance_destroy(m);
    assert_int_equal(unlink(path) == 0, st == CLF_OK);
    return st;
}

static const struct step {
    const char *name;
    clf_status (*call)(run *r);
} steps[] = {{"load", load},
             {"session", open_it},
             {"generate", generate},
             {"eval", evaluate},
             {"fork", fork_it},
             {"save", save},
             {"load session", load_session},
             {"go on", go_on},
             {"judge", judge},
             {"importance", importance}};

static void finish(run *r) {
    clf_sampler_destroy(r->sampler);
    clf_session_destroy(r->fork);
    clf_session_destroy(r->session);
    clf_model_destroy(r->model);
}

/* Returns whether anything failed. */
static bool all_steps(run *r, int after) {
    bool failed = false;
    inject(after);
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const clf_status st = steps[i].call(r);
        const bool hit = atomic_load(&hits) > 0;
        if (st == CLF_OK) continue;
        if (!hit)
            fail_msg("%s, nothing failing: %s: %s", steps[i].name, clf_status_string(st), clf_error_message(r->ctx));
        failed = true;
        inject_nothing();
        if (steps[i].call != generate && !*clf_error_message(r->ctx))
            fail_msg("%s, failing call %d: no message", steps[i].name, after);
        const clf_status again = steps[i].call(r);
        if (again != CLF_OK)
            fail_msg("%s, after failing call %d: %s: %s", steps[i].name, after, clf_status_string(again),
                     clf_error_message(r->ctx));
        atomic_store(&hits, 1);
    }
    const bool hit = atomic_load(&hits) > 0;
    inject_nothing();
    return failed || hit;
}

static void every_failure_is_an_error(void **state) {
    (void)state;
    inject_nothing();
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    const char *path = in_folder("tiny.gguf"), *saved = in_folder("session");
    tiny_gguf gguf = tiny_gguf_make();
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(gguf.data, 1, gguf.size, file), gguf.size);
    fclose(file);
    free(gguf.data);

    run want = {.ctx = open_context("cpu", 0), .path = path, .saved = saved};
    assert_false(all_steps(&want, 1 << 30));
    finish(&want);
    int runs = 0;
    for (int mode = 0; mode < 4; mode++) {
        lasting = mode & 1;
        for (int after = 0;; after++, runs++) {
            run r = {.ctx = want.ctx, .path = path, .saved = saved, .map = mode >> 1};
            clf_memory_stats stats;
            clf_memory_trim(r.ctx);
            const int before = atomic_load(&outstanding);
            const bool failed = all_steps(&r, after);
            assert_int_equal(r.length, want.length);
            assert_memory_equal(r.text, want.text, want.length);
            finish(&r);
            assert_ok(r.ctx, clf_memory_get_stats(r.ctx, &stats));
            assert_int_equal(stats.in_use, 0);
            assert_int_equal(stats.mapped, 0);
            clf_memory_trim(r.ctx);
            if (atomic_load(&outstanding) != before)
                fail_msg("failing call %d: %d blocks kept", after, atomic_load(&outstanding) - before);
            if (!failed) break;
        }
    }
    clf_context_destroy(want.ctx);
    print_message("%d failures injected\n", runs);
    assert_true(runs > 400);
}

static void contexts_too(void **state) {
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        lasting = mode;
        for (int after = 0;; after++) {
            clf_context *ctx = NULL;
            const int before = atomic_load(&outstanding);
            inject(after);
            const clf_status st = clf_context_create(&ctx, &(clf_context_args){.device = "cpu"});
            const bool hit = atomic_load(&hits) > 0;
            inject_nothing();
            assert_true(st == CLF_OK || (hit && !ctx));
            clf_context_destroy(ctx);
            assert_int_equal(atomic_load(&outstanding), before);
            if (!hit) break;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(contexts_too),
        cmocka_unit_test_setup_teardown(every_failure_is_an_error, make_folder, remove_folder)};
    inject_nothing();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
