/* bench.c: clformer-bench: the machine's roofs, the ops, a model; what each is in docs/benchmarks.md. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

enum {
    KEY_ROOFS = 256,
    KEY_PREFILL,
    KEY_DECODE,
    KEY_CONTEXT,
    KEY_KV,
    KEY_JSON,
    KEY_DTYPE,
    KEY_VARIANT,
    KEY_SECONDS,
    KEY_NO_ROOFS,
    KEY_UNFUSED,
    KEY_TRAIN,
    KEY_TOKENS,
    KEY_CHECKPOINTING,
    KEY_FULL,
    KEY_QUANTIZE,
    KEY_8BIT,
    KEY_SPARSITY
};

static const struct argp_option options[] = {
    {"device", 'd', "NAME", 0, "Device (default: cpu, the best table)", 0},
    {"threads", 't', "N", 0, "CPU threads", 0},
    {"op", 'o', "NAME", 0, "Time this op; repeatable (default: all, unless --model is given)", 0},
    {"dtype", KEY_DTYPE, "T", 0, "Activations of the ops, f32, f16 or bf16 (default f32)", 0},
    {"variant", KEY_VARIANT, "N", 0, "Time this variant of the ops alone, as numbered in the JSON", 0},
    {"unfused", KEY_UNFUSED, "N", 0, "Time causal attention over N positions beside its unfused form", 0},
    {"sparsity", KEY_SPARSITY, 0, 0, "Time a ternary matrix, dense and block-sparse, by what is empty of it", 0},
    {"model", 'm', "PATH", 0, "Time this GGUF file or Hugging Face folder", 0},
    {"prefill", KEY_PREFILL, "N", 0, "Tokens of the prompt (default 256)", 0},
    {"decode", KEY_DECODE, "N", 0, "Tokens decoded one by one (default 32)", 0},
    {"context", KEY_CONTEXT, "N", 0, "Tokens in the cache before decoding (default: the prompt's)", 0},
    {"kv", KEY_KV, "DTYPE", 0, "KV cache: f32, f16, bf16, q8_0, q4_0 (default f16)", 0},
    {"train", KEY_TRAIN, "PATH", 0, "Time steps of fine-tuning this model: LoRA of rank 16, in --dtype", 0},
    {"tokens", KEY_TOKENS, "N", 0, "Tokens of a step (default 512)", 0},
    {"checkpointing", KEY_CHECKPOINTING, "N", 0, "Keep the inputs of every n-th block only (default 0: keep all)", 0},
    {"full", KEY_FULL, 0, 0, "Train all weights", 0},
    {"quantize", KEY_QUANTIZE, "nf4", 0, "Quantise the blocks' matrices when loading", 0},
    {"8bit", KEY_8BIT, 0, 0, "Optimizer state in 8 bits", 0},
    {"seconds", KEY_SECONDS, "S", 0, "Timed runs of each figure (default 0.5)", 0},
    {"roofs", KEY_ROOFS, 0, 0, "Measure the roofs alone", 0},
    {"no-roofs", KEY_NO_ROOFS, 0, 0, "Leave the roofs out", 0},
    {"json", KEY_JSON, "FILE", 0, "Write the figures there", 0},
    {0}};

static int64_t count(struct argp_state *state, const char *text) {
    char *end;
    const long long n = strtoll(text, &end, 10);
    if (end == text || *end || n < 0) argp_error(state, "expected a number, got '%s'", text);
    return n;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    bench_settings *s = state->input;
    clf_dtype dtype;
    switch (key) {
    case 'd': s->device = text; break;
    case 't': s->threads = (int)count(state, text); break;
    case 'o':
        if (s->n_only == (int)(sizeof s->only / sizeof *s->only)) argp_error(state, "too many ops");
        s->only[s->n_only++] = text;
        break;
    case 'm': s->model = text; break;
    case KEY_PREFILL: s->prefill = count(state, text); break;
    case KEY_DECODE: s->decode = count(state, text); break;
    case KEY_CONTEXT: s->context = count(state, text); break;
    case KEY_DTYPE:
    case KEY_KV:
        if (clf_dtype_from_name(&dtype, text) != CLF_OK || (key == KEY_DTYPE && dtype > CLF_BF16))
            argp_error(state, "unknown dtype '%s'", text);
        if (key == KEY_KV)
            s->kv_dtype = dtype;
        else
            s->dtype = (int)dtype;
        break;
    case KEY_VARIANT: s->variant = (int)count(state, text); break;
    case KEY_TRAIN: s->train = text; break;
    case KEY_TOKENS: s->train_tokens = count(state, text); break;
    case KEY_CHECKPOINTING: s->checkpointing = (int)count(state, text); break;
    case KEY_FULL: s->train_full = true; break;
    case KEY_8BIT: s->optimizer_8bit = true; break;
    case KEY_QUANTIZE:
        if (clf_dtype_from_name(&s->quantize, text) != CLF_OK) argp_error(state, "unknown dtype '%s'", text);
        break;
    case KEY_SECONDS: s->seconds = strtod(text, NULL); break;
    case KEY_UNFUSED: s->unfused = count(state, text); break;
    case KEY_SPARSITY: s->sparsity = true; break;
    case KEY_ROOFS: s->ops = false; break;
    case KEY_NO_ROOFS: s->roofs = false; break;
    case KEY_JSON: s->json = text; break;
    case ARGP_KEY_ARG: argp_error(state, "unexpected argument '%s'", text); break;
    default: return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv) {
    static const struct argp argp = {options, parse, NULL, "Times ops and models, next to what the machine can do.",
                                     0,       0,     0};
    bench_settings s = {.device = "cpu",
                        .seconds = 0.5,
                        .dtype = -1,
                        .variant = -1,
                        .roofs = true,
                        .ops = true,
                        .prefill = 256,
                        .decode = 32,
                        .kv_dtype = CLF_F16,
                        .train_tokens = 512};
    if (argp_parse(&argp, argc, argv, 0, 0, &s)) return 2;
    if ((s.model || s.unfused || s.train || s.sparsity) && !s.n_only) s.ops = false;

    clf_context *ctx;
    char message[512];
    const clf_context_args args = {
        .device = s.device, .threads = s.threads, .error = message, .error_size = sizeof message};
    if (clf_context_create(&ctx, &args) != CLF_OK) {
        fprintf(stderr, "%s\n", message);
        return 1;
    }
    const bool host = !strncmp(clf_context_backend(ctx), "cpu", 3); /* the roofs are the host's */
    bench_roofs roofs = {0};
    json_t *json = json_pack("{s:s, s:s, s:s, s:i}", "version", clf_version(), "device", clf_context_device(ctx),
                             "backend", clf_context_backend(ctx), "threads", clf_context_threads(ctx));
    bool ok = true;
    printf("clformer %s, %s\n", clf_version(), clf_context_device(ctx));
    if (s.roofs && host) {
        json_t *figures = json_object();
        ok &= bench_roof(ctx, &roofs, figures);
        json_object_set_new(json, "roofs", figures);
    }
    if (s.model) ok &= bench_model(&s, ctx, &roofs, json);
    if (s.train) ok &= bench_train(&s, ctx, json);
    if (s.unfused) ok &= bench_unfused(&s, ctx, json);
    if (s.sparsity) ok &= bench_sparsity(&s, ctx, json);
    if (s.ops) ok &= bench_ops(&s, ctx, &roofs, json);
    if (s.json && json_dump_file(json, s.json, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0) {
        fprintf(stderr, "%s: cannot be written\n", s.json);
        ok = false;
    }
    json_decref(json);
    clf_context_destroy(ctx);
    return ok ? 0 : 1;
}
