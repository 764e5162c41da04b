/* attention_layer.h: the attention half of a block, between its norms:
 *
 *     q, k, v = h·Wq + bq, h·Wk + bk, h·Wv + bv     one product over the three weights
 *     q, k = rope(norm(q)), rope(norm(k))           k, v → the cache, in its dtype
 *     out = attention(q, cache)·Wo (+ residual)
 *
 * with the norms where the architecture has them and adapters where they are loaded. Scores are never stored. */
#ifndef CLF_MODEL_ATTENTION_LAYER_H
#define CLF_MODEL_ATTENTION_LAYER_H

#include "decoder.h"

/* h [n, hidden], the normed input. Its keys and values go to the cache, whose rows are the caller's to advance; the
 * last `want` rows of h are attended for. out [want, hidden] may be residual. want 0: only the cache is filled. */
clf_status clf_attention_layer(const clf_decoder *d, const clf_kv_cache *cache, int index, const clf_tensor *h,
                               int64_t want, const clf_tensor *residual, clf_tensor *out);

#endif
