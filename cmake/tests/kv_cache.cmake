unit(kv_cache)
