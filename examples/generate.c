/* generate.c: text from a model: continues a prompt, or talks (--chat). What a program needs is all here: open devices,
 * load, make a session and a sampler, generate with a callback, clean up. Text goes to stdout; progress and speed to
 * stderr, when that is a terminal. */
#define _GNU_SOURCE
#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <clformer/clformer.h>
#include <jansson.h>

#include "default_model/default_model.h"
#include "shared/numbers.h"
#include "shared/print_log.h"
#include "shared/read_file.h"

enum { MAX_STOPS = 16, INTERRUPTED = 130 };

typedef struct options {
    const char *model, *device, *adapter, *prompt, *file, *system, *stop[MAX_STOPS];
    size_t n_stop;
    int64_t tokens, context;
    int gpu_layers, threads;
    clf_dtype kv, compute;
    clf_sampler_args sampling;
    bool chat, json, no_mmap;
} options;

typedef struct program {
    options o;
    clf_context *context[2]; /* the device, and the CPU for what doesn't fit on it */
    int n_contexts;
    clf_model *model;
    clf_session *session;
    clf_sampler *sampler;
    bool quiet; /* text is collected only */
    char *text; /* collected by on_text() */
    size_t length, capacity;
} program;

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    (void)signal_number;
    interrupted = 1;
}

static int fail(const char *what, const char *why) {
    fprintf(stderr, "clformer-generate: %s: %s\n", what, why);
    return EXIT_FAILURE;
}

static int fail_status(const program *p, const char *what, clf_status st) {
    const char *message = p->n_contexts ? clf_error_message(p->context[0]) : "";
    return fail(what, *message ? message : clf_status_string(st));
}

static void on_progress(void *user, double share) {
    (void)user;
    fprintf(stderr, share < 1 ? "\rloading %3.0f %%" : "\r             \r", 100 * share);
}

/* Text as it is made: shown and collected. From the first piece on an interrupt ends the line, not the program. */
static bool on_text(void *user, const char *text, size_t length, int32_t id) {
    program *p = user;
    (void)id;
    signal(SIGINT, on_interrupt);
    if (!p->quiet) {
        fwrite(text, 1, length, stdout);
        fflush(stdout);
    }
    if (p->capacity - p->length <= length) {
        const size_t capacity = 2 * (p->length + length) + 1024;
        char *grown = realloc(p->text, capacity);
        if (!grown) return false;
        p->text = grown;
        p->capacity = capacity;
    }
    memcpy(p->text + p->length, text, length);
    p->text[p->length += length] = 0;
    return !interrupted && !ferror(stdout);
}

static int open_devices(program *p) {
    char message[512] = "";
    clf_context_args args = {.device = p->o.device,
                             .threads = p->o.threads,
                             .log = print_log,
                             .error = message,
                             .error_size = sizeof message};
    if (clf_context_create(&p->context[0], &args) != CLF_OK) return fail("device", message);
    p->n_contexts = 1;
    if (!strncmp(clf_context_backend(p->context[0]), "cpu", 3)) return 0;
    args.device = "cpu";
    if (clf_context_create(&p->context[1], &args) != CLF_OK) return fail("device cpu", message);
    p->n_contexts = 2;
    return 0;
}

static int load(program *p) {
    const int layers[] = {p->o.gpu_layers, INT_MAX};
    clf_model_args args = {.path = p->o.model,
                           .mmap = !p->o.no_mmap,
                           .contexts = p->context,
                           .n_contexts = p->n_contexts,
                           .layers = p->n_contexts > 1 && p->o.gpu_layers >= 0 ? layers : NULL,
                           .context_length = p->o.context,
                           .adapter = p->o.adapter,
                           .progress = isatty(STDERR_FILENO) ? on_progress : NULL};
    if (!args.path) {
        args.data = clf_default_model;
        args.data_size = clf_default_model_size();
        if (!args.data_size) return fail("model", "this build has no embedded model; give one with --model");
    }
    clf_status st = clf_model_load(&p->model, &args);
    if (st != CLF_OK) return fail_status(p, "model", st);
    if (!clf_model_tokenizer(p->model)) return fail("model", "it has no tokenizer");
    st = clf_session_create(&p->session, &(clf_session_args){.model = p->model,
                                                             .context_length = p->o.context,
                                                             .kv_dtype = p->o.kv,
                                                             .compute = p->o.compute,
                                                             .evict = !p->o.chat,
                                                             .keep = p->o.chat ? 0 : 4});
    if (st != CLF_OK) return fail_status(p, "session", st);
    st = clf_sampler_create(&p->sampler, &p->o.sampling);
    return st == CLF_OK ? 0 : fail("sampling", "a value is out of range");
}

static void close_all(program *p) {
    clf_sampler_destroy(p->sampler);
    clf_session_destroy(p->session);
    clf_model_destroy(p->model);
    for (int i = p->n_contexts; i-- > 0;) clf_context_destroy(p->context[i]);
    free(p->text);
}

static void print_speed(int64_t prompt, const clf_generate_result *r) {
    if (!isatty(STDERR_FILENO)) return;
    fprintf(stderr, "[prompt %lld tokens, %.1f tokens/s; then %lld tokens, %.1f tokens/s]\n", (long long)prompt,
            (double)prompt / (r->prompt_seconds + 1e-9), (long long)r->tokens, (double)r->tokens / (r->seconds + 1e-9));
}

static int print_json(const program *p, const char *prompt, size_t length, int64_t n_prompt,
                      const clf_generate_result *r) {
    static const char *const reasons[] = {"length", "end", "stop", "full", "interrupted"};
    json_t *root = json_pack("{s:s, s:s%, s:s%, s:I, s:I, s:s, s:f, s:f}", "device", clf_context_device(p->context[0]),
                             "prompt", prompt, length, "text", p->text ? p->text : "", p->length, "prompt_tokens",
                             (json_int_t)n_prompt, "tokens", (json_int_t)r->tokens, "reason", reasons[r->reason],
                             "prompt_seconds", r->prompt_seconds, "seconds", r->seconds);
    if (!root) return fail("json", "the prompt isn't UTF-8, or memory is short");
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
    return 0;
}

/* The ids of a text, to be freed. */
static int32_t *tokenize(const program *p, const char *text, size_t length, size_t *count) {
    const clf_tokenizer *t = clf_model_tokenizer(p->model);
    clf_tokenize(t, text, length, CLF_TOKENIZE_ADD_SPECIAL, NULL, 0, count);
    int32_t *ids = malloc((*count + 1) * sizeof *ids);
    if (ids) clf_tokenize(t, text, length, CLF_TOKENIZE_ADD_SPECIAL, ids, *count, count);
    return ids;
}

static clf_status generate(program *p, const int32_t *ids, size_t n, clf_generate_result *result) {
    return clf_generate(p->session,
                        &(clf_generate_args){.prompt = ids,
                                             .n_prompt = (int64_t)n,
                                             .tokens = p->o.tokens,
                                             .sampler = p->sampler,
                                             .stop = p->o.stop,
                                             .n_stop = p->o.n_stop,
                                             .text = on_text,
                                             .user = p},
                        result);
}

static int continue_prompt(program *p) {
    size_t n = 0, length = strlen(p->o.prompt);
    char *from_file = p->o.file ? read_file(p->o.file, &length) : NULL;
    if (p->o.file && !from_file) return fail(p->o.file, strerror(errno));
    const char *prompt = from_file ? from_file : p->o.prompt;
    clf_generate_result result;
    int32_t *ids = tokenize(p, prompt, length, &n);
    p->quiet = p->o.json;
    if (!p->quiet) {
        fwrite(prompt, 1, length, stdout);
        fflush(stdout);
    }
    const clf_status st = ids ? generate(p, ids, n, &result) : CLF_OUT_OF_MEMORY;
    if (!p->quiet) putchar('\n');
    int code = st == CLF_OK ? 0 : fail_status(p, "generate", st);
    if (!code && p->o.json) code = print_json(p, prompt, length, (int64_t)n, &result);
    if (!code) print_speed((int64_t)n, &result);
    free(ids);
    free(from_file);
    return code;
}

/* A conversation, and the tokens of it that the session holds. */
typedef struct conversation {
    clf_chat_message *messages; /* contents are owned */
    size_t n_messages;
    int32_t *ids;
    size_t n_ids;
} conversation;

static bool say(conversation *c, const char *role, const char *content) {
    clf_chat_message *grown = realloc(c->messages, (c->n_messages + 1) * sizeof *grown);
    char *copy = strdup(content);
    if (grown) c->messages = grown;
    if (!grown || !copy) return free(copy), false;
    c->messages[c->n_messages++] = (clf_chat_message){role, copy};
    return true;
}

/* Answers the conversation so far. Its tokens are compared with those the session has seen: only what is new is
 * evaluated. */
static clf_status answer(program *p, conversation *c, clf_generate_result *result) {
    const clf_tokenizer *t = clf_model_tokenizer(p->model);
    size_t n = 0, same = 0;
    clf_status st = clf_tokenize_chat(t, c->messages, c->n_messages, true, NULL, 0, &n);
    if (st != CLF_OK && st != CLF_FULL) return st;
    int32_t *ids = malloc((n + 1) * sizeof *ids);
    if (!ids) return CLF_OUT_OF_MEMORY;
    st = clf_tokenize_chat(t, c->messages, c->n_messages, true, ids, n, &n);
    while (same + 1 < n && same < c->n_ids && ids[same] == c->ids[same]) same++;
    if (st == CLF_OK) st = clf_session_rewind(p->session, (int64_t)same);
    free(c->ids);
    c->ids = ids;
    c->n_ids = n;
    if (st == CLF_OK) st = generate(p, ids + same, n - same, result);
    if (st == CLF_OK) print_speed((int64_t)(n - same), result);
    return st;
}

static int chat(program *p) {
    conversation c = {0};
    char *line = NULL;
    size_t size = 0;
    int code = !p->o.system || say(&c, "system", p->o.system) ? 0 : fail("chat", "out of memory");
    while (!code && !interrupted) {
        if (isatty(STDIN_FILENO)) fputs("> ", stderr);
        ssize_t n = getline(&line, &size, stdin);
        if (n < 0) break;
        if (n && line[n - 1] == '\n') line[n - 1] = 0;
        clf_generate_result result;
        p->length = 0;
        if (!say(&c, "user", line)) code = fail("chat", "out of memory");
        if (code) break;
        const clf_status st = answer(p, &c, &result);
        putchar('\n');
        fflush(stdout);
        if (st == CLF_UNSUPPORTED)
            code = fail("chat", "the model has no chat template of a known family");
        else if (st != CLF_OK)
            code = fail_status(p, "chat", st);
        else if (!say(&c, "assistant", p->text ? p->text : ""))
            code = fail("chat", "out of memory");
    }
    for (size_t i = 0; i < c.n_messages; i++) free((void *)(uintptr_t)c.messages[i].content);
    free(c.messages);
    free(c.ids);
    free(line);
    return code;
}

enum {
    TOP_P = 256,
    MIN_P,
    REPEAT_PENALTY,
    SEED,
    GPU_LAYERS,
    THREADS,
    CTX,
    CHAT,
    SYSTEM,
    ADAPTER,
    STOP,
    KV,
    COMPUTE,
    NO_MMAP,
    JSON
};

static const struct argp_option flags[] = {
    {"model", 'm', "PATH", 0, "GGUF file or Hugging Face folder (default: a small embedded one)", 1},
    {"prompt", 'p', "TEXT", 0, "the text to continue", 1},
    {"file", 'f', "FILE", 0, "read the prompt from FILE, or from stdin with -", 1},
    {"tokens", 'n', "N", 0, "most tokens to make (default 200; 0: until the end)", 1},
    {"chat", CHAT, NULL, 0, "talk: a line of stdin is a turn", 1},
    {"system", SYSTEM, "TEXT", 0, "what a chat begins with", 1},
    {"stop", STOP, "STR", 0, "end before this text; may be repeated", 1},
    {"json", JSON, NULL, 0, "print one JSON object", 1},
    {"temperature", 't', "T", 0, "0: the likeliest token always (default 0.8)", 2},
    {"top-k", 'k', "K", 0, "choose among the K likeliest", 2},
    {"top-p", TOP_P, "P", 0, "choose among the likeliest that have probability P together (default 0.95)", 2},
    {"min-p", MIN_P, "P", 0, "drop what is less likely than P times the likeliest", 2},
    {"repeat-penalty", REPEAT_PENALTY, "R", 0, "make recent tokens less likely (default 1: don't)", 2},
    {"seed", SEED, "N", 0, "same seed, same text (default: the time)", 2},
    {"device", 'd', "D", 0, "auto, cpu, cpu-avx2, opencl, opencl:1 … (clformer-info lists them)", 3},
    {"gpu-layers", GPU_LAYERS, "N", 0, "most layers on the device, the rest on the CPU (default: as many as fit)", 3},
    {"threads", THREADS, "N", 0, "CPU threads (default: one per core)", 3},
    {"ctx", CTX, "N", 0, "positions in the cache (default: what the model was trained for, 4096 at most)", 3},
    {"kv", KV, "DTYPE", 0, "dtype of the cache: f32, f16, bf16, q8_0, q4_0 (default f16)", 3},
    {"compute", COMPUTE, "f32|f16|bf16", 0, "dtype of what flows between ops; tensor cores take 16 bits (default f32)",
     3},
    {"adapter", ADAPTER, "PATH", 0, "LoRA: a PEFT folder or a GGUF adapter", 3},
    {"no-mmap", NO_MMAP, NULL, 0, "read the file instead of mapping it", 3},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state) {
    options *o = state->input;
    switch (key) {
    case 'm': o->model = arg; return 0;
    case 'p': o->prompt = arg; return 0;
    case 'f': o->file = arg; return 0;
    case 'n': o->tokens = whole_number(state, "tokens", arg, 0, INT32_MAX); return 0;
    case 't': o->sampling.temperature = (float)number(state, "temperature", arg, 0, 100); return 0;
    case 'k': o->sampling.top_k = (int)whole_number(state, "top-k", arg, 0, INT32_MAX); return 0;
    case 'd': o->device = arg; return 0;
    case TOP_P: o->sampling.top_p = (float)number(state, "top-p", arg, 0, 1); return 0;
    case MIN_P: o->sampling.min_p = (float)number(state, "min-p", arg, 0, 1); return 0;
    case REPEAT_PENALTY:
        o->sampling.repetition_penalty = (float)number(state, "repeat-penalty", arg, 0, 1000);
        return 0;
    case SEED: o->sampling.seed = (uint64_t)whole_number(state, "seed", arg, 0, INT64_MAX); return 0;
    case GPU_LAYERS: o->gpu_layers = (int)whole_number(state, "gpu-layers", arg, 0, INT32_MAX); return 0;
    case THREADS: o->threads = (int)whole_number(state, "threads", arg, 0, 4096); return 0;
    case CTX: o->context = whole_number(state, "ctx", arg, 0, INT32_MAX); return 0;
    case CHAT: o->chat = true; return 0;
    case SYSTEM: o->system = arg; return 0;
    case ADAPTER: o->adapter = arg; return 0;
    case NO_MMAP: o->no_mmap = true; return 0;
    case JSON: o->json = true; return 0;
    case STOP:
        if (!*arg || o->n_stop == MAX_STOPS) argp_error(state, "--stop: expected up to %d texts", MAX_STOPS);
        o->stop[o->n_stop++] = arg;
        return 0;
    case KV:
        if (clf_dtype_from_name(&o->kv, arg) != CLF_OK)
            argp_error(state, "--kv: expected f32, f16, bf16, q8_0 or q4_0, got '%s'", arg);
        return 0;
    case COMPUTE:
        if (clf_dtype_from_name(&o->compute, arg) != CLF_OK || o->compute > CLF_BF16)
            argp_error(state, "--compute: expected f32, f16 or bf16, got '%s'", arg);
        return 0;
    case ARGP_KEY_ARG: argp_error(state, "unexpected '%s'; the prompt goes after --prompt", arg); return 0;
    case ARGP_KEY_END:
        if (o->chat && (o->json || o->file || *o->prompt))
            argp_error(state, "--chat reads its turns from stdin: no --prompt, --file or --json");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    const struct argp argp = {flags, parse, NULL, "Continues a prompt with a language model, or talks with it.",
                              NULL,  NULL,  NULL};
    program p = {.o = {.prompt = "", .tokens = 200, .gpu_layers = -1, .kv = CLF_F16}};
    p.o.sampling = (clf_sampler_args){.temperature = 0.8f, .top_p = 0.95f, .seed = (uint64_t)time(NULL)};
    argp_parse(&argp, argc, argv, 0, NULL, &p.o);
    int code = open_devices(&p);
    if (!code) code = load(&p);
    if (!code) code = p.o.chat ? chat(&p) : continue_prompt(&p);
    if (!code && (fflush(stdout) || ferror(stdout))) code = fail("stdout", "cannot write");
    close_all(&p);
    return interrupted ? INTERRUPTED : code;
}
