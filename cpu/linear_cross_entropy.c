/* linear_cross_entropy.c: rows with a label go to the form that their gradients ask for: linear_cross_entropy_frozen.c
 * where the weights want none; linear_cross_entropy_stored.c while theirs is zero, as in a step's first micro-batch,
 * and room allows; else linear_cross_entropy_full.c. */
#include "linear_cross_entropy.h"

/* Rows without a label: no loss, no gradient. */
static void clear_row(const clf_linear_cross_entropy_args *a, int64_t row) {
    ((float *)clf_data(a->loss))[row] = 0;
    if (a->lse) ((float *)clf_data(a->lse))[row] = 0;
    if (a->d_x) memset(clf_row(a->d_x, row), 0, (size_t)a->d_x->shape[1] * cpu_bytes(a->d_x->dtype));
}

clf_status CPU_FN(linear_cross_entropy)(clf_context *ctx, const clf_linear_cross_entropy_args *args) {
    const int64_t rows = args->x->shape[0], vocab = args->weight->shape[0];
    const int32_t *labels = clf_data(args->labels);
    int64_t n = 0;
    for (int64_t i = 0; i < rows; i++) {
        CLF_CHECK(&ctx->error, labels[i] == CLF_LABEL_NONE || (labels[i] >= 0 && labels[i] < vocab),
                  CLF_INVALID_ARGUMENT,
                  "linear_cross_entropy: labels: element %lld: expected 0 to %lld or CLF_LABEL_NONE, got %d",
                  (long long)i, (long long)vocab - 1, labels[i]);
        n += labels[i] != CLF_LABEL_NONE;
    }
    if (n && !args->d_weight) {
        CLF_TRY(linear_cross_entropy_frozen(ctx, args, n));
    } else if (n) {
        int64_t done;
        CLF_TRY(linear_cross_entropy_stored(ctx, args, n, &done));
        if (done < n) CLF_TRY(linear_cross_entropy_full(ctx, args, done, n));
    }
    for (int64_t i = 0; i < rows; i++)
        if (labels[i] == CLF_LABEL_NONE) clear_row(args, i);
    return CLF_OK;
}
