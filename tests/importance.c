/* importance.c: sums of squares of what the matrices of a golden LLaMA meet against a forward pass in double written
 * here; the file read back by clf_importance_file, for every golden architecture; devices; what is refused. */
#include "folder_case.h"
#include "model_case.h"

#include "../lib/model/importance_file.h"
#include "../lib/model/model.h"

enum { TOKENS = 24 };

static const char *path;

static int setup(void **state) {
    if (make_folder(state)) return -1;
    path = in_folder("importance.gguf");
    *state = open_context("cpu", 0);
    return 0;
}

static int teardown(void **state) {
    clf_context_destroy(*state);
    return remove_folder(state);
}

static const clf_importance_entry *entry_of(const clf_importance_file *f, int layer, const char *name) {
    char full[CLF_NAME_SIZE];
    snprintf(full, sizeof full, "blk.%d.%s.weight", layer, name);
    const clf_importance_entry *e = clf_importance_file_find(f, full);
    if (!e) fail_msg("%s isn't in the file", full);
    return e;
}

/* The file of a model's importance over n ids. */
static clf_importance_file *collect(clf_context *ctx, clf_model *m, const int32_t *ids, int64_t n, int64_t context) {
    clf_importance *importance;
    clf_importance_file *f;
    clf_error err = {0};
    assert_ok(ctx, clf_importance_create(&importance, m, context));
    assert_ok(ctx, clf_importance_add(importance, ids, n));
    assert_ok(ctx, clf_importance_save(importance, path, "a text"));
    clf_importance_destroy(importance);
    if (clf_importance_file_open(&f, path, &err) != CLF_OK) fail_msg("%s", err.message);
    return f;
}

static void assert_equal(const float *got, const double *want, int64_t n, double tolerance, const char *what) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= tolerance * want[i]))
            fail_msg("%s, column %lld: %.9g, expected %.9g", what, (long long)i, (double)got[i], want[i]);
}

static const float *values_of(const clf_layer *l, clf_weight id) {
    return clf_data(&l->weight[id]);
}

/* y [rows] = W x */
static void multiply(double *y, const float *w, const double *x, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (int64_t i = 0; i < columns; i++) y[r] += w[r * columns + i] * x[i];
    }
}

static void norm(double *y, const double *x, const float *weight, const clf_config *c) {
    double sum = 0;
    for (int i = 0; i < c->hidden_size; i++) sum += x[i] * x[i];
    for (int i = 0; i < c->hidden_size; i++) y[i] = x[i] / sqrt(sum / c->hidden_size + c->norm_eps) * weight[i];
}

/* Halves of each head. */
static void rotate(double *x, int heads, int position, const clf_config *c) {
    const int half = c->head_dim / 2;
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < half; i++) {
            const double angle = position * pow(c->rope.base, -2.0 * i / c->head_dim);
            double *a = x + h * c->head_dim + i, *b = a + half, low = *a;
            *a = low * cos(angle) - *b * sin(angle);
            *b = *b * cos(angle) + low * sin(angle);
        }
}

enum { WIDEST = 128, LAYERS = 2 };
typedef struct expectation {
    double attention[LAYERS][WIDEST], attended[LAYERS][WIDEST], ffn[LAYERS][WIDEST], gated[LAYERS][WIDEST]; /* Σx² */
} expectation;

static void meet(double *sums, const double *x, int n) {
    for (int i = 0; i < n; i++) sums[i] += x[i] * x[i];
}

/* One chunk through a LLaMA without biases. */
static void forward(expectation *out, const clf_model *m, const int32_t *ids, int n) {
    static double key[LAYERS][TOKENS][WIDEST], value[LAYERS][TOKENS][WIDEST];
    const clf_config *c = &m->config;
    const int group = c->n_heads / c->n_kv_heads, dim = c->head_dim, kv = c->n_kv_heads * dim, q = c->n_heads * dim;
    for (int t = 0; t < n; t++) {
        double x[WIDEST], h[WIDEST], query[WIDEST], o[WIDEST], gate[WIDEST], up[WIDEST];
        const float *embedding = (const float *)clf_data(&m->embedding) + (int64_t)ids[t] * c->hidden_size;
        for (int i = 0; i < c->hidden_size; i++) x[i] = embedding[i];
        for (int layer = 0; layer < c->n_layers; layer++) {
            const clf_layer *l = &m->layers[layer];
            norm(h, x, values_of(l, CLF_W_ATTENTION_NORM), c);
            meet(out->attention[layer], h, c->hidden_size);
            multiply(query, values_of(l, CLF_W_QUERY), h, q, c->hidden_size);
            multiply(key[layer][t], values_of(l, CLF_W_KEY), h, kv, c->hidden_size);
            multiply(value[layer][t], values_of(l, CLF_W_VALUE), h, kv, c->hidden_size);
            rotate(query, c->n_heads, t, c);
            rotate(key[layer][t], c->n_kv_heads, t, c);
            for (int head = 0; head < c->n_heads; head++) {
                double p[TOKENS], sum = 0, *to = o + head * dim;
                const int from = head / group * dim;
                for (int s = 0; s <= t; s++) {
                    p[s] = 0;
                    for (int i = 0; i < dim; i++) p[s] += query[head * dim + i] * key[layer][s][from + i];
                    sum += p[s] = exp(p[s] / sqrt(dim));
                }
                for (int i = 0; i < dim; i++) {
                    to[i] = 0;
                    for (int s = 0; s <= t; s++) to[i] += p[s] / sum * value[layer][s][from + i];
                }
            }
            meet(out->attended[layer], o, q);
            multiply(h, values_of(l, CLF_W_OUTPUT), o, c->hidden_size, q);
            for (int i = 0; i < c->hidden_size; i++) x[i] += h[i];
            norm(h, x, values_of(l, CLF_W_FFN_NORM), c);
            meet(out->ffn[layer], h, c->hidden_size);
            multiply(gate, values_of(l, CLF_W_GATE), h, c->ffn_size, c->hidden_size);
            multiply(up, values_of(l, CLF_W_UP), h, c->ffn_size, c->hidden_size);
            for (int i = 0; i < c->ffn_size; i++) gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i];
            meet(out->gated[layer], gate, c->ffn_size);
            multiply(h, values_of(l, CLF_W_DOWN), gate, c->hidden_size, c->ffn_size);
            for (int i = 0; i < c->hidden_size; i++) x[i] += h[i];
        }
    }
}

static void as_a_forward_pass_in_double(void **state) {
    clf_context *ctx = *state;
    clf_model *m = load_model(&ctx, 1, "golden/models/llama");
    const clf_config *c = &m->config;
    int32_t ids[3 * TOKENS - 1]; /* two chunks, and a rest that is left out */
    make_ids(ids, 3 * TOKENS - 1, 1);
    assert_true(c->n_layers == LAYERS && c->ffn_size <= WIDEST && c->rope.pairing == CLF_ROPE_HALVES);
    static expectation want;
    for (int i = 0; i < 2; i++) forward(&want, m, ids + i * TOKENS, TOKENS);
    double *const sums = (double *)&want;
    for (size_t i = 0; i < sizeof want / sizeof *sums; i++) sums[i] /= 2 * TOKENS;
    clf_importance_file *f = collect(ctx, m, ids, 3 * TOKENS - 1, TOKENS);
    for (int l = 0; l < LAYERS; l++) {
        assert_equal(entry_of(f, l, "attn_q")->mean, want.attention[l], c->hidden_size, 1e-5, "attn_q");
        assert_equal(entry_of(f, l, "attn_k")->mean, want.attention[l], c->hidden_size, 1e-5, "attn_k");
        assert_equal(entry_of(f, l, "attn_v")->mean, want.attention[l], c->hidden_size, 1e-5, "attn_v");
        assert_equal(entry_of(f, l, "attn_output")->mean, want.attended[l], c->n_heads * c->head_dim, 1e-5,
                     "attn_output");
        assert_equal(entry_of(f, l, "ffn_gate")->mean, want.ffn[l], c->hidden_size, 1e-5, "ffn_gate");
        assert_equal(entry_of(f, l, "ffn_up")->mean, want.ffn[l], c->hidden_size, 1e-5, "ffn_up");
        assert_equal(entry_of(f, l, "ffn_down")->mean, want.gated[l], c->ffn_size, 1e-5, "ffn_down");
    }
    clf_importance_file_close(f);
    clf_model_destroy(m);
}

/* Every matrix of the blocks is there, under its file's name and with its columns, and no other. */
static void every_architecture(void **state) {
    clf_context *ctx = *state;
    int32_t ids[TOKENS];
    int models = 0;
    make_ids(ids, TOKENS, 2);
    DIR *d = opendir("golden/gguf");
    assert_non_null(d);
    for (struct dirent *entry; (entry = readdir(d));) {
        char file[300];
        if (entry->d_name[0] == '.' || strstr(entry->d_name, "adapter")) continue;
        snprintf(file, sizeof file, "golden/gguf/%s", entry->d_name);
        clf_model *m = load_model(&ctx, 1, file);
        clf_importance_file *f = collect(ctx, m, ids, TOKENS, 8);
        clf_model_file *of_model;
        clf_error err = {0};
        assert_int_equal(clf_model_file_open(&of_model, &(clf_model_file_args){.path = file, .mmap = true}, &err),
                         CLF_OK);
        assert_int_equal(clf_importance_file_check(f, of_model, &err), CLF_OK);
        const clf_file_tensor *t;
        for (int64_t i = 0; (t = clf_model_file_stored(of_model, i)); i++) {
            if (t->ndim < 2 || strncmp(t->name, "blk.", 4)) continue;
            const clf_importance_entry *e = clf_importance_file_find(f, t->name);
            if (!e) fail_msg("%s: %s isn't in the file", file, t->name);
            assert_int_equal(e->columns, t->shape[1]);
            for (int64_t j = 0; j < e->columns; j++) assert_true(e->mean[j] > 0);
        }
        clf_model_file_close(of_model);
        clf_importance_file_close(f);
        clf_model_destroy(m);
        models++;
    }
    closedir(d);
    assert_true(models >= 14);
}

/* The file's bytes, to be freed. */
static char *bytes_of(size_t *size) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    char *data = malloc(1 << 20);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static void in_parts_as_at_once(void **state) {
    clf_context *ctx = *state;
    clf_model *m = load_model(&ctx, 1, "golden/models/qwen3");
    int32_t ids[4 * TOKENS];
    size_t size, again;
    make_ids(ids, 4 * TOKENS, 3);
    clf_importance_file_close(collect(ctx, m, ids, 4 * TOKENS, TOKENS));
    char *whole = bytes_of(&size);
    clf_importance *importance;
    assert_ok(ctx, clf_importance_create(&importance, m, TOKENS));
    for (int i = 0; i < 4; i++) assert_ok(ctx, clf_importance_add(importance, ids + i * TOKENS, TOKENS));
    assert_ok(ctx, clf_importance_save(importance, path, "a text"));
    char *parts = bytes_of(&again);
    assert_int_equal(size, again);
    assert_memory_equal(whole, parts, size);
    free(whole);
    free(parts);
    clf_importance_destroy(importance);
    clf_model_destroy(m);
}

/* With an adapter gate and up are products of their own, which meet their input once. */
static void other_ways_to_compute(void **state) {
    clf_context *ctx = *state;
    static const char *const devices[] = {"cpu-scalar", "opencl"};
    int32_t ids[2 * TOKENS];
    make_ids(ids, 2 * TOKENS, 4);
    clf_model *m = load_model(&ctx, 1, "golden/models/llama"), *adapted;
    clf_importance_file *want = collect(ctx, m, ids, 2 * TOKENS, TOKENS);
    for (int i = 0; i < 2; i++) {
        clf_context *other;
        if (clf_context_create(&other, &(clf_context_args){.device = devices[i], .threads = 1}) != CLF_OK) {
            print_message("%s: skipped, not usable here\n", devices[i]);
            continue;
        }
        clf_context *const both[] = {ctx, other};
        const int layers[] = {1, 1};
        for (int spread = 0; spread < 2; spread++) {
            clf_model *n;
            const clf_model_args args = {.path = "golden/models/llama",
                                         .contexts = spread ? both : &other,
                                         .n_contexts = 1 + spread,
                                         .layers = spread ? layers : NULL};
            assert_ok(spread ? ctx : other, clf_model_load(&n, &args));
            clf_importance_file *got = collect(spread ? ctx : other, n, ids, 2 * TOKENS, TOKENS);
            for (int l = 0; l < LAYERS; l++) {
                const clf_importance_entry *a = entry_of(got, l, "ffn_down"), *b = entry_of(want, l, "ffn_down");
                for (int64_t j = 0; j < b->columns; j++)
                    assert_true(fabsf(a->mean[j] - b->mean[j]) <= 1e-4f * b->mean[j]);
            }
            clf_importance_file_close(got);
            clf_model_destroy(n);
        }
        clf_context_destroy(other);
    }
    const clf_model_args args = {
        .path = "golden/models/llama", .adapter = "golden/adapters/llama", .contexts = &ctx, .n_contexts = 1};
    assert_ok(ctx, clf_model_load(&adapted, &args));
    clf_importance_file *got = collect(ctx, adapted, ids, 2 * TOKENS, TOKENS);
    const clf_importance_entry *q = entry_of(want, 0, "attn_q"), *with = entry_of(got, 0, "attn_q");
    assert_memory_equal(q->mean, with->mean, (size_t)q->columns * sizeof *q->mean);
    assert_true(entry_of(got, 0, "ffn_down")->mean[0] != entry_of(want, 0, "ffn_down")->mean[0]);
    assert_memory_equal(entry_of(got, 0, "ffn_gate")->mean, entry_of(got, 0, "ffn_up")->mean,
                        (size_t)q->columns * sizeof *q->mean);
    clf_importance_file_close(got);
    clf_importance_file_close(want);
    clf_model_destroy(adapted);
    clf_model_destroy(m);
}

/* Values of a file's tensor, to be freed. */
static float *floats_of(clf_context *ctx, const clf_file_tensor *t) {
    clf_tensor *in, *out;
    clf_tensor_args args = {.ndim = 2, .shape = {t->shape[0], t->shape[1]}};
    assert_ok(ctx, clf_tensor_create(&out, ctx, &args));
    args.dtype = t->dtype;
    args.data = (void *)(uintptr_t)t->data;
    assert_ok(ctx, clf_tensor_create(&in, ctx, &args));
    float *values = malloc(clf_tensor_bytes(out));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = in, .out = out}));
    assert_ok(ctx, clf_tensor_read(out, values, clf_tensor_bytes(out)));
    clf_tensor_destroy(in);
    clf_tensor_destroy(out);
    return values;
}

/* Σ importance · (w − quantised w)² of a matrix. */
static double weighted_error(clf_context *ctx, const clf_file_tensor *from, const clf_file_tensor *to,
                             const clf_importance_entry *e) {
    float *w = floats_of(ctx, from), *q = floats_of(ctx, to);
    double sum = 0;
    for (int64_t i = 0; i < from->shape[0] * from->shape[1]; i++)
        sum += (double)e->mean[i % e->columns] * ((double)w[i] - (double)q[i]) * ((double)w[i] - (double)q[i]);
    free(w);
    free(q);
    return sum;
}

/* What is collected makes quantising better where it counts: each matrix of the blocks loses less of what it makes of
 * its inputs, and matrices that aren't in the file stay as they were. */
static void quantising_uses_it(void **state) {
    clf_context *ctx = *state;
    static const char *const types[] = {"q4_0", "q2_k", "q4_k_s", "q6_k", "iq4_nl"};
    static const char model[] = "../examples/default_model/default.gguf";
    enum { IDS = 512 };
    int32_t ids[IDS];
    clf_error err = {0};
    make_ids(ids, IDS, 6);
    clf_model *m = load_model(&ctx, 1, model);
    clf_importance_file *importance = collect(ctx, m, ids, IDS, 128);
    clf_model_destroy(m);
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        clf_model_file *file[3]; /* the source, without and with importance */
        const char *const name[] = {in_folder("without.gguf"), in_folder("with.gguf")};
        for (int with = 0; with < 2; with++)
            assert_ok(ctx, clf_quantize(ctx,
                                        &(clf_quantize_args){.input = model,
                                                             .output = name[with],
                                                             .type = types[k],
                                                             .pure = true,
                                                             .importance = with ? path : NULL},
                                        NULL));
        for (int i = 0; i < 3; i++)
            assert_int_equal(clf_model_file_open(
                                 &file[i], &(clf_model_file_args){.path = i ? name[i - 1] : model, .mmap = true}, &err),
                             CLF_OK);
        const clf_file_tensor *t, *to[2];
        double all[2] = {0};
        int matrices = 0, better = 0;
        for (int64_t i = 0; (t = clf_model_file_stored(file[0], i)); i++) {
            for (int with = 0; with < 2; with++)
                assert_non_null(to[with] = clf_model_file_find(file[1 + with], t->name));
            const clf_importance_entry *e = clf_importance_file_find(importance, t->name);
            if (t->ndim < 2 || !clf_dtype_is_block(to[0]->dtype)) continue;
            assert_true(e || !memcmp(to[0]->data, to[1]->data, to[0]->nbytes));
            if (!e) continue;
            double lost[2];
            for (int with = 0; with < 2; with++) all[with] += lost[with] = weighted_error(ctx, t, to[with], e);
            better += lost[1] < lost[0];
            matrices++;
        }
        print_message("%s: %.3f of the weighted error, %d of %d matrices better\n", types[k], all[1] / all[0], better,
                      matrices);
        assert_true(matrices > 0 && better == matrices);
        for (int i = 0; i < 3; i++) clf_model_file_close(file[i]);
    }
    clf_importance_file_close(importance);
}

static void wrong_arguments_are_refused(void **state) {
    clf_context *ctx = *state;
    clf_model *m = load_model(&ctx, 1, "golden/models/llama");
    clf_importance *importance;
    int32_t ids[TOKENS];
    make_ids(ids, TOKENS, 5);
    unlink(path);
    assert_int_equal(clf_importance_create(NULL, m, 0), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_importance_create(&importance, NULL, 0), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_importance_create(&importance, m, -1), CLF_INVALID_ARGUMENT);
    assert_null(importance);
    assert_int_equal(clf_importance_add(NULL, ids, TOKENS), CLF_INVALID_ARGUMENT);
    assert_ok(ctx, clf_importance_create(&importance, m, TOKENS));
    assert_int_equal(clf_importance_add(importance, ids, TOKENS - 1), CLF_INVALID_ARGUMENT);
    assert_string_equal(clf_error_message(ctx), "importance: n: expected at least a chunk of 24 tokens, got 23");
    assert_int_equal(clf_importance_add(importance, NULL, TOKENS), CLF_INVALID_ARGUMENT);
    ids[3] = -1;
    assert_int_equal(clf_importance_add(importance, ids, TOKENS), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_importance_save(importance, path, NULL), CLF_INVALID_ARGUMENT);
    assert_string_equal(clf_error_message(ctx), "importance: nothing was added");
    ids[3] = 3;
    assert_ok(ctx, clf_importance_add(importance, ids, TOKENS));
    assert_int_equal(clf_importance_save(importance, "", NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_importance_save(importance, "no/such/folder/x.gguf", NULL), CLF_NOT_FOUND);
    assert_true(access(path, F_OK) != 0);
    assert_ok(ctx, clf_importance_save(importance, path, NULL));
    clf_importance_destroy(importance);
    clf_importance_destroy(NULL);
    clf_model_destroy(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_a_forward_pass_in_double), cmocka_unit_test(every_architecture),
        cmocka_unit_test(in_parts_as_at_once),         cmocka_unit_test(other_ways_to_compute),
        cmocka_unit_test(quantising_uses_it),          cmocka_unit_test(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
