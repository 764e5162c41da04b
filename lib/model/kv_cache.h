/* kv_cache.h: keys and values of one sequence. Each block has, on its own context,
 *
 *     key [n_kv_heads, capacity, head_dim], value [n_kv_heads, capacity, v_dim]    F32, F16, BF16, Q8_0 or Q4_0
 *
 * so that decoding streams each head's rows, rounded as they come. Row r holds the key rotated to position r: positions
 * are rows, also after eviction, which drops the oldest rows after the first `keep` and turns the younger keys back by
 * as many positions (attention sinks, arXiv:2309.17453). With window layers the rows outside the window stay: rewinding
 * needs them.
 *
 * Turning a key rounds it once more: it is decoded, turned, and encoded again (values are copied). Of what may be
 * dropped an eviction drops half or more, so that in a cache that is filled to the end each row is turned once at
 * most, and its error grows by √2; chunks so long that they don't fit before the cache is full evict earlier, and a
 * row may be turned again. */
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

/* Whether `dtype` can hold the model's keys and values; `op` ("session") names the caller in the message. */
clf_status clf_kv_cache_check(const clf_config *config, clf_dtype dtype, const char *op, clf_error *err);
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
/* Bytes of one block's keys, and of its values, in a dtype that passed the check. */
uint64_t clf_kv_cache_key_bytes(const clf_config *config, clf_dtype dtype, int64_t capacity);
uint64_t clf_kv_cache_value_bytes(const clf_config *config, clf_dtype dtype, int64_t capacity);

#endif
