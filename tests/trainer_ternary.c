/* trainer_ternary.c: ternary training against a decoder in double, written from the formula: its loss, its gradients,
 * and that what is exported is what was trained.
 *
 * Rounding has no useful derivative. The straight-through gradient is that of the same pass with every rounding
 * replaced by the difference that it made, as a constant: so the reference notes these differences in one pass, adds
 * them in others, and its finite differences are the gradient. */
#include "folder_case.h"
#include "trainer_case.h"

#include <unistd.h>

#define DEFAULT_MODEL "../examples/default_model/default.gguf"

enum { N = 24, MAX_LAYERS = 4, TENSORS = 3 + MAX_LAYERS * CLF_W_COUNT };

/* A LLaMA's weights as the trainer uses them: embedding, output norm, output, then CLF_W_COUNT a block. */
typedef struct decoder {
    clf_context *ctx;
    const clf_model *model;
    const clf_config *c;
    double *weight[TENSORS]; /* NULL: none; a tied output is the embedding's */
    int64_t size[TENSORS];
    double *rounding; /* what rounding changed, in the order of the pass */
    int64_t at;
    bool notes; /* it, instead of adding it */
} decoder;

static double *doubles(int64_t n) {
    double *v = calloc((size_t)n, sizeof *v);
    assert_non_null(v);
    return v;
}

static double *decoded(clf_context *ctx, const clf_tensor *t) {
    clf_tensor *f32;
    clf_tensor_args args = {.ndim = t->ndim};
    memcpy(args.shape, t->shape, sizeof args.shape);
    assert_ok(ctx, clf_tensor_create(&f32, ctx, &args));
    assert_ok(ctx, clf_convert(ctx, &(clf_convert_args){.x = t, .out = f32}));
    const int64_t n = clf_elements(t);
    float *v = malloc((size_t)n * sizeof *v);
    assert_ok(ctx, clf_tensor_read(f32, v, (size_t)n * sizeof *v));
    double *out = doubles(n);
    for (int64_t i = 0; i < n; i++) out[i] = (double)v[i];
    free(v);
    clf_tensor_destroy(f32);
    return out;
}

static decoder open_decoder(clf_context *ctx, const clf_model *m) {
    decoder d = {.ctx = ctx, .model = m, .c = &m->config};
    const clf_tensor *t[TENSORS] = {&m->embedding, &m->output_norm, m->config.tied_output ? NULL : &m->output};
    assert_true(m->config.n_layers <= MAX_LAYERS);
    for (int i = 0; i < m->config.n_layers; i++)
        for (int id = 0; id < CLF_W_COUNT; id++)
            t[3 + i * CLF_W_COUNT + id] = clf_weight_of(&m->layers[i], (clf_weight)id);
    for (int i = 0; i < TENSORS; i++)
        if (t[i]) {
            d.weight[i] = decoded(ctx, t[i]);
            d.size[i] = clf_elements(t[i]);
        }
    d.rounding = doubles((int64_t)m->config.n_layers * N * (3 * m->config.hidden_size + m->config.ffn_size) * 2);
    return d;
}

static void close_decoder(decoder *d) {
    for (int i = 0; i < TENSORS; i++) free(d->weight[i]);
    free(d->rounding);
}

/* x [N, dim] as matrices see it: each row rounded to int8. */
static void see(decoder *d, double *x, int64_t dim) {
    for (int64_t r = 0; r < N; r++) {
        double most = 0;
        for (int64_t i = r * dim; i < (r + 1) * dim; i++) most = fmax(most, fabs(x[i]));
        for (int64_t i = r * dim; i < (r + 1) * dim; i++, d->at++) {
            if (d->notes) d->rounding[d->at] = nearbyint(x[i] * 127 / most) * most / 127 - x[i];
            x[i] += d->rounding[d->at];
        }
    }
}

/* out [N, n] (+)= x [N, k] · wᵀ */
static void multiply(double *out, const double *x, const double *w, int64_t k, int64_t n, bool add) {
    for (int64_t r = 0; r < N; r++)
        for (int64_t j = 0; j < n; j++) {
            double sum = add ? out[r * n + j] : 0;
            for (int64_t i = 0; i < k; i++) sum += x[r * k + i] * w[j * k + i];
            out[r * n + j] = sum;
        }
}

static void norm(const decoder *d, double *out, const double *x, const double *w) {
    const int64_t dim = d->c->hidden_size;
    for (int64_t r = 0; r < N; r++) {
        double sum = 0;
        for (int64_t i = 0; i < dim; i++) sum += x[r * dim + i] * x[r * dim + i];
        const double scale = 1 / sqrt(sum / (double)dim + (double)d->c->norm_eps);
        for (int64_t i = 0; i < dim; i++) out[r * dim + i] = x[r * dim + i] * scale * w[i];
    }
}

static void rotate(const decoder *d, double *x, int heads) {
    const int dim = d->c->head_dim, half = dim / 2;
    const bool halves = d->c->rope.pairing == CLF_ROPE_HALVES;
    for (int64_t r = 0; r < N; r++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < half; i++) {
                double *a = x + (r * heads + h) * dim + (halves ? i : 2 * i), *b = a + (halves ? half : 1);
                const double turn = (double)r * pow(d->c->rope.base, -2.0 * i / dim), u = *a, v = *b;
                *a = u * cos(turn) - v * sin(turn);
                *b = u * sin(turn) + v * cos(turn);
            }
}

static void attend(const decoder *d, double *out, const double *q, const double *k, const double *v) {
    const int heads = d->c->n_heads, kv_heads = d->c->n_kv_heads, dim = d->c->head_dim;
    for (int h = 0; h < heads; h++)
        for (int64_t r = 0; r < N; r++) {
            const int g = h / (heads / kv_heads);
            double p[N], sum = 0, *o = out + (r * heads + h) * dim;
            for (int64_t j = 0; j <= r; j++) {
                p[j] = 0;
                for (int i = 0; i < dim; i++) p[j] += q[(r * heads + h) * dim + i] * k[(j * kv_heads + g) * dim + i];
                sum += p[j] = exp(p[j] / sqrt(dim));
            }
            for (int i = 0; i < dim; i++) o[i] = 0;
            for (int64_t j = 0; j <= r; j++)
                for (int i = 0; i < dim; i++) o[i] += p[j] / sum * v[(j * kv_heads + g) * dim + i];
        }
}

static void block(decoder *d, double *const *w, double *x) {
    const clf_config *c = d->c;
    const int64_t hidden = c->hidden_size, wide = (int64_t)c->n_heads * c->head_dim,
                  narrow = (int64_t)c->n_kv_heads * c->head_dim, ffn = c->ffn_size;
    double *h = doubles(N * hidden), *q = doubles(N * wide), *k = doubles(N * narrow), *v = doubles(N * narrow),
           *o = doubles(N * wide), *g = doubles(N * ffn), *u = doubles(N * ffn);
    norm(d, h, x, w[CLF_W_ATTENTION_NORM]);
    see(d, h, hidden);
    multiply(q, h, w[CLF_W_QUERY], hidden, wide, false);
    multiply(k, h, w[CLF_W_KEY], hidden, narrow, false);
    multiply(v, h, w[CLF_W_VALUE], hidden, narrow, false);
    rotate(d, q, c->n_heads);
    rotate(d, k, c->n_kv_heads);
    attend(d, o, q, k, v);
    see(d, o, wide);
    multiply(x, o, w[CLF_W_OUTPUT], wide, hidden, true);
    norm(d, h, x, w[CLF_W_FFN_NORM]);
    see(d, h, hidden);
    multiply(g, h, w[CLF_W_GATE], hidden, ffn, false);
    multiply(u, h, w[CLF_W_UP], hidden, ffn, false);
    for (int64_t i = 0; i < N * ffn; i++) g[i] = g[i] / (1 + exp(-g[i])) * u[i];
    see(d, g, ffn);
    multiply(x, g, w[CLF_W_DOWN], ffn, hidden, true);
    double *const all[] = {h, q, k, v, o, g, u};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* The sum of losses of ids, each the label of the one before it; notes what rounding changes, or takes it as noted. */
static double loss_of(decoder *d, const int32_t *ids, bool notes) {
    const int64_t hidden = d->c->hidden_size, vocab = d->c->vocab_size;
    double *x = doubles(N * hidden), *z = doubles(N * vocab), loss = 0;
    d->notes = notes;
    d->at = 0;
    for (int64_t r = 0; r < N; r++) memcpy(x + r * hidden, d->weight[0] + ids[r] * hidden, (size_t)hidden * sizeof *x);
    for (int i = 0; i < d->c->n_layers; i++) block(d, d->weight + 3 + i * CLF_W_COUNT, x);
    norm(d, x, x, d->weight[1]);
    multiply(z, x, d->weight[2] ? d->weight[2] : d->weight[0], hidden, vocab, false);
    for (int64_t r = 0; r + 1 < N; r++) {
        double sum = 0;
        for (int64_t j = 0; j < vocab; j++) sum += exp(z[r * vocab + j]);
        loss += log(sum) - z[r * vocab + ids[r + 1]];
    }
    free(x);
    free(z);
    return loss;
}

/* A trainer in the midst of ternary training, and a batch. */
typedef struct scene {
    setting s;
    int32_t ids[N], labels[N];
    clf_batch batch;
} scene;

static void open_scene(scene *c, const char *path, int steps) {
    c->s = open_setting("cpu", path, (clf_trainer_args){.mode = CLF_TRAIN_FULL, .ternary = true});
    warm_up(&c->s, steps);
    make_ids(c->ids, N, 77);
    for (int i = 0; i < N; i++) c->labels[i] = i + 1 < N ? c->ids[i + 1] : CLF_LABEL_NONE;
    c->batch = (clf_batch){.ids = c->ids, .labels = c->labels, .tokens = N};
}

/* The place of a parameter in a decoder. */
static int place_of(const char *name) {
    char own[CLF_WEIGHT_NAME_SIZE];
    static const char *const ends[] = {"token_embd.weight", "output_norm.weight", "output.weight"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, ends[i])) return i;
    for (int i = 3; i < TENSORS; i++)
        if (!strcmp(name, clf_weight_name(own, (i - 3) / CLF_W_COUNT, (clf_weight)((i - 3) % CLF_W_COUNT)))) return i;
    fail_msg("%s", name);
    return 0;
}

static bool is_matrix(int place) {
    return place >= 3 && (place - 3) % CLF_W_COUNT < CLF_W_MATRICES;
}

/* |slope along a direction of signs − gradient · direction| ÷ |gradient|: about the gradient's relative error. */
static double slope_error(decoder *d, const scene *c, int place, const double *gradient, uint32_t seed) {
    const int64_t n = d->size[place];
    double *w = d->weight[place], *saved = doubles(n), *sign = doubles(n), along = 0, norm_squared = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        sign[i] = seed >> 31 ? 1 : -1;
        saved[i] = w[i];
        along += sign[i] * gradient[i];
        norm_squared += gradient[i] * gradient[i];
        squares += w[i] * w[i];
    }
    double loss[2];
    const double step = 1e-6 * sqrt(squares / (double)n);
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < n; i++) w[i] = saved[i] + (k ? -step : step) * sign[i];
        loss[k] = loss_of(d, c->ids, false);
    }
    memcpy(w, saved, (size_t)n * sizeof *w);
    free(saved);
    free(sign);
    const double slope = (loss[0] - loss[1]) / (2 * step) / (N - 1);
    assert_true(norm_squared > 0);
    return fabs(slope - along) / sqrt(norm_squared);
}

/* Of every parameter. Where the float pass rounds an activation to the other level than the double one, gradients
 * differ by some 1e-5; leaving out the rounding of what they are taken with makes up to 1e-2. */
static void gradients_go_straight_through(void **state) {
    (void)state;
    static const char *const paths[] = {"golden/models/llama", DEFAULT_MODEL};
    for (size_t m = 0; m < sizeof paths / sizeof *paths; m++) {
        scene c;
        double loss, worst = 0;
        open_scene(&c, paths[m], 3);
        assert_ok(c.s.ctx, clf_trainer_accumulate(c.s.trainer, &c.batch, N - 1, &loss));
        decoder d = open_decoder(c.s.ctx, c.s.model);
        const double want = loss_of(&d, c.ids, true);
        print_message("%s: loss %.7f, reference %.7f\n", paths[m], loss, want);
        assert_true(fabs(loss / want - 1) < 1e-4);
        for (int i = 0; i < clf_trainer_parameters(c.s.trainer); i++) {
            clf_parameter_info p;
            assert_ok(c.s.ctx, clf_trainer_parameter(c.s.trainer, i, &p));
            double *gradient = decoded(c.s.ctx, p.gradient);
            const double error = slope_error(&d, &c, place_of(p.name), gradient, 5 + (uint32_t)i);
            if (error > 3e-4) print_message("%s: error %.2g\n", p.name, error);
            worst = fmax(worst, error);
            free(gradient);
        }
        print_message("worst gradient: %.2g\n", worst);
        assert_true(worst < 3e-4);
        close_decoder(&d);
        close_setting(&c.s);
    }
}

/* After steps, and after going on from a checkpoint: what is used is the formula of the masters. */
static void used_weights_follow_the_masters(void **state) {
    (void)state;
    static const struct {
        const char *path;
        clf_dtype dtype;
    } models[] = {{"golden/models/llama", CLF_F16}, {DEFAULT_MODEL, CLF_TQ2_0}};
    for (size_t m = 0; m < 2; m++) {
        scene c;
        int matrices = 0;
        open_scene(&c, models[m].path, 2);
        decoder d = open_decoder(c.s.ctx, c.s.model);
        for (int i = 0; i < clf_trainer_parameters(c.s.trainer); i++) {
            clf_parameter_info p;
            assert_ok(c.s.ctx, clf_trainer_parameter(c.s.trainer, i, &p));
            const int place = place_of(p.name);
            const clf_tensor *used = c.s.trainer->parameters.all[i].used;
            double *master = decoded(c.s.ctx, p.weight), sum = 0;
            for (int64_t j = 0; j < d.size[place]; j++) sum += fabs(master[j]);
            const double scale = (double)clf_f16_to_f32(clf_f32_to_f16((float)(sum / (double)d.size[place])));
            assert_int_equal(used->dtype, is_matrix(place) ? models[m].dtype : CLF_F32);
            for (int64_t j = 0; j < d.size[place]; j++) {
                const double code = fmax(-1, fmin(1, nearbyint(master[j] / scale)));
                assert_true(d.weight[place][j] == (is_matrix(place) ? code * scale : master[j]));
            }
            matrices += is_matrix(place);
            free(master);
        }
        assert_int_equal(matrices, c.s.model->config.n_layers * CLF_W_MATRICES);
        close_decoder(&d);
        close_setting(&c.s);
    }
}

/* The model as the file has it, its ternary matrices not repacked: of the same dtypes as the trained one. */
static clf_model *load_rows(clf_context *ctx, const char *path) {
    clf_model *m;
    const clf_model_args args = {.path = path, .mmap = true, .contexts = &ctx, .n_contexts = 1, .keep_layout = true};
    assert_ok(ctx, clf_model_load(&m, &args));
    return m;
}

static void logits_of(const setting *s, const int32_t *ids, float *out) {
    clf_session *session = open_session(s->ctx, &(clf_session_args){.model = s->model, .kv_dtype = CLF_F32});
    assert_ok(s->ctx, clf_session_eval(session, ids, N, CLF_LOGITS_ALL, out));
    clf_session_destroy(session);
}

/* The file, loaded again as it is: the very weights in TQ2_0, so the same logits to the bit, and in the decoder that
 * rounds as training does the trainer's evaluation. With a dtype asked for the same numbers in that. */
static void exports_are_what_was_trained(void **state) {
    (void)state;
    const char *base = in_folder("base.gguf"), *out = in_folder("out.gguf");
    static const char *const dtypes[] = {NULL, "f32"};
    setting plain = {.ctx =
                         open_context("cpu", 0)}; /* the default model's matrices are F16: the embedding is to stay */
    plain.model = load_model(&plain.ctx, 1, DEFAULT_MODEL);
    assert_ok(plain.ctx, clf_model_save(plain.model, &(clf_model_save_args){.path = base, .dtype = "f32"}));
    close_setting(&plain);
    scene c;
    double evaluated;
    open_scene(&c, base, 4);
    const int64_t vocab = c.s.model->config.vocab_size;
    float *want = malloc((size_t)(N * vocab) * sizeof *want), *got = malloc((size_t)(N * vocab) * sizeof *got);
    assert_true(want && got);
    assert_ok(c.s.ctx, clf_trainer_evaluate(c.s.trainer, &c.batch, &evaluated));
    logits_of(&c.s, c.ids, want);
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
        assert_ok(c.s.ctx, clf_model_save(c.s.model, &(clf_model_save_args){.path = out, .dtype = dtypes[k]}));
        setting again = {.ctx = open_context("cpu", 0)};
        again.model = load_rows(again.ctx, out);
        assert_int_equal(again.model->layers[1].weight[CLF_W_DOWN].dtype, dtypes[k] ? CLF_F32 : CLF_TQ2_0);
        decoder trained = open_decoder(c.s.ctx, c.s.model), loaded = open_decoder(again.ctx, again.model);
        for (int i = 0; i < TENSORS; i++)
            if (trained.weight[i])
                assert_memory_equal(trained.weight[i], loaded.weight[i],
                                    (size_t)trained.size[i] * sizeof **trained.weight);
        const double reference = loss_of(&loaded, c.ids, true);
        logits_of(&again, c.ids, got);
        double from_logits = 0;
        for (int64_t r = 0; r + 1 < N; r++) {
            double sum = 0;
            for (int64_t j = 0; j < vocab; j++) sum += exp((double)got[r * vocab + j]);
            from_logits += log(sum) - (double)got[r * vocab + c.ids[r + 1]];
        }
        print_message("%s: loss evaluated %.6f, of the file %.6f, of its session %.6f\n",
                      dtypes[k] ? dtypes[k] : "tq2_0", evaluated, reference, from_logits);
        assert_true(fabs(evaluated / reference - 1) < 1e-3);   /* codes that flip at a tie: some 10⁻⁴ for one */
        assert_true(fabs(evaluated / from_logits - 1) < 2e-2); /* a session rounds activations otherwise, or not */
        if (!dtypes[k]) assert_memory_equal(got, want, (size_t)(N * vocab) * sizeof *got);
        close_decoder(&trained);
        close_decoder(&loaded);
        close_setting(&again);
    }
    free(want);
    free(got);
    close_setting(&c.s);
}

/* A frozen matrix stays what it is, in the model and in the file. */
static void frozen_matrices_stay(void **state) {
    (void)state;
    const char *out = in_folder("frozen.gguf");
    const clf_parameter_group groups[] = {{.name = "blk.*.attn_*", .frozen = true}};
    setting s =
        open_setting("cpu", DEFAULT_MODEL,
                     (clf_trainer_args){.mode = CLF_TRAIN_FULL, .ternary = true, .groups = groups, .n_groups = 1});
    warm_up(&s, 1);
    assert_ok(s.ctx, clf_model_save(s.model, &(clf_model_save_args){.path = out}));
    setting again = {.ctx = open_context("cpu", 0)};
    again.model = load_rows(again.ctx, out);
    for (int i = 0; i < again.model->config.n_layers; i++)
        for (int id = 0; id < CLF_W_MATRICES; id++)
            assert_int_equal(again.model->layers[i].weight[id].dtype, id < CLF_W_GATE ? CLF_F16 : CLF_TQ2_0);
    close_setting(&s);
    close_setting(&again);
}

/* By the trainer and by its plan. */
static void refused_with_an_adapter(void **state) {
    (void)state;
    setting s = {.ctx = open_context("cpu", 0)};
    s.model = load_model(&s.ctx, 1, "golden/models/llama");
    const clf_trainer_args args = {.model = s.model, .tokens = 8, .ternary = true};
    assert_int_equal(clf_trainer_create(&s.trainer, &args), CLF_INVALID_ARGUMENT);
    assert_null(s.trainer);
    assert_non_null(strstr(clf_error_message(s.ctx), "trainer: ternary: expected CLF_TRAIN_FULL"));
    clf_trainer_estimate e;
    char message[256];
    assert_int_equal(clf_estimate_trainer(&e, &(clf_trainer_estimate_args){.path = "golden/models/llama",
                                                                           .trainer = args,
                                                                           .error = message,
                                                                           .error_size = sizeof message}),
                     CLF_INVALID_ARGUMENT);
    assert_non_null(strstr(message, "ternary"));
    close_setting(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_go_straight_through),
        cmocka_unit_test(used_weights_follow_the_masters),
        cmocka_unit_test_setup_teardown(exports_are_what_was_trained, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(frozen_matrices_stay, make_folder, remove_folder),
        cmocka_unit_test(refused_with_an_adapter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
