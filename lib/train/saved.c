/* saved.c: sizes, allocation and views of what a block saves. */
#include "saved.h"

#include "../model/architecture.h"

void clf_saved_widths(int64_t width[CLF_SAVED_COUNT], int64_t stat[CLF_STAT_COUNT], const clf_config *c) {
    const int64_t hidden = c->hidden_size, query = clf_extent_of(CLF_EXTENT_QUERY, c),
                  key = clf_extent_of(CLF_EXTENT_KEY, c);
    width[CLF_SAVED_INPUT] = width[CLF_SAVED_MIDDLE] = hidden;
    width[CLF_SAVED_QUERY] = query;
    width[CLF_SAVED_KEY] = key;
    width[CLF_SAVED_VALUE] = clf_extent_of(CLF_EXTENT_VALUE, c);
    width[CLF_SAVED_ATTENDED] = clf_extent_of(CLF_EXTENT_ATTENTION, c);
    width[CLF_SAVED_GATE] = width[CLF_SAVED_UP] = c->ffn_size;
    width[CLF_SAVED_RAW_QUERY] = c->qk_norm ? query : 0;
    width[CLF_SAVED_RAW_KEY] = c->qk_norm ? key : 0;
    width[CLF_SAVED_ATTENTION_BRANCH] = width[CLF_SAVED_FFN_BRANCH] = c->post_norms ? hidden : 0;
    stat[CLF_STAT_LSE] = c->n_heads;
    stat[CLF_STAT_ATTENTION_NORM] = stat[CLF_STAT_FFN_NORM] = 1;
    stat[CLF_STAT_QUERY_NORM] = c->qk_norm ? c->n_heads : 0;
    stat[CLF_STAT_KEY_NORM] = c->qk_norm ? c->n_kv_heads : 0;
    stat[CLF_STAT_POST_ATTENTION_NORM] = stat[CLF_STAT_POST_FFN_NORM] = c->post_norms;
}

uint64_t clf_saved_bytes(const clf_config *c, int64_t tokens, clf_dtype dtype) {
    int64_t width[CLF_SAVED_COUNT], stat[CLF_STAT_COUNT];
    clf_saved_widths(width, stat, c);
    uint64_t sum = 0;
    for (int i = CLF_SAVED_INPUT + 1; i < CLF_SAVED_COUNT; i++) sum += clf_dtype_bytes(dtype, width[i] * tokens);
    for (int i = 0; i < CLF_STAT_COUNT; i++) sum += clf_dtype_bytes(CLF_F32, stat[i] * tokens);
    return sum;
}

static clf_status make(clf_tensor *t, clf_context *ctx, int64_t tokens, int64_t width, clf_dtype dtype) {
    if (!width) return CLF_OK;
    return clf_tensor_init(
        t, ctx, &(clf_tensor_args){.dtype = dtype, .ndim = 2, .shape = {tokens, width}, .tag = CLF_TAG_ACTIVATIONS});
}

clf_status clf_saved_init(clf_saved_set *set, clf_context *ctx, const clf_config *c, int64_t tokens, clf_dtype dtype) {
    int64_t width[CLF_SAVED_COUNT], stat[CLF_STAT_COUNT];
    clf_saved_widths(width, stat, c);
    for (int i = CLF_SAVED_INPUT + 1; i < CLF_SAVED_COUNT; i++)
        CLF_TRY(make(&set->act[i], ctx, tokens, width[i], dtype));
    for (int i = 0; i < CLF_STAT_COUNT; i++) CLF_TRY(make(&set->stat[i], ctx, tokens, stat[i], CLF_F32));
    return CLF_OK;
}

void clf_saved_release(clf_saved_set *set) {
    for (int i = 0; i < CLF_SAVED_COUNT; i++) clf_tensor_release(&set->act[i]);
    for (int i = 0; i < CLF_STAT_COUNT; i++) clf_tensor_release(&set->stat[i]);
}

clf_tensor clf_first_rows(const clf_tensor *t, int64_t n) {
    const int64_t shape[] = {n, t->shape[1]};
    return t->buffer ? clf_view_of(t, t->ndim, shape, NULL, 0) : (clf_tensor){0};
}

clf_saved_set clf_saved_rows(const clf_saved_set *set, int64_t tokens) {
    clf_saved_set view;
    for (int i = 0; i < CLF_SAVED_COUNT; i++) view.act[i] = clf_first_rows(&set->act[i], tokens);
    for (int i = 0; i < CLF_STAT_COUNT; i++) view.stat[i] = clf_first_rows(&set->stat[i], tokens);
    return view;
}
