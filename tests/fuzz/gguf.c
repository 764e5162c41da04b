/* gguf.c: any bytes as a GGUF: opened as a file and as a model, every key asked for in every way, every tensor read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/model/gguf_state.h"
#include "../../lib/model/model_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum;

static void read_bytes(const void *data, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) sum += ((const uint8_t *)data)[i];
}

static void read_key(const clf_gguf *g, const char *key) {
    clf_gguf_type type;
    clf_string s;
    uint64_t u, count = 0;
    int64_t i;
    double d;
    bool b;
    sum += clf_gguf_get_u64(g, key, &u) + clf_gguf_get_i64(g, key, &i) + clf_gguf_get_f64(g, key, &d) +
           clf_gguf_get_bool(g, key, &b);
    if (clf_gguf_get_string(g, key, &s)) read_bytes(s.data, s.length);
    clf_gguf_get_array(g, key, &type, &count);
    for (uint64_t n = 0; n <= count && n < 1000; n++) {
        sum +=
            clf_gguf_array_i64(g, key, n, &i) + clf_gguf_array_f64(g, key, n, &d) + clf_gguf_array_bool(g, key, n, &b);
        if (clf_gguf_array_string(g, key, n, &s)) read_bytes(s.data, s.length);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    clf_error err = {0};
    clf_gguf *g;
    clf_model_file *f;
    const clf_model_file_args args = {.data = data, .data_size = size};
    if (clf_gguf_open(&g, &args, &err) == CLF_OK) {
        for (uint64_t i = 0; i < g->keys.capacity; i++) {
            const clf_name_slot *slot = &g->keys.slot[i];
            char *key = slot->name ? calloc(1, slot->length + 1) : NULL;
            if (!key) continue;
            memcpy(key, slot->name, slot->length);
            read_key(g, key);
            free(key);
        }
        for (int64_t i = 0; i < clf_gguf_tensor_count(g); i++)
            read_bytes(clf_gguf_tensor(g, i)->data, clf_gguf_tensor(g, i)->nbytes);
    }
    clf_gguf_close(g);
    if (clf_model_file_open(&f, &args, &err) == CLF_OK)
        for (int64_t i = 0; i < clf_model_file_count(f); i++)
            read_bytes(clf_model_file_at(f, i)->data, clf_model_file_at(f, i)->nbytes);
    clf_model_file_close(f);
    return 0;
}
