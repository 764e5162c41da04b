/* packed.c: folders quantised by others (golden/packed, by make_packed.py): each weight as the formula has it, logits,
 * estimates, saving and quantising again, and parts that are missing or don't fit. */
#include "folder_case.h"
#include "model_case.h"

#include <sys/stat.h>
#include <unistd.h>

#include "../lib/model/model.h"
#include "../lib/model/nf4.h"
#include "../lib/model/safetensors_write.h"
#include "golden.h"

enum { MOST = 64 * 96, TOKENS = 8 };

/* Dtypes of q_proj, with rows of 64, and down_proj, with rows of 96; how far logits may be off: Q4_0 meets activations
 * rounded to int8, F16 is rounded itself. */
static const struct kind {
    const char *name;
    clf_dtype query, down;
    double logits;
} kinds[] = {
    {"nf4", CLF_NF4, CLF_F32, 5e-6},       {"nf4-floats", CLF_NF4, CLF_F32, 5e-6},
    {"gptq", CLF_Q4_0, CLF_Q4_0, 2e-2},    {"gptq-zeros", CLF_Q5_0, CLF_Q5_0, 5e-6},
    {"gptq-v2", CLF_Q5_0, CLF_Q5_0, 5e-6}, {"gptq-order", CLF_F16, CLF_F16, 2e-3},
    {"awq", CLF_Q5_0, CLF_Q5_0, 5e-6},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const char *path_of(const char *name, const char *file) {
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "golden/packed/%s%s%s", name, file ? "/" : "", file ? file : "");
    return p;
}

/* The weight is scale · (code − zero), to the bit; of F16 rounded to it. */
static void assert_weight(clf_context *ctx, const clf_tensor *t, clf_dtype dtype, golden_file *expect,
                          const char *name) {
    static float got[MOST];
    clf_tensor *floats;
    clf_tensor_args args = {.ndim = 2};
    const golden_tensor *e = golden_find(expect, name);
    assert_non_null(e);
    float *want = golden_floats(e);
    assert_int_equal(t->dtype, dtype);
    assert_int_equal(clf_tensor_elements(t), e->elements);
    memcpy(args.shape, t->shape, sizeof args.shape);
    assert_ok(ctx, clf_tensor_create(&floats, ctx, &args));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = t, .out = floats}));
    assert_ok(ctx, clf_tensor_read(floats, got, clf_tensor_bytes(floats)));
    for (int64_t i = 0; i < e->elements; i++) {
        const float w = dtype == CLF_F16 ? clf_f16_to_f32(clf_f32_to_f16(want[i])) : want[i];
        if (!(got[i] == w)) fail_msg("%s[%d]: expected %.9g, got %.9g", name, (int)i, (double)w, (double)got[i]);
    }
    clf_tensor_destroy(floats);
    free(want);
}

static void weights_mean_what_they_say(void **state) {
    (void)state;
    static const char *const devices[] = {"cpu", "cpu-scalar", "opencl"};
    for (int d = 0; d < 3; d++)
        for (int k = 0; k < KINDS; k++) {
            clf_device_info infos[32];
            bool usable = d == 0;
            int n = 0;
            clf_devices(infos, 32, &n);
            for (int i = 0; i < n && i < 32; i++)
                usable |= infos[i].usable && !strncmp(infos[i].name, devices[d], strlen(devices[d]));
            if (!usable) continue;
            clf_context *ctx = open_context(devices[d], 0);
            clf_model *m = load_model(&ctx, 1, path_of(kinds[k].name, NULL));
            golden_file *expect = golden_open(path_of(kinds[k].name, "expect.safetensors"));
            assert_non_null(expect);
            assert_weight(ctx, &m->layers[0].weight[CLF_W_QUERY], kinds[k].query, expect,
                          "model.layers.0.self_attn.q_proj.weight");
            assert_weight(ctx, &m->layers[0].weight[CLF_W_DOWN], kinds[k].down, expect,
                          "model.layers.0.mlp.down_proj.weight");
            float got[TOKENS * VOCAB], *want = golden_floats(golden_find(expect, "logits"));
            int32_t *ids = golden_ints(golden_find(expect, "input_ids"));
            clf_session *s = open_session(ctx, &(clf_session_args){.model = m});
            assert_ok(ctx, clf_session_eval(s, ids, TOKENS, CLF_LOGITS_ALL, got));
            const double error = difference(got, want, TOKENS * VOCAB);
            print_message("%s %s: logits off by %.1e\n", devices[d], kinds[k].name, error);
            assert_true(error <= kinds[k].logits);
            clf_session_destroy(s);
            free(ids);
            free(want);
            golden_close(expect);
            clf_model_destroy(m);
            clf_context_destroy(ctx);
        }
}

/* What is said before loading is what is held. */
static void estimates_know_them(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        clf_context *ctx = open_context("cpu", 0);
        clf_model_estimate e;
        clf_model_info said, info;
        clf_memory_stats stats;
        const clf_model_estimate_args args = {.path = path_of(kinds[k].name, NULL)};
        assert_int_equal(clf_estimate_model(&e, &said, &args), CLF_OK);
        clf_model *m = load_model(&ctx, 1, args.path);
        assert_ok(ctx, clf_model_get_info(m, &info));
        assert_ok(ctx, clf_memory_get_stats(ctx, &stats));
        assert_int_equal(said.parameters, info.parameters);
        if (kinds[k].down != CLF_F32) /* whose dtype only the data tell */
            assert_int_equal(said.weight_bytes, info.weight_bytes);
        clf_model_destroy(m);
        clf_context_destroy(ctx);
    }
}

/* A folder has no such blocks: a float dtype must be asked for, and then they are plain weights. */
static void saving_makes_them_plain(void **state) {
    (void)state;
    for (int k = 0; k < KINDS; k++) {
        clf_context *ctx = open_context("cpu", 0);
        clf_model *m = load_model(&ctx, 1, path_of(kinds[k].name, NULL)), *again;
        const bool blocks = clf_dtype_is_block(kinds[k].query);
        if (blocks)
            assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = in_folder("model")}), CLF_UNSUPPORTED);
        assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = in_folder("model"), .dtype = "f32"}));
        again = load_model(&ctx, 1, in_folder("model"));
        golden_file *expect = golden_open(path_of(kinds[k].name, "expect.safetensors"));
        assert_non_null(expect);
        if (blocks)
            assert_weight(ctx, &again->layers[0].weight[CLF_W_QUERY], CLF_F32, expect,
                          "model.layers.0.self_attn.q_proj.weight");
        golden_close(expect);
        clf_model_destroy(again);
        clf_model_destroy(m);
        clf_context_destroy(ctx);
    }
}

/* Values as a dtype has them. */
static void round_trip(clf_context *ctx, clf_dtype dtype, int64_t rows, int64_t columns, float *values) {
    clf_tensor *floats, *blocks;
    clf_tensor_args args = {.ndim = 2, .shape = {rows, columns}};
    assert_ok(ctx, clf_tensor_create(&floats, ctx, &args));
    args.dtype = dtype;
    assert_ok(ctx, clf_tensor_create(&blocks, ctx, &args));
    assert_ok(ctx, clf_tensor_write(floats, values, clf_tensor_bytes(floats)));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = floats, .out = blocks}));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = blocks, .out = floats}));
    assert_ok(ctx, clf_tensor_read(floats, values, clf_tensor_bytes(floats)));
    clf_tensor_destroy(blocks);
    clf_tensor_destroy(floats);
}

/* A matrix of a GGUF file is what quantising the values of a packed one gives, to the bit; its rows may be in the
 * order of GGUF's rotary pairs. `from`: what the packed one is read as. */
static void assert_quantised(clf_context *ctx, const clf_tensor *t, clf_dtype from, clf_dtype dtype, int head_dim,
                             const golden_tensor *e) {
    static float got[MOST], want[MOST];
    float *expect = golden_floats(e);
    const int64_t rows = t->shape[0], columns = t->shape[1], half = head_dim / 2;
    assert_true(t->dtype == dtype && rows * columns == e->elements && e->elements <= MOST);
    for (int64_t r = 0; r < rows; r++) {
        const int64_t source = half ? r / head_dim * head_dim + r % 2 * half + r % head_dim / 2 : r;
        for (int64_t c = 0; c < columns; c++) {
            const float w = expect[source * columns + c];
            want[r * columns + c] = from == CLF_F16 ? clf_f16_to_f32(clf_f32_to_f16(w)) : w;
        }
    }
    free(expect);
    if (from != dtype || half) round_trip(ctx, dtype, rows, columns, want); /* otherwise copied */
    clf_tensor *floats;
    assert_ok(ctx, clf_tensor_create(&floats, ctx, &(clf_tensor_args){.ndim = 2, .shape = {rows, columns}}));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = t, .out = floats}));
    assert_ok(ctx, clf_tensor_read(floats, got, clf_tensor_bytes(floats)));
    clf_tensor_destroy(floats);
    assert_memory_equal(got, want, (size_t)(rows * columns) * sizeof *got);
}

/* clf_quantize() sees what packed parts mean, not their codes. */
static void quantising_takes_the_values(void **state) {
    (void)state;
    static const clf_dtype types[] = {CLF_F32, CLF_F16, CLF_Q8_0, CLF_Q4_0, CLF_Q5_0};
    clf_context *ctx = open_context("cpu", 0);
    for (int k = 0; k < KINDS; k++)
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            const char *output = in_folder("model.gguf");
            assert_ok(ctx, clf_quantize(ctx,
                                        &(clf_quantize_args){.input = path_of(kinds[k].name, NULL),
                                                             .output = output,
                                                             .type = clf_dtype_name(types[i]),
                                                             .pure = true},
                                        NULL));
            clf_model *m = load_model(&ctx, 1, output);
            golden_file *expect = golden_open(path_of(kinds[k].name, "expect.safetensors"));
            assert_non_null(expect);
            const golden_tensor *query = golden_find(expect, "model.layers.0.self_attn.q_proj.weight"),
                                *down = golden_find(expect, "model.layers.0.mlp.down_proj.weight");
            assert_quantised(ctx, &m->layers[0].weight[CLF_W_QUERY], kinds[k].query, types[i], m->config.head_dim,
                             query);
            assert_quantised(ctx, &m->layers[0].weight[CLF_W_DOWN], kinds[k].down, types[i], 0, down);
            golden_close(expect);
            clf_model_destroy(m);
        }
    clf_context_destroy(ctx);
}

/* Bytes of a part of the first layer's query matrix. */
static const golden_tensor *part_of(golden_file *file, const char *suffix) {
    char name[128];
    snprintf(name, sizeof name, "model.layers.0.self_attn.q_proj.weight%s", suffix);
    const golden_tensor *t = golden_find(file, name);
    assert_non_null(t);
    return t;
}

/* The parts of the same floats are bitsandbytes' own, but for ties, the last place of the map, and the
 * mean, which is summed in another order. */
static void nf4_is_written_as_bitsandbytes_does(void **state) {
    (void)state;
    enum { BLOCKS = 64 };
    golden_file *expect = golden_open(path_of("nf4", "expect.safetensors")),
                *file = golden_open(path_of("nf4", "model.safetensors"));
    assert_true(expect && file);
    const golden_tensor *source = golden_find(expect, "source");
    assert_true(source && source->elements == 64 * BLOCKS);
    int ties = 0;
    float x[64 * BLOCKS], magnitude[BLOCKS], nested[1], map[CLF_NF4_MAP], offset;
    uint8_t codes[32 * BLOCKS], code[BLOCKS];
    clf_weight_to_f32(x, CLF_F16, source->data, source->elements);
    clf_nf4_codes(codes, magnitude, x, source->elements);
    clf_nf4_nest(code, nested, &offset, map, magnitude, BLOCKS);
    const uint8_t *theirs = part_of(file, "")->data;
    for (int i = 0; i < 64 * BLOCKS; i++) { /* which of two codes is nearer rounding may decide */
        const int a = codes[i / 2] >> (i % 2 ? 0 : 4) & 15, b = theirs[i / 2] >> (i % 2 ? 0 : 4) & 15;
        const float middle = (clf_nf4_values[a] + clf_nf4_values[b]) / 2;
        assert_true(a == b || (abs(a - b) == 1 && fabsf(x[i] / magnitude[i / 64] - middle) <= 1e-6F));
        ties += a != b;
    }
    assert_true(ties <= 2);
    assert_memory_equal(code, part_of(file, ".absmax")->data, sizeof code);
    float *their_map = golden_floats(part_of(file, ".nested_quant_map"));
    for (int i = 0; i < CLF_NF4_MAP; i++) assert_true(fabsf(map[i] - their_map[i]) <= 2e-7F * fabsf(their_map[i]));
    free(their_map);
    assert_memory_equal(clf_nf4_values, part_of(file, ".quant_map")->data, sizeof clf_nf4_values);
    float want;
    memcpy(&want, part_of(file, ".nested_absmax")->data, sizeof want);
    assert_true(fabsf(nested[0] - want) <= 1e-6F * want);
    golden_close(expect);
    golden_close(file);
}

/* Written and read again: a folder that says so, the same codes, scales rounded to 8 bits once more. */
static void nf4_comes_back(void **state) {
    (void)state;
    clf_context *ctx = open_context("cpu", 0);
    clf_model *m = load_model(&ctx, 1, path_of("gptq", NULL)), *again;
    assert_int_equal(clf_model_save(m, &(clf_model_save_args){.path = in_folder("model"), .dtype = "nf4"}),
                     CLF_UNSUPPORTED);
    assert_non_null(strstr(clf_error_message(ctx), "rows of 96 weights aren't whole blocks of nf4"));
    clf_model_destroy(m);
    m = load_model(&ctx, 1, path_of("plain", NULL));
    const clf_tensor *w = &m->layers[0].weight[CLF_W_QUERY];
    const int64_t n = clf_elements(w);
    assert_ok(ctx, clf_model_save(m, &(clf_model_save_args){.path = in_folder("model"), .dtype = "nf4"}));
    again = load_model(&ctx, 1, in_folder("model"));
    clf_tensor *q = &again->layers[0].weight[CLF_W_QUERY];
    assert_int_equal(q->dtype, CLF_NF4);
    uint8_t *blocks = malloc(clf_tensor_bytes(q)), *want = malloc((size_t)n * sizeof(float));
    clf_weight_to_f32((float *)(void *)want, w->dtype, clf_data(w), n);
    clf_error err = {0};
    assert_int_equal(clf_nf4_quantize(want, (float *)(void *)want, n, &err), CLF_OK);
    assert_ok(ctx, clf_tensor_read(q, blocks, clf_tensor_bytes(q)));
    assert_memory_equal(blocks, want, clf_tensor_bytes(q));
    free(blocks);
    free(want);
    clf_model_destroy(again);
    clf_model_destroy(m);
    clf_context_destroy(ctx);
}

/* A change to one tensor, and to config.json. */
typedef struct change {
    const char *kind, *tensor; /* its name ends so, in the first layer's q_proj */
    bool drop;
    clf_dtype dtype; /* F32: as it was */
    int64_t rows;    /* 0: as it was */
    int64_t at;      /* this element becomes `value` */
    uint32_t value;
    const char *from, *to; /* in config.json */
    clf_status status;
    const char *part; /* of the message */
} change;

static char *read_text(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *text = calloc(1, 1 << 16);
    *n = fread(text, 1, (1 << 16) - 1, f);
    fclose(f);
    return text;
}

static void write_config(const change *c) {
    size_t n;
    char *text = read_text(path_of(c->kind, "config.json"), &n), *at = c->from ? strstr(text, c->from) : NULL;
    assert_true(!c->from || at);
    FILE *f = fopen(in_folder("model/config.json"), "wb");
    assert_non_null(f);
    if (at)
        fprintf(f, "%.*s%s%s", (int)(at - text), text, c->to, at + strlen(c->from));
    else
        fputs(text, f);
    fclose(f);
    free(text);
}

static bool is_changed(const change *c, const char *name) {
    const size_t n = strlen(name), m = c->tensor ? strlen(c->tensor) : 0;
    return m && n > m && !strcmp(name + n - m, c->tensor);
}

static void write_tensors(const change *c) {
    clf_safetensors *s;
    clf_safetensors_writer *w;
    clf_error err = {0};
    const clf_model_file_args args = {.path = path_of(c->kind, "model.safetensors"), .mmap = true};
    assert_int_equal(clf_safetensors_open(&s, &args, &err), CLF_OK);
    assert_int_equal(clf_safetensors_writer_create(&w, in_folder("model/model.safetensors"), &err), CLF_OK);
    bool found = !c->tensor;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0, to = 0; i < clf_safetensors_count(s); i++) {
            clf_file_tensor t = *clf_safetensors_at(s, i);
            const bool changed = is_changed(c, t.name);
            found |= changed;
            if (changed && c->drop) continue;
            if (changed && c->dtype) t.dtype = c->dtype;
            if (changed && c->rows) t.shape[0] = c->rows;
            if (!pass) {
                assert_int_equal(clf_safetensors_write_tensor(w, &t, &err), CLF_OK);
                continue;
            }
            const size_t bytes = clf_dtype_bytes(t.dtype, clf_file_elements(&t)), unit = clf_dtype_block_bytes(t.dtype);
            char *data = calloc(1, bytes + 1);
            memcpy(data, t.data, bytes < t.nbytes ? bytes : t.nbytes);
            if (changed && c->value) memcpy(data + (size_t)c->at * unit, &c->value, unit < 4 ? unit : 4);
            assert_int_equal(clf_safetensors_write_data(w, to++, data, bytes, &err), CLF_OK);
            free(data);
        }
    assert_true(found);
    assert_int_equal(clf_safetensors_writer_finish(w, &err), CLF_OK);
    clf_safetensors_writer_destroy(w);
    clf_safetensors_close(s);
}

#define Q "self_attn.q_proj"

static void what_does_not_fit_is_refused(void **state) {
    (void)state;
    static const change changes[] = {
        {.kind = "gptq", .status = CLF_OK, .part = ""},
        {.kind = "gptq", .tensor = Q ".g_idx", .drop = true, .status = CLF_OK, .part = ""},
        {.kind = "gptq", .tensor = Q ".scales", .drop = true, .status = CLF_BAD_FILE, .part = Q ".scales: missing"},
        {.kind = "gptq", .tensor = Q ".qzeros", .drop = true, .status = CLF_BAD_FILE, .part = Q ".qzeros: missing"},
        {.kind = "gptq", .tensor = Q ".qweight", .drop = true, .status = CLF_BAD_FILE, .part = Q ".qweight is missing"},
        {.kind = "gptq",
         .tensor = Q ".scales",
         .dtype = CLF_BF16,
         .status = CLF_UNSUPPORTED,
         .part = "expected f16, got bf16"},
        {.kind = "gptq", .tensor = Q ".qweight", .dtype = CLF_U8, .status = CLF_UNSUPPORTED, .part = "matrix of i32"},
        {.kind = "gptq", .tensor = Q ".scales", .rows = 3, .status = CLF_BAD_FILE, .part = Q ".scales: shape"},
        {.kind = "gptq", .tensor = Q ".qzeros", .rows = 1, .status = CLF_BAD_FILE, .part = Q ".qzeros: shape"},
        {.kind = "gptq", .tensor = Q ".g_idx", .rows = 63, .status = CLF_BAD_FILE, .part = Q ".g_idx: shape"},
        {.kind = "gptq", .tensor = Q ".qweight", .rows = 4, .status = CLF_BAD_FILE, .part = "shape"},
        {.kind = "gptq",
         .tensor = Q ".g_idx",
         .at = 5,
         .value = 2,
         .status = CLF_BAD_FILE,
         .part = "[5]: expected 0 to 1, got 2"},
        {.kind = "gptq", .tensor = Q ".g_idx", .at = 5, .value = 0xffffffff, .status = CLF_BAD_FILE, .part = "got -1"},
        {.kind = "gptq", .tensor = Q ".scales", .at = 3, .value = 0x7c00, .status = CLF_NOT_FINITE, .part = "[3, 0]"},
        {.kind = "gptq-order",
         .tensor = Q ".scales",
         .at = 3,
         .value = 0x7bff,
         .status = CLF_NOT_FINITE,
         .part = "f16"},
        {.kind = "gptq",
         .from = "\"bits\": 4",
         .to = "\"bits\": 3",
         .status = CLF_UNSUPPORTED,
         .part = "bits: expected 4, got 3"},
        {.kind = "gptq",
         .from = "\"bits\": 4,",
         .to = "",
         .status = CLF_UNSUPPORTED,
         .part = "bits: expected 4, got 0"},
        {.kind = "gptq",
         .from = "\"group_size\": 32",
         .to = "\"group_size\": 0",
         .status = CLF_BAD_FILE,
         .part = "group_size"},
        {.kind = "gptq",
         .from = "\"group_size\": 32",
         .to = "\"group_size\": 64",
         .status = CLF_BAD_FILE,
         .part = "shape"},
        {.kind = "gptq",
         .from = "\"gptq\"",
         .to = "\"fp8\"",
         .status = CLF_UNSUPPORTED,
         .part = "quant_method: expected gptq, awq or bitsandbytes, got fp8"},
        {.kind = "gptq", .from = "\"gptq\"", .to = "7", .status = CLF_UNSUPPORTED, .part = "quant_method"},
        {.kind = "gptq",
         .from = "\"gptq\"",
         .to = "\"bitsandbytes\"",
         .status = CLF_UNSUPPORTED,
         .part = "load_in_4bit"},
        {.kind = "gptq-v2", .from = "gptq_v2", .to = "marlin", .status = CLF_UNSUPPORTED, .part = "got marlin"},
        {.kind = "awq", .from = "gemm", .to = "gemv", .status = CLF_UNSUPPORTED, .part = "expected gemm, got gemv"},
        {.kind = "awq", .tensor = Q ".qzeros", .rows = 1, .status = CLF_BAD_FILE, .part = Q ".qzeros: shape"},
        {.kind = "nf4", .status = CLF_OK, .part = ""},
        {.kind = "nf4", .tensor = Q ".weight.absmax", .drop = true, .status = CLF_BAD_FILE, .part = ".absmax: missing"},
        {.kind = "nf4",
         .tensor = Q ".weight.quant_map",
         .drop = true,
         .status = CLF_BAD_FILE,
         .part = ".quant_map: missing"},
        {.kind = "nf4",
         .tensor = Q ".weight.nested_quant_map",
         .drop = true,
         .status = CLF_BAD_FILE,
         .part = ".nested_quant_map: missing"},
        {.kind = "nf4", .tensor = Q ".weight", .drop = true, .status = CLF_BAD_FILE, .part = Q ".weight is missing"},
        {.kind = "nf4", .tensor = Q ".weight.absmax", .rows = 63, .status = CLF_BAD_FILE, .part = ".absmax: shape"},
        {.kind = "nf4", .tensor = Q ".weight", .rows = 2047, .status = CLF_BAD_FILE, .part = "expected 2048 bytes"},
        {.kind = "nf4",
         .tensor = Q ".weight",
         .dtype = CLF_I8,
         .status = CLF_UNSUPPORTED,
         .part = "expected u8, got i8"},
        {.kind = "nf4",
         .tensor = Q ".weight.quant_map",
         .at = 2,
         .value = 0x3f800000,
         .status = CLF_UNSUPPORTED,
         .part = "[2]: expected NF4's"},
        {.kind = "nf4",
         .tensor = Q ".weight.nested_absmax",
         .at = 0,
         .value = 0x7fc00000,
         .status = CLF_NOT_FINITE,
         .part = "finite"},
        {.kind = "nf4",
         .tensor = Q ".weight.quant_state.bitsandbytes__nf4",
         .at = 0,
         .value = 'x',
         .status = CLF_BAD_FILE,
         .part = "quant_state"},
        {.kind = "nf4",
         .from = "\"bnb_4bit_quant_type\": \"nf4\"",
         .to = "\"bnb_4bit_quant_type\": \"fp4\"",
         .status = CLF_UNSUPPORTED,
         .part = "expected nf4, got fp4"},
        {.kind = "nf4",
         .from = "\"load_in_4bit\": true",
         .to = "\"load_in_4bit\": false",
         .status = CLF_UNSUPPORTED,
         .part = "load_in_4bit"},
    };
    clf_context *ctx = open_context("cpu", 0);
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        const change *c = &changes[i];
        clf_model *m;
        mkdir(in_folder("model"), 0700);
        write_config(c);
        write_tensors(c);
        const clf_model_args args = {.path = in_folder("model"), .contexts = &ctx, .n_contexts = 1};
        const clf_status st = clf_model_load(&m, &args);
        if (st != c->status || !strstr(clf_error_message(ctx), c->part))
            fail_msg("change %d: expected %s with '%s', got %s: %s", (int)i, clf_status_string(c->status), c->part,
                     clf_status_string(st), clf_error_message(ctx));
        clf_model_destroy(m);
    }
    clf_context_destroy(ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(weights_mean_what_they_say),
                                       cmocka_unit_test(estimates_know_them),
                                       cmocka_unit_test(saving_makes_them_plain),
                                       cmocka_unit_test(quantising_takes_the_values),
                                       cmocka_unit_test(nf4_is_written_as_bitsandbytes_does),
                                       cmocka_unit_test(nf4_comes_back),
                                       cmocka_unit_test(what_does_not_fit_is_refused)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
