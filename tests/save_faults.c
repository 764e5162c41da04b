/* save_faults.c: every allocation and every file call of saving made to fail in turn, once alone and once with all that
 * follow. Each time: an error with a message or a whole result, never anything between; nothing kept, nothing left
 * over; and what stood there before still stands, to the byte. */
#define _GNU_SOURCE
#include "folder_case.h"
#include "model_case.h"

#include <jansson.h>

#include "../lib/model/folder_from_gguf.h"
#include "../lib/model/model.h"
#include "fault_layer.h"

/* calls that only folders need */
int __real_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);
DIR *__real_opendir(const char *path);
DIR *__wrap_opendir(const char *path);

int __wrap_renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return fails() ? -1 : __real_renameat2(a, from, b, to, flags);
}
int __wrap_mkdir(const char *path, mode_t mode) {
    return fails() ? -1 : __real_mkdir(path, mode);
}
DIR *__wrap_opendir(const char *path) {
    return fails() ? NULL : __real_opendir(path);
}

/* All of a file, to be freed. */
static char *bytes_of(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s: isn't there", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

typedef enum kind { MODEL, ADAPTER, QUANTIZED } kind;

typedef struct saving {
    const char *name;
    kind kind;
    const char *files[4]; /* below it; "": itself */
    const char *source;   /* of what is quantised */
} saving;

static clf_status save(const saving *s, clf_context *ctx, const clf_model *m, const char *path) {
    if (s->kind == QUANTIZED)
        return clf_quantize(ctx, &(clf_quantize_args){.input = s->source, .output = path, .type = "q8_0"}, NULL);
    return s->kind == ADAPTER ? clf_model_save_adapter(m, &(clf_adapter_save_args){.path = path, .base_model = "base"})
                              : clf_model_save(m, &(clf_model_save_args){.path = path, .dtype = "f16"});
}

/* The files of a saving that went well, and whether they are there again. */
typedef struct result {
    char *data[4];
    size_t size[4];
} result;

static result read_result(const saving *s, const char *path) {
    result r = {0};
    for (int i = 0; i < 4 && s->files[i]; i++) {
        char file[600];
        snprintf(file, sizeof file, "%s%s", path, s->files[i]);
        r.data[i] = bytes_of(file, &r.size[i]);
    }
    return r;
}

static void check_result(const saving *s, const char *path, const result *want, int after) {
    result got = read_result(s, path);
    for (int i = 0; i < 4 && s->files[i]; i++) {
        if (got.size[i] != want->size[i] || memcmp(got.data[i], want->data[i], want->size[i]))
            fail_msg("%s%s, failing call %d: isn't what it was", s->name, s->files[i], after);
        free(got.data[i]);
    }
}

static int fail_each(const saving *s, clf_context *ctx, clf_model *m) {
    const char *path = in_folder(s->name);
    int runs = 0;
    assert_ok(ctx, save(s, ctx, m, path));
    result want = read_result(s, path);
    const int entries = entries_of(folder);
    for (int mode = 0; mode < 2; mode++)
        for (int after = 0;; after++, runs++) {
            lasting = mode;
            clf_memory_trim(ctx);
            const int before = atomic_load(&outstanding);
            inject(after);
            const clf_status st = save(s, ctx, m, path);
            const int failures = atomic_load(&hits);
            inject_nothing();
            if (st != CLF_OK && !*clf_error_message(ctx)) fail_msg("%s, failing call %d: no message", s->name, after);
            if (st != CLF_OK && !failures) fail_msg("%s, nothing failing: %s", s->name, clf_error_message(ctx));
            clf_memory_trim(ctx);
            if (atomic_load(&outstanding) != before)
                fail_msg("%s, failing call %d: %d blocks kept", s->name, after, atomic_load(&outstanding) - before);
            if (entries_of(folder) != entries) fail_msg("%s, failing call %d: something is left over", s->name, after);
            check_result(s, path, &want, after);
            if (!failures) break;
        }
    for (int i = 0; i < 4; i++) free(want.data[i]);
    return runs;
}

/* A tokenizer as text, whose allocations are thousands, jansson's among them: some of them fail. */
static int fail_some(const clf_tokenizer *t) {
    int runs = 0;
    for (int mode = 0; mode < 2; mode++)
        for (int after = 0;; after += 1 + after / 16, runs++) {
            char *text = NULL;
            clf_error err = {0};
            lasting = mode;
            const int before = atomic_load(&outstanding);
            inject(after);
            const clf_status st = clf_folder_tokenizer(&text, t, &err);
            const int failures = atomic_load(&hits);
            inject_nothing();
            assert_true((st == CLF_OK) == (text != NULL) && (st == CLF_OK) == !*err.message);
            free(text);
            if (atomic_load(&outstanding) != before)
                fail_msg("tokenizer.json, failing call %d: %d blocks kept", after, atomic_load(&outstanding) - before);
            if (!failures) break;
        }
    return runs;
}

static void every_failure_leaves_the_old(void **state) {
    (void)state;
    static const saving savings[] = {
        {"peft", ADAPTER, {"/adapter_config.json", "/adapter_model.safetensors"}, NULL},
        {"adapter.gguf", ADAPTER, {""}, NULL},
        {"folder", MODEL, {"/config.json", "/model.safetensors"}, NULL},
        {"model.gguf", MODEL, {""}, NULL},
        {"made-folder", MODEL, {"/config.json", "/model.safetensors"}, NULL},
    };
    inject_nothing();
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    clf_context *ctx = open_context("cpu", 0);
    int runs = 0;
    for (int i = 0; i < 5; i++) {
        clf_model *m;
        const clf_model_args args = {.path = i >= 3 ? "golden/gguf/llama.gguf" : "golden/models/llama",
                                     .adapter = "golden/adapters/llama",
                                     .mmap = true,
                                     .contexts = &ctx,
                                     .n_contexts = 1};
        assert_ok(ctx, clf_model_load(&m, &args));
        runs += fail_each(&savings[i], ctx, m);
        if (i ==
            3) { /* as if its file had been closed: it is opened again; jansson, which reads folders, may abort then */
            clf_model_file *file = m->file;
            m->file = NULL;
            runs += fail_each(&savings[i], ctx, m);
            m->file = file;
        }
        clf_model_destroy(m);
    }
    static const saving quantized[] = {{"quantized.gguf", QUANTIZED, {""}, "golden/gguf/llama3.gguf"},
                                       {"converted.gguf", QUANTIZED, {""}, "golden/models/llama3"}};
    static const saving tokenized = {
        "tokenized", MODEL, {"/config.json", "/model.safetensors", "/tokenizer.json", "/tokenizer_config.json"}, NULL};
    clf_model *m;
    const clf_model_args args = {
        .path = "../examples/default_model/default.gguf", .mmap = true, .contexts = &ctx, .n_contexts = 1};
    assert_ok(ctx, clf_model_load(&m, &args));
    runs += fail_some(clf_model_tokenizer(m));
    json_set_alloc_funcs(__real_malloc, __real_free); /* without memory jansson reads wrong numbers and says nothing */
    runs += fail_each(&tokenized, ctx, m);
    clf_model_destroy(m);
    for (int i = 0; i < 2; i++) runs += fail_each(&quantized[i], ctx, NULL);
    clf_context_destroy(ctx);
    print_message("%d failures injected\n", runs);
    assert_true(runs > 400);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_failure_leaves_the_old)};
    inject_nothing();
    return cmocka_run_group_tests_name("save_faults", tests, make_folder, remove_folder);
}
