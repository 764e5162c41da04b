/* gguf_values.c: the values of a GGUF by key, converted where nothing is lost. */
#include <string.h>

#include "gguf_state.h"

const clf_gguf_value *clf_gguf_value_of(const clf_gguf *g, const char *key) {
    const int64_t i = clf_name_index_find(&g->keys, key, strlen(key));
    return i < 0 ? NULL : &g->values[i];
}

bool clf_gguf_has(const clf_gguf *g, const char *key) {
    return clf_gguf_value_of(g, key) != NULL;
}

/* Address of element i of a value that isn't made of strings. */
static const void *element(const clf_gguf *g, const clf_gguf_value *v, uint64_t i) {
    return g->source.data + v->offset + i * clf_gguf_type_bytes(v->element);
}

/* Any integer as magnitude and sign. */
static bool integer(const clf_gguf *g, const clf_gguf_value *v, uint64_t i, uint64_t *magnitude, bool *negative) {
    const void *p = element(g, v, i);
    uint64_t u = 0;
    int64_t s = 0;
    switch (v->element) {
#define READ(type, to)                                                                                                 \
    {                                                                                                                  \
        type t;                                                                                                        \
        memcpy(&t, p, sizeof t);                                                                                       \
        (to) = t;                                                                                                      \
    }                                                                                                                  \
    break
    case CLF_GGUF_U8: READ(uint8_t, u);
    case CLF_GGUF_U16: READ(uint16_t, u);
    case CLF_GGUF_U32: READ(uint32_t, u);
    case CLF_GGUF_U64: READ(uint64_t, u);
    case CLF_GGUF_I8: READ(int8_t, s);
    case CLF_GGUF_I16: READ(int16_t, s);
    case CLF_GGUF_I32: READ(int32_t, s);
    case CLF_GGUF_I64: READ(int64_t, s);
#undef READ
    default: return false;
    }
    *negative = s < 0;
    *magnitude = s < 0 ? 0 - (uint64_t)s : u | (uint64_t)s;
    return true;
}

static bool as_i64(const clf_gguf *g, const clf_gguf_value *v, uint64_t i, int64_t *out) {
    uint64_t u;
    bool negative;
    if (!integer(g, v, i, &u, &negative)) return false;
    if (u > (uint64_t)INT64_MAX + negative) return false;
    *out = negative ? (int64_t)(0 - u) : (int64_t)u;
    return true;
}

static bool as_f64(const clf_gguf *g, const clf_gguf_value *v, uint64_t i, double *out) {
    uint64_t u;
    bool negative;
    float f;
    if (v->element == CLF_GGUF_F64) return memcpy(out, element(g, v, i), 8), true;
    if (v->element == CLF_GGUF_F32) return memcpy(&f, element(g, v, i), 4), *out = f, true;
    if (!integer(g, v, i, &u, &negative) || u > (uint64_t)1 << 53) return false;
    *out = negative ? -(double)u : (double)u;
    return true;
}

static bool as_bool(const clf_gguf *g, const clf_gguf_value *v, uint64_t i, bool *out) {
    if (v->element != CLF_GGUF_BOOL) return false;
    *out = *(const uint8_t *)element(g, v, i) != 0;
    return true;
}

static clf_string string_at(const clf_gguf *g, uint64_t offset) {
    clf_string s = {(const char *)g->source.data + offset + 8, 0};
    memcpy(&s.length, g->source.data + offset, 8);
    return s;
}

/* A value that is no array; NULL otherwise. */
static const clf_gguf_value *scalar(const clf_gguf *g, const char *key) {
    const clf_gguf_value *v = clf_gguf_value_of(g, key);
    return v && v->type != CLF_GGUF_ARRAY ? v : NULL;
}
/* An array that has element `index`; NULL otherwise. */
static const clf_gguf_value *array(const clf_gguf *g, const char *key, uint64_t index) {
    const clf_gguf_value *v = clf_gguf_value_of(g, key);
    return v && v->type == CLF_GGUF_ARRAY && index < v->count ? v : NULL;
}

bool clf_gguf_get_u64(const clf_gguf *g, const char *key, uint64_t *out) {
    const clf_gguf_value *v = scalar(g, key);
    uint64_t u;
    bool negative;
    if (!v || !integer(g, v, 0, &u, &negative) || negative) return false;
    *out = u;
    return true;
}
bool clf_gguf_get_i64(const clf_gguf *g, const char *key, int64_t *out) {
    const clf_gguf_value *v = scalar(g, key);
    return v && as_i64(g, v, 0, out);
}
bool clf_gguf_get_f64(const clf_gguf *g, const char *key, double *out) {
    const clf_gguf_value *v = scalar(g, key);
    return v && as_f64(g, v, 0, out);
}
bool clf_gguf_get_bool(const clf_gguf *g, const char *key, bool *out) {
    const clf_gguf_value *v = scalar(g, key);
    return v && as_bool(g, v, 0, out);
}
bool clf_gguf_get_string(const clf_gguf *g, const char *key, clf_string *out) {
    const clf_gguf_value *v = scalar(g, key);
    if (!v || v->type != CLF_GGUF_STRING) return false;
    *out = string_at(g, v->offset);
    return true;
}

bool clf_gguf_get_array(const clf_gguf *g, const char *key, clf_gguf_type *type, uint64_t *count) {
    const clf_gguf_value *v = clf_gguf_value_of(g, key);
    if (!v || v->type != CLF_GGUF_ARRAY) return false;
    *type = v->element;
    *count = v->count;
    return true;
}
bool clf_gguf_array_string(const clf_gguf *g, const char *key, uint64_t index, clf_string *out) {
    const clf_gguf_value *v = array(g, key, index);
    if (!v || v->element != CLF_GGUF_STRING) return false;
    *out = string_at(g, v->strings[index]);
    return true;
}
bool clf_gguf_array_i64(const clf_gguf *g, const char *key, uint64_t index, int64_t *out) {
    const clf_gguf_value *v = array(g, key, index);
    return v && as_i64(g, v, index, out);
}
bool clf_gguf_array_f64(const clf_gguf *g, const char *key, uint64_t index, double *out) {
    const clf_gguf_value *v = array(g, key, index);
    return v && as_f64(g, v, index, out);
}
bool clf_gguf_array_bool(const clf_gguf *g, const char *key, uint64_t index, bool *out) {
    const clf_gguf_value *v = array(g, key, index);
    return v && as_bool(g, v, index, out);
}
