/* kv_cache.h: keys and values of one sequence. Each block has, on its own context,
 *
 *     key [n_kv_heads, capacity, head_dim], value [n_kv_heads, capacity, v_dim]    F32 or F16
 *
 * so that decoding streams each head's rows. Row r holds the key rotated to position r: positions are rows, also after
 * eviction, which drops the oldest rows after the first `keep` and turns the younger keys back by as many positions
 * (attention sinks, arXiv:2309.17453). With window layers the rows outside the window stay: rewinding needs them. */
#ifndef CLF_MODEL_KV_CACHE_H
#define CLF_MODEL_KV_CACHE_H

#include "model.h"

typedef struct clf_kv_cache {
    const clf_model *model;
    clf_dtype dtype;
    int64_t capacity, keep;
    int64_t rows;            /* in use */
    int64_t evicted;         /* tokens forgotten after the first `keep` */
    int64_t evicting;        /* rows that an eviction which failed halfway still has to drop */
    clf_tensor *key, *value; /* [n_layers] */
} clf_kv_cache;

/* An empty cache; on failure nothing stays allocated. */
clf_status clf_kv_cache_init(clf_kv_cache *cache, const clf_model *model, clf_dtype dtype, int64_t capacity,
                             int64_t keep);
void clf_kv_cache_release(clf_kv_cache *cache);
/* Views of rows [first, first + n) as [1, n_kv_heads, n, dim]. */
clf_tensor clf_kv_cache_rows(const clf_kv_cache *cache, const clf_tensor *of, int64_t first, int64_t n);
/* Makes room for n more rows by dropping at least half of what may be dropped; `rope` are the rotations of full and of
 * window layers. A failure leaves the eviction to be finished by the next call; nothing else may be done before. */
clf_status clf_kv_cache_evict(clf_kv_cache *cache, int64_t n, const clf_rope_args rope[2]);
/* Finishes an eviction that failed halfway. */
clf_status clf_kv_cache_settle(clf_kv_cache *cache, const clf_rope_args rope[2]);
/* Copies the contents of an equally large cache of the same model. */
clf_status clf_kv_cache_copy(clf_kv_cache *cache, const clf_kv_cache *from);
/* Bytes of one block's keys, and of its values. */
uint64_t clf_kv_cache_key_bytes(const clf_config *config, clf_dtype dtype, int64_t capacity);
uint64_t clf_kv_cache_value_bytes(const clf_config *config, clf_dtype dtype, int64_t capacity);

#endif
