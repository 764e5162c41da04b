/* pass.c: a batch through all blocks, forward and backward. No tape: the blocks are a list, and the backward pass is
 * the list from its end, a group's blocks being run again where only its input was kept. Of offloaded inputs, group g's
 * goes to the host while group g runs, since the output of the next one takes its place, and comes back while the next
 * one is run again and backward; but group 0's, which is looked up again.
 */
#include <math.h>

#include "../core/random.h"
#include "trainer.h"

clf_status clf_pass_check(const clf_trainer *t, const clf_batch *b) {
    clf_error *err = &t->ctx->error;
    const int32_t vocab = t->args.model->config.vocab_size;
    const int64_t n = b->tokens, sequences = b->starts ? b->sequences : 1;
    CLF_CHECK(err, b->ids && b->labels, CLF_INVALID_ARGUMENT, "trainer: batch: ids or labels are NULL");
    CLF_CHECK(err, n >= 1 && n <= t->args.tokens, CLF_INVALID_ARGUMENT,
              "trainer: batch: tokens: expected 1 to %lld, got %lld", (long long)t->args.tokens, (long long)n);
    CLF_CHECK(err, sequences >= 1 && sequences <= t->args.sequences, CLF_INVALID_ARGUMENT,
              "trainer: batch: sequences: expected 1 to %lld, got %lld", (long long)t->args.sequences,
              (long long)sequences);
    for (int64_t i = 0; i < n; i++) {
        CLF_CHECK(err, b->ids[i] >= 0 && b->ids[i] < vocab, CLF_INVALID_ARGUMENT,
                  "trainer: batch: ids[%lld]: expected 0 to %d, got %d", (long long)i, vocab - 1, b->ids[i]);
        CLF_CHECK(err, b->labels[i] == CLF_LABEL_NONE || (b->labels[i] >= 0 && b->labels[i] < vocab),
                  CLF_INVALID_ARGUMENT, "trainer: batch: labels[%lld]: expected 0 to %d, or %d, got %d", (long long)i,
                  vocab - 1, CLF_LABEL_NONE, b->labels[i]);
    }
    if (!b->starts) return CLF_OK;
    CLF_CHECK(err, b->starts[0] == 0 && b->starts[sequences] == n, CLF_INVALID_ARGUMENT,
              "trainer: batch: starts: expected from 0 to %lld, got from %d to %d", (long long)n, b->starts[0],
              b->starts[sequences]);
    for (int64_t s = 0; s < sequences; s++)
        CLF_CHECK(err, b->starts[s] <= b->starts[s + 1], CLF_INVALID_ARGUMENT,
                  "trainer: batch: starts[%lld]: expected %d or more, got %d", (long long)s + 1, b->starts[s],
                  b->starts[s + 1]);
    return CLF_OK;
}

/* The pass over this batch: its views, and ids, labels, positions and starts on the device. */
clf_status clf_pass_begin(clf_trainer *t, const clf_batch *b, clf_pass *p) {
    const int64_t n = b->tokens;
    *p = t->pass;
    for (int i = 0; i < CLF_WORK_COUNT; i++) p->work[i] = clf_first_rows(&t->pass.work[i], n);
    clf_tensor ids = clf_first_rows(&t->ids, n), labels = clf_first_rows(&t->labels, n);
    p->positions = clf_first_rows(&t->pass.positions, n);
    const bool packed = b->starts && b->sequences > 1;
    for (int64_t s = 0; s < (packed ? b->sequences : 1); s++) {
        const int64_t first = packed ? b->starts[s] : 0, end = packed ? b->starts[s + 1] : n;
        for (int64_t i = first; i < end; i++) t->host_ids[i] = (int32_t)(i - first);
    }
    const size_t bytes = (size_t)n * sizeof(int32_t);
    CLF_TRY(clf_tensor_write(&ids, b->ids, bytes));
    CLF_TRY(clf_tensor_write(&labels, b->labels, bytes));
    CLF_TRY(clf_tensor_write(&p->positions, t->host_ids, bytes));
    p->starts = (clf_tensor){0};
    if (!packed) return CLF_OK;
    p->starts = clf_view_of(&t->pass.starts, 1, (const int64_t[]){b->sequences + 1}, NULL, 0);
    return clf_tensor_write(&p->starts, b->starts, (size_t)(b->sequences + 1) * sizeof(int32_t));
}

/* What block `index` saves, its input included. */
static clf_saved_set saved_of(const clf_trainer *t, int index, int64_t n) {
    const int size = t->groups.size;
    clf_saved_set s = clf_saved_rows(&t->sets[index % size], n);
    if (index % size == 0) s.act[CLF_SAVED_INPUT] = clf_first_rows(&t->inputs[index / size % t->groups.inputs], n);
    return s;
}

/* Before a group is run: the copy begun a group ago is done with, and that of a group's input begins, to the host or
 * back, if that is where it waits. */
static clf_status move_input(const clf_trainer *t, const clf_pass *p, int group, bool back) {
    CLF_TRY(clf_transfer_join(t->ctx));
    if (group < 1 || group > t->groups.on_host) return CLF_OK;
    const clf_tensor x = saved_of(t, group * t->groups.size, p->positions.shape[0]).act[CLF_SAVED_INPUT];
    const clf_memory *host = &t->host_inputs[group - 1];
    return back ? clf_transfer_to_device(&x, host) : clf_transfer_to_host(&x, host);
}

/* A group's blocks forward; the last one's output is wanted or not. */
static clf_status run_group(const clf_trainer *t, const clf_pass *p, int group, bool output_wanted) {
    const int64_t n = p->positions.shape[0];
    const int n_layers = p->model->config.n_layers, first = group * t->groups.size,
              end = n_layers - first < t->groups.size ? n_layers : first + t->groups.size;
    for (int i = first; i < end; i++) {
        const clf_saved_set saved = saved_of(t, i, n);
        const bool wanted = i + 1 < end || output_wanted;
        clf_tensor out = i + 1 == n_layers ? p->work[CLF_WORK_NORMED] : saved_of(t, i + 1, n).act[CLF_SAVED_INPUT];
        CLF_TRY(clf_layer_forward(p, i, &saved, wanted ? &out : NULL));
    }
    return CLF_OK;
}

/* The input of group 0. */
static clf_status embed(const clf_trainer *t, const clf_pass *p) {
    const clf_model *m = p->model;
    const int64_t n = p->positions.shape[0];
    const clf_tensor ids = clf_first_rows(&t->ids, n);
    clf_tensor x = saved_of(t, 0, n).act[CLF_SAVED_INPUT];
    return clf_embedding(
        t->ctx,
        &(clf_embedding_args){.weight = &m->embedding, .ids = &ids, .scale = m->config.embedding_scale, .out = &x});
}

clf_status clf_pass_forward(const clf_trainer *t, const clf_pass *p, bool backward) {
    CLF_TRY(clf_transfer_join(t->ctx)); /* with what a failed pass has left on its way */
    CLF_TRY(embed(t, p));
    for (int g = 0; g < t->groups.count; g++) {
        if (backward) CLF_TRY(move_input(t, p, g, false));
        CLF_TRY(run_group(t, p, g, true));
    }
    return CLF_OK;
}

/* The loss of each token; with d_loss ≠ 0 also the gradient by the last block's output. */
clf_status clf_pass_head(clf_trainer *t, const clf_pass *p, float d_loss, const clf_tensor *row_weights) {
    const clf_model *m = p->model;
    const clf_parameters *ps = &t->parameters;
    const int64_t n = p->positions.shape[0];
    const clf_tensor x = p->work[CLF_WORK_NORMED], labels = clf_first_rows(&t->labels, n);
    clf_tensor h = p->work[CLF_WORK_D_HIDDEN], rstd = clf_first_rows(&t->last_stat, n),
               loss = clf_first_rows(&t->loss, n);
    CLF_TRY(clf_rms_norm(t->ctx, &(clf_rms_norm_args){.x = &x,
                                                      .weight = &m->output_norm,
                                                      .weight_offset = m->config.norm_offset,
                                                      .eps = m->config.norm_eps,
                                                      .rstd = &rstd,
                                                      .out = &h}));
    const bool training = d_loss != 0;
    CLF_TRY(
        clf_linear_cross_entropy(t->ctx, &(clf_linear_cross_entropy_args){.x = &h,
                                                                          .weight = &m->output,
                                                                          .labels = &labels,
                                                                          .row_weights = row_weights,
                                                                          .softcap = m->config.logit_softcap,
                                                                          .label_smoothing = t->args.label_smoothing,
                                                                          .z_loss = t->args.z_loss,
                                                                          .d_loss = d_loss,
                                                                          .loss = &loss,
                                                                          .d_x = training ? &h : NULL,
                                                                          .d_weight = training ? ps->d_output : NULL}));
    if (!training) return CLF_OK;
    return clf_rms_norm_backward(t->ctx, &(clf_rms_norm_backward_args){.x = &x,
                                                                       .weight = &m->output_norm,
                                                                       .weight_offset = m->config.norm_offset,
                                                                       .rstd = &rstd,
                                                                       .d_out = &h,
                                                                       .d_x = &h,
                                                                       .d_weight = ps->d_output_norm});
}

/* Whether anything below block `index`'s products wants a gradient. */
static bool input_wanted(const clf_trainer *t, int index) {
    return index > 0 || t->parameters.d_embedding || t->parameters.layers[0].weight[CLF_W_ATTENTION_NORM];
}

clf_status clf_pass_backward(const clf_trainer *t, const clf_pass *p) {
    const clf_parameters *ps = &t->parameters;
    const int n_layers = p->model->config.n_layers;
    const int64_t n = p->positions.shape[0];
    for (int i = n_layers - 1; i >= 0; i--) {
        const int group = i / t->groups.size;
        const bool ends_group = i + 1 < n_layers && (i + 1) % t->groups.size == 0;
        if (ends_group) {
            CLF_TRY(move_input(t, p, group - 1, true)); /* into the place of group + 1's */
            if (!group) CLF_TRY(embed(t, p));
            CLF_TRY(run_group(t, p, group, false));
        }
        const clf_saved_set saved = saved_of(t, i, n);
        CLF_TRY(clf_layer_backward(p, i, &saved, &ps->layers[i], input_wanted(t, i)));
    }
    if (!ps->d_embedding) return CLF_OK;
    const clf_tensor ids = clf_first_rows(&t->ids, n);
    return clf_embedding_backward(t->ctx, &(clf_embedding_backward_args){.ids = &ids,
                                                                         .scale = p->model->config.embedding_scale,
                                                                         .d_out = &p->work[CLF_WORK_D_HIDDEN],
                                                                         .d_weight = ps->d_embedding});
}

clf_status clf_pass_loss(clf_trainer *t, int64_t n, double *loss) {
    const clf_tensor losses = clf_first_rows(&t->loss, n);
    CLF_TRY(clf_tensor_read(&losses, t->host_values, (size_t)n * sizeof(float)));
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)t->host_values[i];
    if (loss) *loss = sum;
    if (isfinite(sum)) return CLF_OK;
    char name[CLF_WEIGHT_NAME_SIZE];
    const char *culprit = clf_trainer_culprit(t, name);
    return clf_fail(&t->ctx->error, CLF_NOT_FINITE, "trainer: the loss of step %lld is %g: %s%s",
                    (long long)t->step + 1, sum, culprit ? culprit : "activations overflow, the weights are finite",
                    culprit ? " holds a value that isn't finite" : "");
}

static clf_status accumulate(clf_trainer *t, const clf_batch *batch, int64_t targets, double *loss) {
    clf_pass p;
    CLF_TRY(clf_pass_begin(t, batch, &p));
    p.dropout = t->args.lora.dropout;
    p.seed = clf_seed_of(t->args.seed, (uint64_t)t->micro_batch + 1);
    CLF_TRY(clf_pass_forward(t, &p, true));
    CLF_TRY(clf_pass_head(t, &p, (float)((double)t->args.loss_scale / (double)targets), NULL));
    CLF_TRY(clf_pass_backward(t, &p));
    return clf_pass_loss(t, batch->tokens, loss);
}

clf_status clf_trainer_accumulate(clf_trainer *t, const clf_batch *batch, int64_t targets, double *loss) {
    CLF_TRY(clf_trainer_enter(t));
    if (!batch) return CLF_INVALID_ARGUMENT;
    CLF_TRY(clf_pass_check(t, batch));
    CLF_CHECK(&t->ctx->error, targets >= 1, CLF_INVALID_ARGUMENT, "trainer: targets: expected 1 or more, got %lld",
              (long long)targets);
    const clf_status st = accumulate(t, batch, targets, loss);
    if (st == CLF_OK)
        t->micro_batch++;
    else
        clf_trainer_clear_gradients(t);
    return st;
}

clf_status clf_trainer_evaluate(clf_trainer *t, const clf_batch *batch, double *loss) {
    CLF_TRY(clf_trainer_enter(t));
    if (!batch || !loss) return CLF_INVALID_ARGUMENT;
    clf_pass p;
    CLF_TRY(clf_pass_check(t, batch));
    CLF_TRY(clf_pass_begin(t, batch, &p));
    CLF_TRY(clf_pass_forward(t, &p, false));
    CLF_TRY(clf_pass_head(t, &p, 0, NULL));
    return clf_pass_loss(t, batch->tokens, loss);
}
