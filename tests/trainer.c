/* trainer.c: what must be the same bits (checkpointing, resuming), what must be equal (packing, accumulating), what is
 * refused, and losses that fall. That gradients are right is golden_train.c's. */
#include "folder_case.h"
#include "trainer_case.h"

#include <unistd.h>

static void same_bits(const char *device, const char *path, clf_trainer_args args) {
    static const way ways[] = {
        {CLF_CHECKPOINT_NONE, false}, {1, false}, {2, false}, {3, false}, {CLF_CHECKPOINT_SQRT, false}};
    same_bits_in(device, path, args, ways, sizeof ways / sizeof *ways);
}

static void checkpointing_changes_no_bit(void **state) {
    (void)state;
    same_bits("cpu", "golden/models/llama", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    same_bits("cpu", "golden/models/gemma2", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    same_bits("cpu", "golden/models/qwen3", (clf_trainer_args){.lora = {.rank = 3}});
    same_bits("cpu", "golden/models/qwen2", (clf_trainer_args){.lora = {.rank = 5, .dropout = 0.2F}, .seed = 3});
    same_bits("cpu", "golden/models/llama", (clf_trainer_args){.mode = CLF_TRAIN_FULL, .compute = CLF_BF16});
    same_bits("cpu", "golden/models/gemma2", (clf_trainer_args){.mode = CLF_TRAIN_FULL, .ternary = true});
}

/* Sequences in one batch, or one batch each: the same gradients but for the order of sums. */
static void cutting_a_step_changes_nothing(void **state) {
    (void)state;
    const text t = make_text(2);
    const clf_batch b = whole(&t);
    float *want = values(), *got = values();
    setting one = open_setting("cpu", "golden/models/gemma3", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    setting many = open_setting("cpu", "golden/models/gemma3", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    double loss, sum = 0;
    assert_ok(one.ctx, clf_trainer_accumulate(one.trainer, &b, t.targets, &loss));
    for (int s = 0; s < SEQUENCES; s++) {
        double part;
        const clf_batch cut = {
            .ids = t.ids + starts[s], .labels = t.labels + starts[s], .tokens = starts[s + 1] - starts[s]};
        assert_ok(many.ctx, clf_trainer_accumulate(many.trainer, &cut, t.targets, &part));
        sum += part;
    }
    const int64_t n = collect(&one, true, want);
    collect(&many, true, got);
    assert_true(fabs(sum / loss - 1) < 1e-6);
    assert_true(difference(got, want, n) < 2e-6);
    close_setting(&one);
    close_setting(&many);
    free(want);
    free(got);
}

/* Six steps; or three and a batch of the fourth, saved, loaded into another trainer, which takes three. */
static void resuming_changes_no_bit(const clf_trainer_args *args) {
    const char *path = "golden/models/llama";
    const char *file = in_folder("checkpoint");
    char extra[64];
    float *want = values(), *got = values();
    const text t = make_text(7);
    const clf_batch b = whole(&t);
    setting all = open_setting("cpu", path, *args), first = open_setting("cpu", path, *args),
            second = open_setting("cpu", path, *args);
    warm_up(&all, 3);
    warm_up(&all, 3);
    warm_up(&first, 3);
    assert_ok(first.ctx, clf_trainer_accumulate(first.trainer, &b, t.targets, NULL));
    assert_ok(first.ctx, clf_trainer_save(first.trainer, file, "{\"place\": 12}"));
    assert_ok(second.ctx, clf_trainer_load(second.trainer, file, extra, sizeof extra));
    assert_string_equal(extra, "{\"place\": 12}");
    assert_int_equal(clf_trainer_step(second.trainer), 3);
    warm_up(&second, 3);
    const int64_t n = collect(&all, false, want);
    collect(&second, false, got);
    assert_memory_equal(got, want, (size_t)n * sizeof *got);
    close_setting(&all);
    close_setting(&first);
    close_setting(&second);
    free(want);
    free(got);
}

static void checkpoints_resume(void **state) {
    (void)state;
    resuming_changes_no_bit(&(clf_trainer_args){.lora = {.rank = 4, .dropout = 0.1F}, .clip = 1});
    resuming_changes_no_bit(&(clf_trainer_args){.mode = CLF_TRAIN_FULL, .optimizer_8bit = true});
    resuming_changes_no_bit(
        &(clf_trainer_args){.mode = CLF_TRAIN_FULL, .compute = CLF_BF16, .optimizer = CLF_OPTIMIZER_LION});
    resuming_changes_no_bit(&(clf_trainer_args){.mode = CLF_TRAIN_FULL, .ternary = true});
}

/* Every byte that is changed, and every shorter file, is noticed, and nothing of it taken. */
static void damaged_checkpoints_are_refused(void **state) {
    (void)state;
    const char *file = in_folder("checkpoint");
    char extra[8];
    const clf_trainer_args args = {.lora = {.rank = 1, .targets = CLF_PROJECTION_KEY}};
    setting s = open_setting("cpu", "golden/models/llama", args);
    setting other = open_setting("cpu", "golden/models/qwen2", args);
    float *before = values(), *after = values();
    warm_up(&s, 1);
    assert_ok(s.ctx, clf_trainer_save(s.trainer, file, "0123456789"));
    warm_up(&s, 1);
    const int64_t n = collect(&s, false, before);
    FILE *f = fopen(file, "rb+");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    const long end = ftell(f);
    assert_true(end > 0);
    for (long at = 0; at < end; at += end / 97 + 1) {
        fseek(f, at, SEEK_SET);
        const int byte = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(byte ^ 4, f);
        fflush(f);
        assert_int_not_equal(clf_trainer_load(s.trainer, file, NULL, 0), CLF_OK);
        fseek(f, at, SEEK_SET);
        fputc(byte, f);
        fflush(f);
    }
    assert_int_equal(clf_trainer_load(s.trainer, file, extra, sizeof extra), CLF_FULL);
    assert_int_equal(clf_trainer_load(other.trainer, file, NULL, 0), CLF_BAD_FILE);
    assert_int_equal(clf_trainer_load(s.trainer, "golden/models/llama/model.safetensors", NULL, 0), CLF_BAD_FILE);
    assert_int_equal(clf_trainer_load(s.trainer, "golden/none", NULL, 0), CLF_NOT_FOUND);
    for (long length = end - 1; length > 0; length -= end / 13 + 1) {
        assert_int_equal(ftruncate(fileno(f), length), 0);
        assert_int_not_equal(clf_trainer_load(s.trainer, file, NULL, 0), CLF_OK);
    }
    collect(&s, false, after);
    assert_memory_equal(before, after, (size_t)n * sizeof *before);
    assert_int_equal(clf_trainer_step(s.trainer), 2);
    fclose(f);
    close_setting(&s);
    close_setting(&other);
    free(before);
    free(after);
}

/* Version 1 had other codes of 8-bit state; all else is as it was. */
static void older_codes_are_refused(void **state) {
    (void)state;
    const char *file = in_folder("checkpoint");
    char head[8192];
    setting codes =
        open_setting("cpu", "golden/models/llama", (clf_trainer_args){.mode = CLF_TRAIN_FULL, .optimizer_8bit = true});
    setting floats = open_setting("cpu", "golden/models/llama", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    const struct {
        const setting *saved;
        char version;
    } cases[] = {{&floats, '1'}, {&codes, '2'}};
    for (int i = 0; i < 2; i++) {
        assert_ok(cases[i].saved->ctx, clf_trainer_save(cases[i].saved->trainer, file, NULL));
        FILE *f = fopen(file, "rb+");
        assert_non_null(f);
        const size_t n = fread(head, 1, sizeof head - 1, f);
        head[n] = 0;
        const char *at = strstr(head + 8, "\"version\":\"");
        assert_non_null(at);
        assert_int_equal(at[11], cases[i].version);
        fseek(f, at + 11 - head, SEEK_SET);
        fputc('1', f);
        fclose(f);
        assert_int_equal(clf_trainer_load(codes.trainer, file, NULL, 0), CLF_UNSUPPORTED);
        assert_non_null(strstr(clf_error_message(codes.ctx), "version: expected 2, got 1"));
    }
    close_setting(&codes);
    close_setting(&floats);
}

static double train(const setting *s, int steps, float learning_rate) {
    const text t = make_text(9);
    const clf_batch b = whole(&t);
    double loss = 0;
    for (int i = 0; i < steps; i++) {
        assert_ok(s->ctx, clf_trainer_accumulate(s->trainer, &b, t.targets, &loss));
        assert_ok(s->ctx, clf_trainer_update(s->trainer, learning_rate, NULL));
    }
    assert_ok(s->ctx, clf_trainer_evaluate(s->trainer, &b, &loss));
    return loss / (double)t.targets;
}

static void losses_fall(void **state) {
    (void)state;
    static const struct {
        const char *device, *path;
        clf_trainer_args args;
        float learning_rate;
        double below;
    } runs[] = {
        {"cpu", "golden/models/llama", {.mode = CLF_TRAIN_FULL}, 1e-2F, 0.5},
        {"cpu", "golden/models/mistral", {.mode = CLF_TRAIN_FULL, .optimizer = CLF_OPTIMIZER_LION}, 2e-3F, 0.5},
        {"cpu", "golden/models/phi3", {.mode = CLF_TRAIN_FULL, .optimizer = CLF_OPTIMIZER_SGD, .beta1 = 0.9F}, 0.1F, 3},
        {"cpu", "golden/models/llama", {.mode = CLF_TRAIN_FULL, .compute = CLF_BF16}, 1e-2F, 0.6},
        {"cpu", "golden/models/llama", {.mode = CLF_TRAIN_FULL, .compute = CLF_F16, .loss_scale = 1024}, 1e-2F, 0.6},
        {"cpu", "golden/models/llama", {.mode = CLF_TRAIN_FULL, .ternary = true}, 1e-2F, 1},
        {"cpu", "golden/models/qwen3", {.mode = CLF_TRAIN_FULL, .ternary = true, .compute = CLF_BF16}, 1e-2F, 1},
        {"opencl", "golden/models/llama", {.mode = CLF_TRAIN_FULL, .ternary = true}, 1e-2F, 1},
        {"cpu", "golden/gguf/llama.gguf", {.lora = {.rank = 8, .alpha = 16}}, 3e-2F, 1.5},
        {"opencl", "golden/models/llama", {.lora = {.rank = 8, .alpha = 16}}, 3e-2F, 1.5},
    };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        clf_device_info infos[16];
        int n = 0;
        bool there = false;
        clf_devices(infos, 16, &n);
        for (int d = 0; d < n && d < 16; d++) there |= infos[d].usable && strstr(infos[d].name, runs[i].device);
        if (!there) {
            print_message("skipped: no %s\n", runs[i].device);
            continue;
        }
        setting s = open_setting(runs[i].device, runs[i].path, runs[i].args);
        const double before = train(&s, 0, 0), after = train(&s, 60, runs[i].learning_rate);
        print_message("%s %s: loss %.4f, then %.4f\n", runs[i].device, runs[i].path, before, after);
        assert_true(after < runs[i].below && before > 3.5);
        close_setting(&s);
    }
}

/* What was trained stays in the model: a session sees it. */
static void sessions_see_the_adapter(void **state) {
    (void)state;
    setting s = open_setting("cpu", "golden/models/llama", (clf_trainer_args){.lora = {.rank = 4}});
    int32_t ids[8];
    float before[VOCAB], after[VOCAB];
    make_ids(ids, 8, 4);
    warm_up(&s, 4);
    clf_trainer_destroy(s.trainer);
    s.trainer = NULL;
    setting plain = {.ctx = open_context("cpu", 0)};
    plain.model = load_model(&plain.ctx, 1, "golden/models/llama");
    clf_session *tuned = open_session(s.ctx, &(clf_session_args){.model = s.model}),
                *base = open_session(plain.ctx, &(clf_session_args){.model = plain.model});
    assert_ok(s.ctx, clf_session_eval(tuned, ids, 8, CLF_LOGITS_LAST, after));
    assert_ok(plain.ctx, clf_session_eval(base, ids, 8, CLF_LOGITS_LAST, before));
    assert_true(difference(after, before, VOCAB) > 1e-3);
    clf_session_destroy(tuned);
    clf_session_destroy(base);
    close_setting(&s);
    close_setting(&plain);
}

static void groups_freeze_and_scale(void **state) {
    (void)state;
    const clf_parameter_group groups[] = {{.name = "*norm*", .frozen = true},
                                          {.name = "token_embd.weight", .learning_rate_scale = 0.5F}};
    setting all = open_setting("cpu", "golden/models/llama", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    setting some = open_setting("cpu", "golden/models/llama",
                                (clf_trainer_args){.mode = CLF_TRAIN_FULL, .groups = groups, .n_groups = 2});
    const int norms = 2 * 2 + 1;
    assert_int_equal(clf_trainer_parameters(all.trainer) - clf_trainer_parameters(some.trainer), norms);
    warm_up(&some, 2);
    clf_trainer *t = NULL;
    const clf_parameter_group none = {.name = "*", .frozen = true};
    const clf_trainer_args nothing = {
        .model = all.model, .mode = CLF_TRAIN_FULL, .tokens = 8, .groups = &none, .n_groups = 1};
    assert_int_equal(clf_trainer_create(&t, &nothing), CLF_INVALID_ARGUMENT);
    assert_null(t);
    close_setting(&all);
    close_setting(&some);
}

/* Overflow in the gradient: no weight changes, the tensor is named; the next step is as if nothing had been. */
static void overflow_skips_the_step(void **state) {
    (void)state;
    const clf_trainer_args args = {.mode = CLF_TRAIN_FULL, .compute = CLF_F16, .loss_scale = 65536};
    setting s = open_setting("cpu", "golden/models/llama", args);
    const text t = make_text(5);
    const clf_batch b = whole(&t);
    float *before = values(), *after = values();
    const int64_t n = collect(&s, false, before);
    clf_update u;
    assert_ok(s.ctx, clf_trainer_set_loss_scale(s.trainer, 3e38F));
    assert_ok(s.ctx, clf_trainer_accumulate(s.trainer, &b, t.targets, NULL));
    assert_ok(s.ctx, clf_trainer_update(s.trainer, 1, &u));
    assert_true(u.skipped && u.culprit);
    collect(&s, false, after);
    assert_memory_equal(before, after, (size_t)n * sizeof *before);
    assert_int_equal(clf_trainer_step(s.trainer), 0);
    assert_ok(s.ctx, clf_trainer_set_loss_scale(s.trainer, 1024));
    assert_ok(s.ctx, clf_trainer_accumulate(s.trainer, &b, t.targets, NULL));
    assert_ok(s.ctx, clf_trainer_update(s.trainer, 1e-3F, &u));
    assert_false(u.skipped);
    close_setting(&s);
    free(before);
    free(after);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    setting s = open_setting("cpu", "golden/models/llama", (clf_trainer_args){.lora = {.rank = 2}});
    const text t = make_text(6);
    clf_batch b = whole(&t);
    double loss;
    int32_t bad[TOKENS];
    memcpy(bad, t.ids, sizeof bad);
    bad[3] = VOCAB;
    b.ids = bad;
    assert_int_equal(clf_trainer_accumulate(s.trainer, &b, 1, &loss), CLF_INVALID_ARGUMENT);
    b = whole(&t);
    b.labels = bad;
    assert_int_equal(clf_trainer_accumulate(s.trainer, &b, 1, &loss), CLF_INVALID_ARGUMENT);
    b = whole(&t);
    assert_int_equal(clf_trainer_accumulate(s.trainer, &b, 0, &loss), CLF_INVALID_ARGUMENT);
    b.tokens = TOKENS + 1;
    assert_int_equal(clf_trainer_accumulate(s.trainer, &b, 1, &loss), CLF_INVALID_ARGUMENT);
    b = whole(&t);
    b.starts = (const int32_t[]){0, 8, 7, 33, TOKENS};
    assert_int_equal(clf_trainer_accumulate(s.trainer, &b, 1, &loss), CLF_INVALID_ARGUMENT);
    b.starts = (const int32_t[]){1, 7, 8, 33, TOKENS};
    assert_int_equal(clf_trainer_accumulate(s.trainer, &b, 1, &loss), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_trainer_update(s.trainer, NAN, NULL), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_trainer_set_loss_scale(s.trainer, 0), CLF_INVALID_ARGUMENT);
    clf_trainer *other;
    const clf_trainer_args wrong[] = {
        {.model = s.model},
        {.model = s.model, .tokens = 8, .lora = {.rank = 2}}, /* it has an adapter now */
        {.model = s.model, .tokens = 8, .mode = CLF_TRAIN_FULL},
        {.model = s.model, .tokens = 8, .ternary = true}, /* an adapter alone is trained */
        {.model = s.model, .tokens = 8, .compute = CLF_I32},
        {.model = s.model, .tokens = 8, .checkpointing = -2},
        {.model = s.model, .tokens = 8, .lora = {.dropout = 1}},
        {.model = s.model, .tokens = 8, .beta1 = 1},
        {.model = s.model, .tokens = 8, .clip = NAN},
        {.model = s.model, .tokens = 8, .sequences = 9},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(clf_trainer_create(&other, &wrong[i]), CLF_INVALID_ARGUMENT);
        assert_null(other);
    }
    b = whole(&t);
    assert_ok(s.ctx, clf_trainer_accumulate(s.trainer, &b, t.targets, &loss));
    close_setting(&s);
}

/* A trainer that doesn't fit leaves the model as it was: a smaller one can be made of it. */
static void refused_trainers_leave_the_model(void **state) {
    (void)state;
    static const clf_trainer_args tries[] = {{.lora = {.rank = 3}},
                                             {.mode = CLF_TRAIN_FULL},
                                             {.mode = CLF_TRAIN_FULL, .ternary = true},
                                             {.mode = CLF_TRAIN_FULL, .compute = CLF_BF16, .checkpointing = 1}};
    static const char *const paths[] = {"golden/models/llama", "golden/models/gemma2"}; /* gemma2's output is tied */
    for (size_t i = 0; i < sizeof tries / sizeof *tries * 2; i++) {
        const char *path = paths[i % 2];
        setting s = {.ctx = open_context("cpu", 4 << 20)};
        s.model = load_model(&s.ctx, 1, path);
        clf_trainer_args args = tries[i / 2];
        args.model = s.model;
        for (int64_t tokens = 1 << 20; tokens >= TOKENS; tokens /= 4) {
            args.tokens = tokens;
            args.sequences = SEQUENCES;
            if (clf_trainer_create(&s.trainer, &args) == CLF_OK) break;
            assert_null(s.trainer);
            assert_non_null(strstr(clf_error_message(s.ctx), "memory limit"));
            assert_int_equal(s.model->lora_rank, 0);
            assert_int_equal(s.model->embedding.dtype, CLF_F32);
            assert_int_equal(s.model->layers[1].weight[CLF_W_DOWN].dtype, CLF_F32);
            assert_true((s.model->output.buffer == s.model->embedding.buffer) == s.model->config.tied_output);
        }
        assert_non_null(s.trainer);
        assert_true(args.tokens < 1 << 20);
        warm_up(&s, 1);
        close_setting(&s);
    }
}

/* Labels all masked: a loss of 0, and gradients of 0. */
static void no_targets_no_gradient(void **state) {
    (void)state;
    setting s = open_setting("cpu", "golden/models/llama", (clf_trainer_args){.mode = CLF_TRAIN_FULL});
    text t = make_text(7);
    for (int i = 0; i < TOKENS; i++) t.labels[i] = CLF_LABEL_NONE;
    const clf_batch b = whole(&t);
    double loss = 1;
    clf_update u;
    assert_ok(s.ctx, clf_trainer_accumulate(s.trainer, &b, 1, &loss));
    assert_true(loss == 0);
    assert_ok(s.ctx, clf_trainer_update(s.trainer, 1e-3F, &u));
    assert_true(u.gradient_norm == 0 && !u.skipped);
    close_setting(&s);
}

/* Adds `step` times the gradients to the weights. */
static void move_along(const setting *s, const float *gradients, double step) {
    int64_t at = 0;
    for (int i = 0; i < s->trainer->parameters.count; i++) {
        clf_tensor *w = &s->trainer->parameters.all[i].master;
        const int64_t n = clf_elements(w);
        float *v = malloc((size_t)n * sizeof *v);
        assert_ok(s->ctx, clf_tensor_read(w, v, (size_t)n * sizeof *v));
        for (int64_t j = 0; j < n; j++) v[j] = (float)((double)v[j] + step * (double)gradients[at + j]);
        assert_ok(s->ctx, clf_tensor_write(w, v, (size_t)n * sizeof *v));
        free(v);
        at += n;
    }
}

/* Evaluating says what training on the same pairs says, leaves no gradient behind, and knows no dropout. */
static void preferences_are_evaluated(void **state) {
    (void)state;
    enum { PAIRS = SEQUENCES / 2 };
    const text t = make_text(11);
    const clf_batch b = whole(&t);
    for (int dropout = 0; dropout < 2; dropout++) {
        const float share = dropout ? 0.3F : 0;
        setting s = open_setting("cpu", "golden/models/llama",
                                 (clf_trainer_args){.lora = {.rank = 4, .dropout = share}, .seed = 2});
        clf_preference seen, again, learnt;
        clf_update u;
        assert_ok(s.ctx, clf_trainer_evaluate_preference(s.trainer, &b, 0.5F, &seen));
        assert_true(seen.pairs == PAIRS && seen.correct == 0 && seen.margin == 0);
        assert_true(fabs(seen.loss - PAIRS * log(2)) < 1e-9);
        assert_ok(s.ctx, clf_trainer_update(s.trainer, 1, &u));
        assert_true(u.gradient_norm == 0);
        for (int i = 0; i < 5; i++) {
            assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &learnt));
            assert_ok(s.ctx, clf_trainer_update(s.trainer, 1e-2F, NULL));
        }
        assert_ok(s.ctx, clf_trainer_evaluate_preference(s.trainer, &b, 0.5F, &seen));
        assert_ok(s.ctx, clf_trainer_evaluate_preference(s.trainer, &b, 0.5F, &again));
        assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &learnt));
        assert_true(seen.loss == again.loss && seen.margin == again.margin && seen.margin > 0);
        assert_true((seen.loss == learnt.loss && seen.margin == learnt.margin && seen.correct == learnt.correct) !=
                    dropout);

        /* one pair: the loss is that of its margin */
        clf_batch one = b;
        one.sequences = 2;
        one.tokens = starts[2];
        assert_ok(s.ctx, clf_trainer_evaluate_preference(s.trainer, &one, 0.5F, &seen));
        assert_true(fabs(seen.loss - log(1 + exp(-seen.margin))) < 1e-12 && seen.correct == (seen.margin > 0));
        one.sequences = 1;
        one.tokens = starts[1];
        assert_int_equal(clf_trainer_evaluate_preference(s.trainer, &one, 0.5F, &seen), CLF_INVALID_ARGUMENT);
        assert_int_equal(clf_trainer_evaluate_preference(s.trainer, &b, 0, &seen), CLF_INVALID_ARGUMENT);
        assert_int_equal(clf_trainer_evaluate_preference(s.trainer, NULL, 0.5F, &seen), CLF_INVALID_ARGUMENT);
        close_setting(&s);
    }
}

/* Two pairs. The adapter begins as the reference, with a loss of log 2; its gradient is the slope of the loss; the
 * chosen answers win. */
static void preferences_are_learnt(void **state) {
    (void)state;
    enum { PAIRS = SEQUENCES / 2 };
    setting s = open_setting("cpu", "golden/models/llama", (clf_trainer_args){.lora = {.rank = 4}, .seed = 2});
    const text t = make_text(11);
    const clf_batch b = whole(&t);
    clf_preference p, above, below;
    assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &p));
    assert_true(p.pairs == PAIRS && p.correct == 0 && fabs(p.loss - PAIRS * log(2)) < 1e-9 && p.margin == 0);
    assert_ok(s.ctx, clf_trainer_update(s.trainer, 1e-3F, NULL));

    float *g = values();
    assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &p));
    const int64_t n = collect(&s, true, g);
    double squares = 0;
    for (int64_t i = 0; i < n; i++) squares += (double)g[i] * (double)g[i];
    const double step = 1e-3 / squares; /* changes the mean loss by about 1e-3 */
    move_along(&s, g, step);
    assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &above));
    move_along(&s, g, -2 * step);
    assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &below));
    move_along(&s, g, step);
    const double slope = (above.loss - below.loss) / PAIRS / (2 * step);
    print_message("slope %.6g, gradient %.6g\n", slope, squares);
    assert_true(squares > 0 && fabs(slope / squares - 1) < 1e-2);
    free(g);

    assert_ok(s.ctx, clf_trainer_update(s.trainer, 0, NULL));
    for (int i = 0; i < 20; i++) {
        assert_ok(s.ctx, clf_trainer_accumulate_preference(s.trainer, &b, PAIRS, 0.5F, &p));
        assert_ok(s.ctx, clf_trainer_update(s.trainer, 1e-2F, NULL));
    }
    assert_true(p.correct == PAIRS && p.loss < 0.3 * PAIRS);
    clf_batch odd = b;
    odd.sequences = SEQUENCES - 1;
    odd.tokens = starts[SEQUENCES - 1];
    assert_int_equal(clf_trainer_accumulate_preference(s.trainer, &odd, 1, 0.5F, &p), CLF_INVALID_ARGUMENT);
    assert_int_equal(clf_trainer_accumulate_preference(s.trainer, &b, 1, 0, &p), CLF_INVALID_ARGUMENT);
    close_setting(&s);
}

/* What was planned from the file is what the pool counts. */
static void plans_are_kept(void **state) {
    (void)state;
    static const struct {
        const char *path;
        clf_dtype quantize;
        clf_trainer_args args;
        const char *adapter; /* of ranks 2 and more, that are no default */
    } plans[] = {
        {"golden/models/llama", CLF_F32, {.mode = CLF_TRAIN_FULL}, NULL},
        {"golden/models/gemma3", CLF_F32, {.mode = CLF_TRAIN_FULL, .compute = CLF_BF16, .checkpointing = 1}, NULL},
        {"golden/models/qwen3",
         CLF_F32,
         {.lora = {.rank = 6, .dropout = 0.1F}, .checkpointing = CLF_CHECKPOINT_SQRT},
         NULL},
        {"golden/gguf/llama.gguf", CLF_F32, {.lora = {.rank = 6}, .train_output = true}, NULL},
        {"../examples/default_model/default.gguf", CLF_F32, {.mode = CLF_TRAIN_FULL, .optimizer_8bit = true}, NULL},
        {"golden/models/llama", CLF_F32, {.mode = CLF_TRAIN_FULL, .ternary = true}, NULL},
        {"../examples/default_model/default.gguf", CLF_F32, {.mode = CLF_TRAIN_FULL, .ternary = true}, NULL},
        {"../examples/default_model/default.gguf", CLF_NF4, {.lora = {.rank = 8}, .checkpointing = 1}, NULL},
        {"golden/models/llama", CLF_F32, {.checkpointing = 1}, "golden/adapters/llama"},
        {"golden/gguf/llama.gguf", CLF_F32, {.train_output = true}, "golden/gguf/llama-adapter.gguf"},
        {"golden/models/phi3", CLF_F32, {.lora = {.dropout = 0.1F}}, "golden/adapters/phi3"},
    };
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        clf_trainer_args args = plans[i].args;
        clf_trainer_estimate said;
        char message[256] = "";
        args.tokens = TOKENS;
        args.sequences = SEQUENCES;
        assert_int_equal(clf_estimate_trainer(&said, &(clf_trainer_estimate_args){.path = plans[i].path,
                                                                                  .quantize = plans[i].quantize,
                                                                                  .adapter = plans[i].adapter,
                                                                                  .trainer = args,
                                                                                  .error = message,
                                                                                  .error_size = sizeof message}),
                         CLF_OK);
        setting s = {.ctx = open_context("cpu", 0)};
        assert_ok(s.ctx, clf_model_load(&s.model, &(clf_model_args){.path = plans[i].path,
                                                                    .mmap = true,
                                                                    .contexts = &s.ctx,
                                                                    .n_contexts = 1,
                                                                    .adapter = plans[i].adapter,
                                                                    .quantize = plans[i].quantize}));
        args.model = s.model;
        assert_ok(s.ctx, clf_trainer_create(&s.trainer, &args));
        warm_up(&s, 2);
        clf_memory_stats stats;
        assert_ok(s.ctx, clf_memory_get_stats(s.ctx, &stats));
        const double counted = (double)(stats.peak_asked + stats.mapped);
        print_message("%s: planned %+.2f %% of %.0f bytes\n", plans[i].path, 100 * ((double)said.total / counted - 1),
                      counted);
        assert_true(fabs((double)said.total / counted - 1) < 0.1);
        clf_parameter_info p;
        int64_t trained = 0;
        for (int n = 0; n < clf_trainer_parameters(s.trainer); n++) {
            assert_ok(s.ctx, clf_trainer_parameter(s.trainer, n, &p));
            trained += clf_tensor_elements(p.weight);
        }
        assert_int_equal(said.trained, trained);
        close_setting(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checkpointing_changes_no_bit),
        cmocka_unit_test(cutting_a_step_changes_nothing),
        cmocka_unit_test_setup_teardown(checkpoints_resume, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(damaged_checkpoints_are_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(older_codes_are_refused, make_folder, remove_folder),
        cmocka_unit_test(losses_fall),
        cmocka_unit_test(sessions_see_the_adapter),
        cmocka_unit_test(groups_freeze_and_scale),
        cmocka_unit_test(overflow_skips_the_step),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(no_targets_no_gradient),
        cmocka_unit_test(refused_trainers_leave_the_model),
        cmocka_unit_test(preferences_are_learnt),
        cmocka_unit_test(preferences_are_evaluated),
        cmocka_unit_test(plans_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
