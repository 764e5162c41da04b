/* print_logits.c: the logits of ids, as floats in binary, for scripts that compare them with other programs':
 * test-print_logits MODEL ID... Logits of every position, [ids, vocabulary]; the cache is F32. */
#include <stdio.h>
#include <stdlib.h>

#include <clformer/clformer.h>

enum { MOST = 1024 };

static int fail(const clf_context *ctx) {
    fprintf(stderr, "print_logits: %s\n", clf_error_message(ctx));
    return EXIT_FAILURE;
}

static int print(clf_context *ctx, clf_model *m, const int32_t *ids, int64_t n) {
    clf_session *s;
    clf_model_info info;
    clf_model_get_info(m, &info);
    const size_t values = (size_t)n * (size_t)info.vocab_size;
    float *logits = malloc(values * sizeof *logits);
    if (!logits) return EXIT_FAILURE;
    int code = EXIT_SUCCESS;
    const clf_session_args args = {.model = m, .context_length = n, .kv_dtype = CLF_F32};
    if (clf_session_create(&s, &args) != CLF_OK || clf_session_eval(s, ids, n, CLF_LOGITS_ALL, logits) != CLF_OK)
        code = fail(ctx);
    else if (fwrite(logits, sizeof *logits, values, stdout) != values)
        code = EXIT_FAILURE;
    clf_session_destroy(s);
    free(logits);
    return code;
}

int main(int argc, char **argv) {
    char message[512];
    clf_context *ctx;
    clf_model *m;
    int32_t ids[MOST];
    if (argc < 3 || argc - 2 > MOST) return EXIT_FAILURE;
    for (int i = 2; i < argc; i++) ids[i - 2] = atoi(argv[i]);
    if (clf_context_create(&ctx, &(clf_context_args){.device = "cpu", .error = message, .error_size = 512}) != CLF_OK)
        return EXIT_FAILURE;
    int code;
    if (clf_model_load(&m, &(clf_model_args){.path = argv[1], .mmap = true, .contexts = &ctx, .n_contexts = 1}) ==
        CLF_OK) {
        code = print(ctx, m, ids, argc - 2);
        clf_model_destroy(m);
    } else {
        code = fail(ctx);
    }
    clf_context_destroy(ctx);
    return code;
}
