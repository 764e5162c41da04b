/* session_file.c: a session in a file: a header, then for each block the rows of its keys [n_kv_heads, rows, head_dim]
 * and values, then the last logits if there are any; in the byte order of the machine. The checksum (XXH3, 64 bits)
 * covers all of it, and the header names the model by its fingerprint. Loading reads and verifies everything before the
 * session changes; what the header claims is compared with the file's size before anything is allocated. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "../core/checked.h"
#include "../core/output_file.h"

#define MAGIC "CLFSESSN"
enum { VERSION = 1 };

typedef struct header {
    char magic[8];
    uint32_t version, dtype;
    uint64_t fingerprint;
    int64_t keep, rows, evicted, evicting;
    uint32_t has_logits;
    int32_t last_id;
    uint64_t checksum; /* of everything, with 0 here */
} header;

/* Bytes after the header. */
static bool body_bytes(const clf_session *s, const header *h, uint64_t *out) {
    const clf_config *c = &s->model->config;
    uint64_t rows, all;
    const uint64_t per_row =
        clf_kv_cache_key_bytes(c, (clf_dtype)h->dtype, 1) + clf_kv_cache_value_bytes(c, (clf_dtype)h->dtype, 1);
    return clf_mul_u64(per_row, (uint64_t)c->n_layers, &rows) && clf_mul_u64(rows, (uint64_t)h->rows, &all) &&
           clf_add_u64(all, h->has_logits ? (uint64_t)c->vocab_size * sizeof(float) : 0, out);
}

static uint64_t checksum(header h, const void *body, size_t bytes) {
    h.checksum = XXH3_64bits(body, bytes);
    return XXH3_64bits(&h, sizeof h);
}

/* Runs over the body's parts in their order: what `visit` gets is a view of the cache. */
typedef clf_status (*visit_fn)(clf_tensor *rows, char *data, size_t bytes);

static clf_status read_rows(clf_tensor *rows, char *data, size_t bytes) {
    return clf_tensor_read(rows, data, bytes);
}
static clf_status write_rows(clf_tensor *rows, char *data, size_t bytes) {
    return clf_tensor_write(rows, data, bytes);
}

static clf_status for_rows(const clf_session *s, int64_t rows, char *data, visit_fn visit) {
    const clf_kv_cache *cache = &s->cache;
    for (int i = 0; i < s->model->config.n_layers; i++) {
        const clf_tensor *const parts[] = {&cache->key[i], &cache->value[i]};
        for (int p = 0; p < 2; p++) {
            clf_tensor view = clf_kv_cache_rows(cache, parts[p], 0, rows);
            const size_t bytes = clf_dtype_bytes(view.dtype, clf_elements(&view));
            CLF_TRY(clf_model_failed(s->model, view.ctx, visit(&view, data, bytes)));
            data += bytes;
        }
    }
    return CLF_OK;
}

static bool read_all(int fd, void *data, size_t bytes) {
    for (char *p = data; bytes;) {
        const ssize_t n = read(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

static clf_status write_file(const char *path, const header *h, const char *body, uint64_t bytes, clf_error *err) {
    clf_output_file file = {0};
    clf_status st = clf_output_file_create(&file, path, err);
    if (st == CLF_OK) st = clf_output_file_write(&file, 0, h, sizeof *h, err);
    if (st == CLF_OK) st = clf_output_file_write(&file, sizeof *h, body, bytes, err);
    if (st == CLF_OK) st = clf_output_file_finish(&file, sizeof *h + bytes, err);
    clf_output_file_discard(&file);
    return st == CLF_OK ? st : clf_fail_in(err, "save");
}

clf_status clf_session_save(const clf_session *s, const char *path) {
    CLF_TRY(clf_session_enter(s));
    clf_error *err = &s->model->contexts[0]->error;
    CLF_CHECK(err, path, CLF_INVALID_ARGUMENT, "save: path is NULL");
    const clf_kv_cache *cache = &s->cache;
    header h = {.version = VERSION,
                .dtype = (uint32_t)cache->dtype,
                .fingerprint = s->model->fingerprint,
                .keep = cache->keep,
                .rows = cache->rows,
                .evicted = cache->evicted,
                .evicting = cache->evicting,
                .has_logits = s->has_logits,
                .last_id = s->has_logits ? s->last_id : 0};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    uint64_t bytes;
    CLF_CHECK(err, body_bytes(s, &h, &bytes) && bytes <= SIZE_MAX - 1, CLF_OUT_OF_MEMORY, "save: too large");
    char *body = malloc((size_t)bytes + 1);
    CLF_CHECK(err, body, CLF_OUT_OF_MEMORY, "save: out of host memory");
    clf_status st = for_rows(s, h.rows, body, read_rows);
    const size_t logits = h.has_logits ? (size_t)s->model->config.vocab_size * sizeof *s->logits : 0;
    if (st == CLF_OK) {
        memcpy(body + (size_t)bytes - logits, s->logits, logits);
        h.checksum = checksum(h, body, (size_t)bytes);
        st = write_file(path, &h, body, bytes, err);
    }
    free(body);
    return st;
}

/* Whether the header can be a session's at all, before anything is allocated for it. */
static clf_status check_header(const clf_session *s, const header *h, uint64_t file_bytes, const char *path,
                               uint64_t *bytes, clf_error *err) {
    uint64_t want;
    CLF_CHECK(err, !memcmp(h->magic, MAGIC, sizeof h->magic), CLF_BAD_FILE, "load: %s: not a session", path);
    CLF_CHECK(err, h->version == VERSION, CLF_BAD_FILE, "load: %s: expected version %d, got %u", path, VERSION,
              h->version);
    CLF_CHECK(err, h->fingerprint == s->model->fingerprint, CLF_BAD_FILE, "load: %s: a session of another model", path);
    CLF_CHECK(err,
              h->dtype < CLF_DTYPE_COUNT && clf_kv_cache_check(&s->model->config, h->dtype, "load", NULL) == CLF_OK,
              CLF_BAD_FILE, "load: %s: dtype %u", path, h->dtype);
    CLF_CHECK(err,
              h->rows >= 0 && h->evicted >= 0 && h->evicting >= 0 && h->keep >= 0 && h->evicting <= h->rows &&
                  h->evicted <= INT64_MAX - h->rows && h->has_logits <= 1 && h->last_id >= 0 &&
                  h->last_id < s->model->config.vocab_size,
              CLF_BAD_FILE, "load: %s: positions don't fit together", path);
    CLF_CHECK(err, body_bytes(s, h, bytes) && clf_add_u64(*bytes, sizeof *h, &want) && want == file_bytes, CLF_BAD_FILE,
              "load: %s: %llu bytes, which isn't what the header says", path, (unsigned long long)file_bytes);
    CLF_CHECK(err, h->rows <= s->cache.capacity, CLF_FULL, "load: %s: %lld tokens, but the session holds %lld", path,
              (long long)h->rows, (long long)s->cache.capacity);
    return CLF_OK;
}

static clf_status check_fit(const clf_session *s, const header *h, const char *path, clf_error *err) {
    CLF_CHECK(err, h->dtype == (uint32_t)s->cache.dtype, CLF_INVALID_ARGUMENT, "load: %s: its cache is %s, expected %s",
              path, clf_dtype_name((clf_dtype)h->dtype), clf_dtype_name(s->cache.dtype));
    CLF_CHECK(err, h->keep == s->cache.keep || !(h->evicted || h->evicting), CLF_INVALID_ARGUMENT,
              "load: %s: it kept the first %lld tokens, expected %lld", path, (long long)h->keep,
              (long long)s->cache.keep);
    return CLF_OK;
}

/* Reads header and body, verified. */
static clf_status read_file(const clf_session *s, int fd, const char *path, header *h, char **body, clf_error *err) {
    struct stat info;
    CLF_CHECK(err, fstat(fd, &info) == 0, CLF_IO_ERROR, "load: %s: %s", path, strerror(errno));
    CLF_CHECK(err, S_ISREG(info.st_mode), CLF_BAD_FILE, "load: %s: not a regular file", path);
    CLF_CHECK(err, info.st_size >= (off_t)sizeof *h, CLF_BAD_FILE, "load: %s: too short", path);
    CLF_CHECK(err, read_all(fd, h, sizeof *h), CLF_IO_ERROR, "load: %s: cannot read", path);
    uint64_t bytes = 0;
    CLF_TRY(check_header(s, h, (uint64_t)info.st_size, path, &bytes, err));
    *body = malloc((size_t)bytes + 1);
    CLF_CHECK(err, *body, CLF_OUT_OF_MEMORY, "load: out of host memory");
    CLF_CHECK(err, read_all(fd, *body, (size_t)bytes), CLF_IO_ERROR, "load: %s: cannot read", path);
    CLF_CHECK(err, h->checksum == checksum(*h, *body, (size_t)bytes), CLF_BAD_FILE, "load: %s: damaged", path);
    return check_fit(s, h, path, err);
}

/* Only a device that fails can stop this halfway: the session is then empty. */
static clf_status replace(clf_session *s, const header *h, char *body) {
    clf_kv_cache *cache = &s->cache;
    const size_t vocab = (size_t)s->model->config.vocab_size;
    cache->rows = cache->evicted = cache->evicting = 0;
    s->has_logits = false;
    CLF_TRY(for_rows(s, h->rows, body, write_rows));
    cache->rows = h->rows;
    cache->evicted = h->evicted;
    cache->evicting = h->evicting;
    s->has_logits = h->has_logits != 0;
    s->last_id = h->last_id;
    uint64_t bytes;
    if (s->has_logits && body_bytes(s, h, &bytes))
        memcpy(s->logits, body + bytes - vocab * sizeof *s->logits, vocab * sizeof *s->logits);
    return CLF_OK;
}

clf_status clf_session_load(clf_session *s, const char *path) {
    CLF_TRY(clf_session_enter(s));
    clf_error *err = &s->model->contexts[0]->error;
    CLF_CHECK(err, path, CLF_INVALID_ARGUMENT, "load: path is NULL");
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a FIFO must not block */
    CLF_CHECK(err, fd >= 0, errno == ENOENT ? CLF_NOT_FOUND : CLF_IO_ERROR, "load: %s: %s", path, strerror(errno));
    header h;
    char *body = NULL;
    clf_status st = read_file(s, fd, path, &h, &body, err);
    if (st == CLF_OK) st = replace(s, &h, body);
    free(body);
    close(fd);
    return st;
}
