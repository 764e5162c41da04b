/* preference.c: direct preference optimisation (arXiv:2305.18290). Of a pair of answers w (chosen) and l (rejected),
 * with log p the sum over an answer's targets and ref the model without its adapters:
 *
 *     z = beta · ((log p(w) − log ref(w)) − (log p(l) − log ref(l)))        loss = −log σ(z)
 *
 * The gradient is that of the cross-entropies, rows of w times beta·σ(−z), rows of l times −beta·σ(−z): three forward
 * passes of the head, two of the blocks, one backward. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "../core/random.h"
#include "trainer.h"

/* Log probability of each sequence's targets. */
static clf_status log_probabilities(clf_trainer *t, const clf_pass *p, const clf_batch *b, double *out) {
    double sum;
    CLF_TRY(clf_pass_forward(t, p, !p->base_only));
    CLF_TRY(clf_pass_head(t, p, 0, NULL));
    CLF_TRY(clf_pass_loss(t, b->tokens, &sum));
    for (int64_t s = 0; s < b->sequences; s++) {
        out[s] = 0;
        for (int32_t i = b->starts[s]; i < b->starts[s + 1]; i++) out[s] -= (double)t->host_values[i];
    }
    return CLF_OK;
}

/* Row weights of the pairs to host_values, and what the pairs say. */
static void weigh(const clf_trainer *t, const clf_batch *b, float beta, const double *policy, const double *reference,
                  clf_preference *out) {
    *out = (clf_preference){.pairs = b->sequences / 2};
    for (int64_t s = 0; s < b->sequences; s += 2) {
        const double z = (double)beta * ((policy[s] - reference[s]) - (policy[s + 1] - reference[s + 1]));
        out->loss += z > 0 ? log1p(exp(-z)) : log1p(exp(z)) - z;
        out->margin += z;
        out->correct += z > 0;
        const float weight = (float)((double)beta / (1 + exp(z)));
        for (int32_t i = b->starts[s]; i < b->starts[s + 1]; i++) t->host_values[i] = weight;
        for (int32_t i = b->starts[s + 1]; i < b->starts[s + 2]; i++) t->host_values[i] = -weight;
    }
}

/* Without the adapter, then with it; `pass` is the latter's, for a backward pass. */
static clf_status compare(clf_trainer *t, const clf_batch *b, float dropout, float beta, clf_pass *pass,
                          clf_preference *out) {
    double *const reference = malloc(2 * (size_t)b->sequences * sizeof *reference);
    CLF_CHECK(&t->ctx->error, reference, CLF_OUT_OF_MEMORY, "trainer: out of host memory");
    double *const policy = reference + b->sequences;
    clf_status st = clf_pass_begin(t, b, pass);
    pass->base_only = true;
    if (st == CLF_OK) st = log_probabilities(t, pass, b, reference);
    pass->base_only = false;
    pass->dropout = dropout;
    pass->seed = clf_seed_of(t->args.seed, (uint64_t)t->micro_batch + 1);
    if (st == CLF_OK) st = log_probabilities(t, pass, b, policy);
    if (st == CLF_OK) weigh(t, b, beta, policy, reference, out);
    free(reference);
    return st;
}

static clf_status accumulate(clf_trainer *t, const clf_batch *b, int64_t pairs, float beta, clf_preference *out) {
    clf_pass p;
    CLF_TRY(compare(t, b, t->args.lora.dropout, beta, &p, out));
    clf_tensor weights = clf_view_of(&t->row_weights, 1, &b->tokens, NULL, 0);
    CLF_TRY(clf_tensor_write(&weights, t->host_values, (size_t)b->tokens * sizeof(float)));
    CLF_TRY(clf_pass_head(t, &p, (float)((double)t->args.loss_scale / (double)pairs), &weights));
    return clf_pass_backward(t, &p);
}

static clf_status check(const clf_trainer *t, const clf_batch *b, float beta) {
    clf_error *err = &t->ctx->error;
    const clf_trainer_args *a = &t->args;
    const bool whole =
        a->model->embedding_trained || a->model->output_trained; /* now, or with the adapter it came with */
    CLF_CHECK(err, a->mode == CLF_TRAIN_LORA && !whole, CLF_INVALID_ARGUMENT,
              "trainer: preference: expected an adapter alone to be trained: the model without it is the reference");
    CLF_CHECK(err, a->label_smoothing == 0 && a->z_loss == 0, CLF_INVALID_ARGUMENT,
              "trainer: preference: label_smoothing and z_loss have no meaning here");
    CLF_TRY(clf_pass_check(t, b));
    CLF_CHECK(err, b->starts && b->sequences % 2 == 0, CLF_INVALID_ARGUMENT,
              "trainer: preference: expected chosen and rejected sequences in turn, got %lld", (long long)b->sequences);
    CLF_CHECK(err, beta > 0 && beta <= FLT_MAX, CLF_INVALID_ARGUMENT,
              "trainer: preference: beta: expected a positive number, got %g", (double)beta);
    return CLF_OK;
}

clf_status clf_trainer_evaluate_preference(clf_trainer *t, const clf_batch *b, float beta, clf_preference *out) {
    CLF_TRY(clf_trainer_enter(t));
    if (!b || !out) return CLF_INVALID_ARGUMENT;
    clf_pass p;
    CLF_TRY(check(t, b, beta));
    return compare(t, b, 0, beta, &p, out);
}

clf_status clf_trainer_accumulate_preference(clf_trainer *t, const clf_batch *b, int64_t pairs, float beta,
                                             clf_preference *out) {
    CLF_TRY(clf_trainer_enter(t));
    if (!b || !out) return CLF_INVALID_ARGUMENT;
    const clf_trainer_args *a = &t->args;
    CLF_TRY(check(t, b, beta));
    CLF_CHECK(&t->ctx->error, pairs >= 1, CLF_INVALID_ARGUMENT,
              "trainer: preference: pairs: expected 1 or more, got %lld", (long long)pairs);
    if (!t->row_weights.buffer)
        CLF_TRY(clf_tensor_init(&t->row_weights, t->ctx,
                                &(clf_tensor_args){.ndim = 1, .shape = {a->tokens}, .tag = CLF_TAG_ACTIVATIONS}));
    const clf_status st = accumulate(t, b, pairs, beta, out);
    if (st == CLF_OK)
        t->micro_batch++;
    else
        clf_trainer_clear_gradients(t);
    return st;
}
