/* generate.c: what clf_generate() shows, where it stops and what it leaves behind, with a tiny random model. */
#include "model_case.h"

#include "tiny_gguf.h"

enum { TEXT = 4096, TOKENS = 60 };

typedef struct fixture {
    tiny_gguf gguf;
    clf_context *ctx;
    clf_model *model;
} fixture;

typedef struct output {
    char text[TEXT];
    size_t length;
    int32_t ids[256];
    int calls, stop_after; /* stop_after 0: never */
} output;

static int setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    f->gguf = tiny_gguf_make();
    f->ctx = open_context("cpu", 0);
    assert_ok(f->ctx, clf_model_load(&f->model, &(clf_model_args){.data = f->gguf.data,
                                                                  .data_size = f->gguf.size,
                                                                  .contexts = &f->ctx,
                                                                  .n_contexts = 1}));
    *state = f;
    return 0;
}

static int teardown(void **state) {
    fixture *f = *state;
    clf_model_destroy(f->model);
    clf_context_destroy(f->ctx);
    free(f->gguf.data);
    free(f);
    return 0;
}

static bool on_text(void *user, const char *text, size_t length, int32_t id) {
    output *o = user;
    memcpy(o->text + o->length, text, length);
    o->text[o->length += length] = 0;
    o->ids[o->calls++] = id;
    return o->calls != o->stop_after;
}

/* Generates from a fresh session; letters only, so that every token has text. */
static clf_generate_result run(const fixture *f, clf_session *s, output *o, clf_generate_args args) {
    int32_t bytes[259];
    float bias[259];
    for (int i = 0; i < 259; i++) bytes[i] = i, bias[i] = -INFINITY;
    const int32_t prompt[] = {1, 300, 301, 302};
    clf_generate_result result;
    clf_sampler *sampler;
    assert_int_equal(
        clf_sampler_create(
            &sampler, &(clf_sampler_args){.temperature = 1, .seed = 3, .bias_ids = bytes, .bias = bias, .n_bias = 259}),
        CLF_OK);
    if (!args.prompt) args.prompt = prompt, args.n_prompt = 4;
    if (!args.tokens) args.tokens = TOKENS;
    args.sampler = sampler;
    args.text = on_text;
    args.user = o;
    assert_ok(f->ctx, clf_generate(s, &args, &result));
    clf_sampler_destroy(sampler);
    return result;
}

static clf_session *session(const fixture *f) {
    return open_session(f->ctx, &(clf_session_args){.model = f->model});
}

static void text_is_the_tokens(void **state) {
    const fixture *f = *state;
    output o = {0};
    clf_session *s = session(f);
    const clf_generate_result r = run(f, s, &o, (clf_generate_args){0});
    assert_int_equal(r.reason, CLF_STOP_LENGTH);
    assert_int_equal(r.tokens, TOKENS);
    assert_int_equal(clf_session_position(s), 4 + TOKENS); /* every token made is in the session */
    int32_t ids[4 + TOKENS] = {1, 300, 301, 302};
    memcpy(ids + 4, o.ids, TOKENS * sizeof *ids);
    char all[TEXT], prompt[TEXT];
    size_t n, n_prompt;
    assert_int_equal(clf_detokenize(clf_model_tokenizer(f->model), ids, 4 + TOKENS, false, all, TEXT, &n), CLF_OK);
    assert_int_equal(clf_detokenize(clf_model_tokenizer(f->model), ids, 4, false, prompt, TEXT, &n_prompt), CLF_OK);
    assert_string_equal(o.text, all + n_prompt);
    clf_session_destroy(s);
}

static void going_on_is_as_if_never_stopped(void **state) {
    const fixture *f = *state;
    output whole = {0}, parts = {0};
    const int32_t prompt[] = {1, 300, 301, 302};
    clf_session *s = session(f);
    assert_ok(
        f->ctx,
        clf_generate(
            s,
            &(clf_generate_args){
                .prompt = prompt, .n_prompt = 4, .tokens = 40, .ignore_end = true, .text = on_text, .user = &whole},
            NULL));
    assert_ok(f->ctx, clf_session_clear(s));
    assert_int_equal(clf_generate(s, &(clf_generate_args){.tokens = 1}, NULL), CLF_INVALID_ARGUMENT); /* from what? */
    for (int i = 0; i < 4; i++)
        assert_ok(f->ctx, clf_generate(s,
                                       &(clf_generate_args){.prompt = prompt,
                                                            .n_prompt = i ? 0 : 4,
                                                            .tokens = 10,
                                                            .ignore_end = true,
                                                            .text = on_text,
                                                            .user = &parts},
                                       NULL));
    assert_memory_equal(parts.ids, whole.ids, 40 * sizeof *whole.ids);
    clf_session_destroy(s);
}

/* Every piece of the text as a stop string, of 1 to 9 bytes: what is shown ends right before its first occurrence. */
static void stop_strings_end_the_text(void **state) {
    const fixture *f = *state;
    output o = {0};
    clf_session *s = session(f);
    run(f, s, &o, (clf_generate_args){0});
    for (size_t length = 1; length < 10; length += 2)
        for (size_t at = 0; at + length <= o.length; at += 7) {
            output stopped = {0};
            char stop[10];
            memcpy(stop, o.text + at, length);
            stop[length] = 0;
            const char *const stops[] = {"never there", stop, "#"};
            assert_ok(f->ctx, clf_session_clear(s));
            const clf_generate_result r = run(f, s, &stopped, (clf_generate_args){.stop = stops, .n_stop = 3});
            assert_int_equal(r.reason, CLF_STOP_STRING);
            assert_int_equal(stopped.length, strstr(o.text, stop) - o.text);
            assert_memory_equal(stopped.text, o.text, stopped.length);
            assert_int_equal(clf_session_position(s), 4 + r.tokens);
        }
    /* one that begins often but never ends: nothing is lost */
    output held = {0};
    char almost[64];
    snprintf(almost, sizeof almost, "%.20s#", o.text + o.length - 20);
    const char *const stops[] = {almost};
    assert_ok(f->ctx, clf_session_clear(s));
    assert_int_equal(run(f, s, &held, (clf_generate_args){.stop = stops, .n_stop = 1}).reason, CLF_STOP_LENGTH);
    assert_string_equal(held.text, o.text);
    /* of two the one that is complete first, though the other begins before */
    output first = {0};
    char longer[16], shorter[4];
    snprintf(longer, sizeof longer, "%.9s#", o.text + 10);
    snprintf(shorter, sizeof shorter, "%.3s", o.text + 12);
    const char *const both[] = {longer, shorter};
    assert_ok(f->ctx, clf_session_clear(s));
    assert_int_equal(run(f, s, &first, (clf_generate_args){.stop = both, .n_stop = 2}).reason, CLF_STOP_STRING);
    assert_int_equal(first.length, strstr(o.text, shorter) - o.text);
    clf_session_destroy(s);
}

static void reasons(void **state) {
    const fixture *f = *state;
    output o = {.stop_after = 5};
    clf_session *s = session(f);
    clf_generate_result r = run(f, s, &o, (clf_generate_args){0});
    assert_int_equal(r.reason, CLF_STOP_CALLBACK);
    assert_int_equal(r.tokens, 5);
    assert_int_equal(clf_session_position(s), 9);
    clf_session_destroy(s);

    s = open_session(f->ctx, &(clf_session_args){.model = f->model, .context_length = 20});
    o = (output){0};
    r = run(f, s, &o, (clf_generate_args){0});
    assert_int_equal(r.reason, CLF_STOP_FULL);
    assert_int_equal(r.tokens, 16);
    assert_int_equal(o.calls, 16);
    clf_session_destroy(s);

    s = open_session(f->ctx, &(clf_session_args){.model = f->model, .context_length = 20, .evict = true, .keep = 2});
    o = (output){0};
    assert_int_equal(run(f, s, &o, (clf_generate_args){0}).reason, CLF_STOP_LENGTH);
    assert_int_equal(o.calls, TOKENS);
    assert_ok(f->ctx, clf_session_clear(s));

    const int32_t prompt[] = {1, 300}, end = 2;
    const float bias = 1000;
    clf_sampler *sampler; /* that always wants the end */
    assert_int_equal(clf_sampler_create(&sampler, &(clf_sampler_args){.bias_ids = &end, .bias = &bias, .n_bias = 1}),
                     CLF_OK);
    clf_generate_args args = {.prompt = prompt, .n_prompt = 2, .sampler = sampler, .tokens = 7};
    assert_ok(f->ctx, clf_generate(s, &args, &r));
    assert_int_equal(r.reason, CLF_STOP_END);
    assert_int_equal(r.tokens, 0);
    assert_int_equal(clf_session_position(s), 2);
    args.ignore_end = true;
    assert_ok(f->ctx, clf_generate(s, &args, &r));
    assert_int_equal(r.reason, CLF_STOP_LENGTH);
    assert_int_equal(r.tokens, 7);
    clf_sampler_destroy(sampler);
    clf_session_destroy(s);
}

static void wrong_arguments_are_refused(void **state) {
    const fixture *f = *state;
    clf_session *s = session(f);
    const int32_t prompt[] = {1, 300}, wrong[] = {1, TINY_VOCAB};
    const char *const empty[] = {""};
    const clf_generate_args bad[] = {{.n_prompt = 1},
                                     {.prompt = prompt, .n_prompt = -1},
                                     {.prompt = prompt, .n_prompt = 2, .tokens = -1},
                                     {.prompt = wrong, .n_prompt = 2, .tokens = 1},
                                     {.prompt = prompt, .n_prompt = 2, .stop = empty, .n_stop = 1},
                                     {.prompt = prompt, .n_prompt = 2, .n_stop = 1},
                                     {0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(clf_generate(s, &bad[i], NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_generate(s, NULL, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_generate(NULL, &bad[0], NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_session_position(s), 0);
    clf_session_destroy(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_the_tokens),          cmocka_unit_test(going_on_is_as_if_never_stopped),
        cmocka_unit_test(stop_strings_end_the_text),   cmocka_unit_test(reasons),
        cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
