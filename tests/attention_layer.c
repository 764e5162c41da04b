/* attention_layer.c: what clf_attention_layer_memory() says against what the pool counts while the layer runs. */
#include "model_case.h"

#include "../lib/model/attention_layer.h"

/* Runs one layer of the model over `tokens` tokens at the end of a context. */
static void compare(const char *path, int64_t tokens, int64_t context, clf_dtype kv) {
    clf_context *ctx = open_context("cpu", 0);
    clf_model *m = load_model(&ctx, 1, path);
    const clf_config *c = &m->config;
    clf_kv_cache cache;
    clf_decoder d;
    assert_ok(ctx, clf_kv_cache_init(&cache, m, kv, context, 0));
    assert_ok(ctx, clf_decoder_init(&d, m, CLF_F32, tokens, context));
    cache.rows = context - tokens;
    clf_tensor h = clf_decoder_rows(&d.act[0][CLF_ACT_NORMED], 0, tokens);
    clf_tensor out = clf_decoder_rows(&d.act[0][CLF_ACT_HIDDEN], 0, tokens);
    float *zeros = calloc((size_t)(tokens * c->hidden_size), sizeof *zeros);
    assert_ok(ctx, clf_tensor_write(&h, zeros, clf_tensor_bytes(&h)));
    assert_ok(ctx, clf_memory_reset_peak(ctx));
    assert_ok(ctx, clf_attention_layer(&d, &cache, 0, &h, tokens, NULL, &out));
    clf_memory_stats s;
    assert_ok(ctx, clf_memory_get_stats(ctx, &s));

    clf_attention_layer_bytes said;
    const clf_attention_layer_memory_args args = {.hidden_size = c->hidden_size,
                                                  .n_heads = c->n_heads,
                                                  .n_kv_heads = c->n_kv_heads,
                                                  .head_dim = c->head_dim,
                                                  .v_dim = c->v_dim,
                                                  .tokens = tokens,
                                                  .context_length = context,
                                                  .weight_dtype = m->layers[0].weight[CLF_W_QUERY].dtype,
                                                  .kv_dtype = kv,
                                                  .threads = clf_context_threads(ctx)};
    assert_int_equal(clf_attention_layer_memory(&said, &args), CLF_OK);
    uint64_t activations = 0;
    const clf_activations inside[] = {CLF_ACT_QUERY, CLF_ACT_KEY, CLF_ACT_VALUE, CLF_ACT_ATTENDED};
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) activations += clf_tensor_bytes(&d.act[0][inside[i]]);
    const uint64_t kept = clf_tensor_bytes(&cache.key[0]) + clf_tensor_bytes(&cache.value[0]);
    const double counted = (double)(kept + activations + s.tag_peak[CLF_TAG_SCRATCH]);
    const double sum = (double)(said.kv_cache + said.activations + said.scratch);
    print_message("%-32s %4lld of %5lld: %+.2f %% of %.3f MB, unfused %.3f MB\n", path, (long long)tokens,
                  (long long)context, 100 * (sum / counted - 1), counted / 1e6,
                  (double)(said.kv_cache + said.activations + said.naive_scratch) / 1e6);
    assert_int_equal(said.kv_cache, kept);
    assert_int_equal(said.activations, activations);
    assert_true(fabs(sum / counted - 1) <= 0.05);
    free(zeros);
    clf_decoder_release(&d);
    clf_kv_cache_release(&cache);
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

static void said_is_counted(void **state) {
    (void)state;
    compare("golden/models/llama", 1, 512, CLF_F16);
    compare("golden/models/llama", 100, 512, CLF_F32);
    compare("golden/models/llama", 2048, 2048, CLF_F16);
    compare("golden/models/qwen3", 300, 1000, CLF_F16);
    compare("golden/models/gemma3", 512, 1024, CLF_F32);
    compare("golden/models/llama-wide", 100, 512, CLF_Q8_0);
    compare("golden/models/gemma2-wide", 1, 700, CLF_Q4_0);
}

static void refuses(void **state) {
    (void)state;
    clf_attention_layer_bytes b;
    const clf_attention_layer_memory_args good = {
        .hidden_size = 64, .n_heads = 4, .n_kv_heads = 2, .head_dim = 16, .tokens = 8, .context_length = 16};
    assert_int_equal(clf_attention_layer_memory(&b, &good), CLF_OK);
    assert_int_equal(clf_attention_layer_memory(NULL, &good), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_attention_layer_memory(&b, NULL), CLF_INVALID_ARGUMENT);
#define REFUSE(field, value)                                                                                           \
    do {                                                                                                               \
        clf_attention_layer_memory_args a = good;                                                                      \
        a.field = value;                                                                                               \
        assert_int_equal(clf_attention_layer_memory(&b, &a), CLF_INVALID_ARGUMENT);                                    \
    } while (0)
    REFUSE(hidden_size, -1);
    REFUSE(n_kv_heads, 3);
    REFUSE(head_dim, 257);
    REFUSE(tokens, 17);
    REFUSE(context_length, INT64_MAX);
    REFUSE(kv_dtype, CLF_Q4_0); /* of heads of 16 */
    REFUSE(kv_dtype, CLF_I32);
    REFUSE(n_kv_heads, INT64_MAX);
#undef REFUSE
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(said_is_counted), cmocka_unit_test(refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
