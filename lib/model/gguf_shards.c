/* gguf_shards.c: opening all shards of a model; each must say itself which of how many it is. */
#include "gguf_shards.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SHARDS = 4096, SUFFIX = 20 /* of "-00002-of-00005.gguf" */ };

/* Takes a shard's name apart; false if it is none. */
static bool split_path(const char *path, int *stem, int *number, int *of) {
    const char *name = strrchr(path, '/');
    char end[8] = "";
    name = name ? name + 1 : path;
    if (strlen(name) < SUFFIX) return false;
    const char *suffix = path + strlen(path) - SUFFIX;
    if (sscanf(suffix, "-%5d-of-%5d%7s", number, of, end) != 3 || strcmp(end, ".gguf") || *number < 1) return false;
    *stem = (int)(suffix - path);
    return true;
}

static clf_status open_one(clf_gguf_shards *s, const clf_model_file_args *args, const char *path, clf_error *err) {
    clf_model_file_args one = *args;
    one.path = path;
    clf_gguf **p = realloc(s->shard, ((size_t)s->count + 1) * sizeof *p);
    CLF_CHECK(err, p, CLF_OUT_OF_MEMORY, "out of memory for %d shards", s->count + 1);
    s->shard = p;
    CLF_TRY(clf_gguf_open(&p[s->count], &one, err));
    s->count++;
    return CLF_OK;
}

static clf_status open_alone(clf_gguf_shards *s, const clf_model_file_args *args, clf_error *err) {
    int64_t count = 1;
    CLF_TRY(open_one(s, args, args->path, err));
    clf_gguf_get_i64(s->shard[0], "split.count", &count);
    CLF_CHECK(err, count <= 1, CLF_BAD_FILE,
              "split.count: one of %" PRId64 " shards, expected a name ending in -00001-of-%05" PRId64 ".gguf", count,
              count);
    return CLF_OK;
}

static clf_status open_shard(clf_gguf_shards *s, const clf_model_file_args *args, const char *path, int of,
                             clf_error *err) {
    const int64_t i = s->count;
    int64_t number = -1, count = -1;
    CLF_TRY(open_one(s, args, path, err));
    clf_gguf_get_i64(s->shard[i], "split.no", &number);
    clf_gguf_get_i64(s->shard[i], "split.count", &count);
    CLF_CHECK(err, number == i && count == of, CLF_BAD_FILE,
              "%s: split.no, split.count: expected %" PRId64 " of %d, got %" PRId64 " of %" PRId64, path, i, of, number,
              count);
    return CLF_OK;
}

clf_status clf_gguf_shards_open(clf_gguf_shards *s, const clf_model_file_args *args, clf_error *err) {
    int stem = 0, number = 1, of = 1;
    *s = (clf_gguf_shards){0};
    if (!args->path || !split_path(args->path, &stem, &number, &of)) return open_alone(s, args, err);
    CLF_CHECK(err, number <= of && of <= MAX_SHARDS, CLF_BAD_FILE, "%s: expected a shard of at most %d, got %d of %d",
              args->path, MAX_SHARDS, number, of);
    const size_t size = (size_t)stem + 32;
    char *path = malloc(size);
    CLF_CHECK(err, path, CLF_OUT_OF_MEMORY, "out of memory for a path");
    clf_status st = CLF_OK;
    int64_t tensors = 0;
    for (int i = 0; i < of && st == CLF_OK; i++) {
        snprintf(path, size, "%.*s-%05d-of-%05d.gguf", stem, args->path, i + 1, of);
        st = open_shard(s, args, path, of, err);
        if (st == CLF_OK) tensors += clf_gguf_tensor_count(s->shard[i]);
    }
    free(path);
    CLF_TRY(st);
    int64_t promised = tensors;
    clf_gguf_get_i64(s->shard[0], "split.tensors.count", &promised);
    CLF_CHECK(err, tensors == promised, CLF_BAD_FILE, "split.tensors.count: expected %" PRId64 " tensors, got %" PRId64,
              promised, tensors);
    return CLF_OK;
}

void clf_gguf_shards_close(clf_gguf_shards *s) {
    for (int i = 0; i < s->count; i++) clf_gguf_close(s->shard[i]);
    free(s->shard);
    *s = (clf_gguf_shards){0};
}
