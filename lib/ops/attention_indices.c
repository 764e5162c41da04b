/* attention_indices.c: what the index tensors of clf_attention() may hold, read where they are host memory. Kernels
 * that cannot rely on it, because the indices lie on a device, hide the keys that a wrong one names. */
#include "attention.h"
#include "check.h"

static int64_t index_at(const clf_tensor *t, int64_t i) {
    return ((const int32_t *)clf_data(t))[i * t->stride[0]];
}

/* Entries rise from 0 to `most` at the end. */
static clf_status check_rising(clf_context *ctx, const char *op, const char *name, const clf_tensor *t, int64_t most) {
    for (int64_t i = 0, before = 0; i < t->shape[0]; i++) {
        const int64_t x = index_at(t, i), end = i ? most : 0;
        CLF_CHECK(&ctx->error, x >= before && x <= end, CLF_INVALID_ARGUMENT,
                  "%s: %s[%lld]: expected %lld to %lld, got %lld", op, name, (long long)i, (long long)before,
                  (long long)end, (long long)x);
        before = x;
    }
    return CLF_OK;
}

/* Columns rise within each row and lie in 0 … blocks − 1. */
static clf_status check_columns(clf_context *ctx, const char *op, const clf_attention_args *a) {
    const int64_t keys = clf_attention_keys(a), blocks = keys / a->layout_block + (keys % a->layout_block != 0);
    for (int64_t r = 0; r + 1 < a->layout_rows->shape[0]; r++) {
        int64_t least = 0;
        for (int64_t i = index_at(a->layout_rows, r); i < index_at(a->layout_rows, r + 1); i++) {
            const int64_t column = index_at(a->layout_columns, i);
            CLF_CHECK(&ctx->error, column >= least && column < blocks, CLF_INVALID_ARGUMENT,
                      "%s: layout_columns[%lld], of row %lld: expected %lld to %lld, got %lld", op, (long long)i,
                      (long long)r, (long long)least, (long long)blocks - 1, (long long)column);
            least = column + 1;
        }
    }
    return CLF_OK;
}

/* Entries that a sequence's length reaches name blocks of the pool. */
static clf_status check_table(clf_context *ctx, const char *op, const clf_attention_args *a) {
    const clf_tensor *table = a->block_table;
    const int64_t most = clf_attention_keys(a), size = a->key->shape[2], blocks = a->key->shape[0];
    for (int64_t s = 0; s < table->shape[0]; s++) {
        const int64_t length = index_at(a->key_lengths, s);
        CLF_CHECK(&ctx->error, length >= 0 && length <= most, CLF_INVALID_ARGUMENT,
                  "%s: key_lengths[%lld]: expected 0 to %lld, got %lld", op, (long long)s, (long long)most,
                  (long long)length);
        for (int64_t i = 0; i * size < length; i++) {
            const int32_t *row = (const int32_t *)clf_data(table) + s * table->stride[0];
            CLF_CHECK(&ctx->error, row[i] >= 0 && row[i] < blocks, CLF_INVALID_ARGUMENT,
                      "%s: block_table[%lld][%lld]: expected 0 to %lld, got %d", op, (long long)s, (long long)i,
                      (long long)blocks - 1, row[i]);
        }
    }
    return CLF_OK;
}

clf_status clf_attention_check_indices(clf_context *ctx, const char *op, const clf_attention_args *a) {
    if (a->query_starts) CLF_TRY(check_rising(ctx, op, "query_starts", a->query_starts, a->query->shape[2]));
    if (a->key_starts) CLF_TRY(check_rising(ctx, op, "key_starts", a->key_starts, a->key->shape[2]));
    if (a->block_table) CLF_TRY(check_table(ctx, op, a));
    if (!a->layout_rows) return CLF_OK;
    CLF_TRY(check_rising(ctx, op, "layout_rows", a->layout_rows, a->layout_columns->shape[0]));
    return check_columns(ctx, op, a);
}
