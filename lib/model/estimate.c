/* estimate.c: memory before anything is loaded. */
#include "estimate.h"

#include <stdio.h>

#include "../core/backend.h"
#include "decoder.h"

enum { CONTEXT = 4096, CHUNK = 512 };

static void add_weight(clf_weight_bytes *sum, const clf_file_tensor *src, clf_dtype dtype) {
    const uint64_t bytes = clf_dtype_bytes(dtype, clf_file_elements(src));
    sum->all += bytes;
    sum->held += clf_pool_block(bytes);
    if (dtype != src->loaded || !clf_weight_in_place(src)) sum->copied += bytes;
}

clf_weight_bytes clf_estimate_block(const clf_model_file *file, int layer, const clf_backend *backend) {
    clf_weight_bytes sum = {0};
    for (int id = 0; id < CLF_W_COUNT; id++) {
        const clf_file_tensor *src = clf_weight_find(file, layer, (clf_weight)id);
        if (src) add_weight(&sum, src, clf_weight_becomes(src, backend));
    }
    return sum;
}

void clf_estimate_ends(clf_weight_bytes *embedding, clf_weight_bytes *output, const clf_model_file *file) {
    *embedding = *output = (clf_weight_bytes){0};
    const clf_file_tensor *const rows = clf_model_file_find(file, "token_embd.weight"),
                                 *const norm = clf_model_file_find(file, "output_norm.weight"),
                                 *const head = clf_weight_find_output(file);
    add_weight(embedding, rows, rows->loaded);
    add_weight(output, norm, norm->loaded);
    add_weight(output, head, head->loaded);
}

uint64_t clf_estimate_activations(const clf_config *c, clf_dtype compute, int64_t chunk) {
    int64_t width[CLF_ACT_COUNT], sum = 0;
    clf_decoder_widths(width, c, 0);
    for (int a = 0; a < CLF_ACT_COUNT; a++) sum += width[a];
    return clf_dtype_bytes(compute, sum * chunk) + sizeof(int32_t) * (uint64_t)chunk +
           sizeof(float) * (uint64_t)c->vocab_size;
}

/* A few rows: as floats, as int8 with scales and sums, and the results. More: those packed at a time, and each
 * thread's rows before packing and results, [1 or 2 planes][96 weight rows]; of narrow float matrices, the weights
 * packed instead, where that is less. As cpu/linear.c with 16 lanes. */
uint64_t clf_estimate_linear(int64_t rows, int64_t k, int64_t n, bool gated, bool codes, int threads) {
    enum { FEW = 8, LANES = 16, PACKED_ROWS = 512, NARROW = 64 };
    if (rows <= FEW) return (uint64_t)(rows * (4 * k + (codes ? k * 5 / 4 : 0) + 4 * n));
    const int64_t blocks = (rows + PACKED_ROWS - 1) / PACKED_ROWS,
                  block = ((rows + blocks - 1) / blocks + LANES - 1) / LANES * LANES;
    const int64_t packed = codes ? block * k * 11 / 8 : block * k * 4;
    const int64_t wide = packed + threads * (LANES * k + (gated ? 2 : 1) * 96 * block) * 4;
    const int64_t narrow = ((n + LANES - 1) / LANES + threads) * LANES * k * 4;
    return (uint64_t)(!codes && !gated && (k <= NARROW || n <= NARROW) && narrow < wide ? narrow : wide);
}

/* Of each thread a unit of results, the terms of two chunks, packed, and of two groups of rows. As
 * cpu/linear_matrix.h. */
uint64_t clf_estimate_linear_backward(int threads) {
    enum { UNIT_ROWS = 256, UNIT_COLUMNS = 256, TERMS = 256, GROUP_ROWS = 48 };
    return (uint64_t)threads * (UNIT_ROWS * UNIT_COLUMNS + 2 * (TERMS + 1) * (UNIT_COLUMNS + GROUP_ROWS)) *
           sizeof(float);
}

/* The list of rows with a label. With a gradient by the weights, for a chunk of rows: logits, each thread's gradient of
 * the rows, and rows of x and of the weights as floats where they are others; a chunk's rows are in the cache with
 * their gradients. Without, for a group of rows: x packed and its gradient, a chunk of logits, twice, and what each
 * thread packs of the weights; smoothing makes a sum more, or with a softcap one for each row. All is a 21st of the
 * logits. As long as the gradient by the weights is zero, a unit of products for each thread, the gradient of the rows,
 * and what some columns of logits become, twice; at most a 21st of the logits or of that gradient. */
static int64_t cross_entropy_full(const clf_cross_entropy_shape *s, int64_t share, int threads) {
    enum { BLOCK = 24, LEAST = 8, MOST = 96, CACHED = 640 << 10 };
    const int64_t width = s->k ? (s->k + 15) / 16 * 16 : 1, cached = CACHED / (12 * width);
    const int64_t fixed = 8 * s->rows + (s->float_weights ? 0 : threads * BLOCK * width * 4);
    const int64_t each =
        (s->vocab + BLOCK - 1) / BLOCK * BLOCK * 4 + (threads + (s->float_x ? 0 : 2)) * width * 4 + threads * 24;
    int64_t chunk = (share - fixed) / each;
    if (chunk > cached) chunk = cached;
    if (chunk > MOST) chunk = MOST;
    if (chunk < LEAST) chunk = LEAST;
    if (chunk > s->rows) chunk = s->rows;
    const int64_t chunks = chunk ? (s->rows + chunk - 1) / chunk : 1;
    return fixed + (s->rows + chunks - 1) / chunks * each;
}

static int64_t cross_entropy_frozen(const clf_cross_entropy_shape *s, int64_t share, int threads) {
    enum { LEAST = 48, MOST = 512, LANES = 16, COLUMNS = 256, PACKED = 128 };
    const int64_t packed = s->block_values > PACKED ? s->block_values : PACKED;
    const int64_t sum = 4 * (COLUMNS + s->k), each = 8 * (COLUMNS + s->k) + 28 + (s->smoothing && s->softcap ? sum : 0);
    const int64_t fixed = 8 * s->rows + 4 * threads * packed * COLUMNS + (s->smoothing && !s->softcap ? sum : 0);
    int64_t group = (share - fixed) / each / LANES * LANES;
    if (group > MOST) group = MOST;
    if (group < LEAST) group = LEAST;
    const int64_t groups = (s->rows + group - 1) / group, rows = groups ? (s->rows + groups - 1) / groups : 0;
    return fixed + (rows + LANES - 1) / LANES * LANES * each;
}

/* 0 where it is not taken. */
static int64_t cross_entropy_stored(const clf_cross_entropy_shape *s, int64_t share, int threads) {
    enum { COLUMNS = 256 };
    const int64_t rows = s->rows < s->k ? s->rows : s->k;
    const int64_t takes =
        (int64_t)clf_estimate_linear_backward(threads) + rows * (4 * s->k + 8 * COLUMNS + 28 + 20 * threads);
    return takes <= share ? takes : 0;
}

uint64_t clf_estimate_linear_cross_entropy(const clf_cross_entropy_shape *s, int threads) {
    enum { SHARE = 21 };
    const int64_t logits = s->rows * s->vocab * 4, gradient = s->k * s->vocab * 4;
    if (!s->d_weight) return (uint64_t)cross_entropy_frozen(s, logits / SHARE, threads);
    const int64_t added = cross_entropy_full(s, logits / SHARE, threads);
    const int64_t stored = cross_entropy_stored(s, (logits > gradient ? logits : gradient) / SHARE, threads);
    return (uint64_t)(stored > added ? stored : added);
}

/* In OpenCL: the logits of some rows, as cl/linear_cross_entropy.c takes them at a time. */
uint64_t clf_estimate_device_cross_entropy(int64_t rows, int64_t vocab) {
    enum { LEAST = 16, SHARE = 21 };
    const int64_t share = rows / SHARE > LEAST ? rows / SHARE : LEAST;
    return clf_dtype_bytes(CLF_F32, (share < rows ? share : rows) * vocab);
}

static uint64_t attention_scratch(const clf_config *c, int64_t queries, int64_t keys, int threads) {
    clf_attention_bytes e = {0};
    const clf_attention_memory_args args = {.batch = 1,
                                            .heads = c->n_heads,
                                            .kv_heads = c->n_kv_heads,
                                            .queries = queries,
                                            .keys = keys,
                                            .head_dim = c->head_dim,
                                            .v_dim = c->v_dim,
                                            .threads = threads};
    clf_attention_memory(&e, &args);
    return e.flash_scratch;
}

uint64_t clf_estimate_scratch(const clf_model_file *file, int64_t chunk, int64_t context_length, int threads) {
    const clf_config *c = clf_model_file_config(file);
    const int64_t attended = (int64_t)c->n_heads * c->v_dim;
    const bool codes = clf_dtype_is_block(clf_weight_find(file, 0, CLF_W_DOWN)->loaded);
    const int64_t qkv = (int64_t)c->n_heads * c->head_dim + (int64_t)c->n_kv_heads * (c->head_dim + c->v_dim);
    const uint64_t takes[] = {clf_estimate_linear(chunk, c->hidden_size, qkv, false, codes, threads),
                              clf_estimate_linear(chunk, c->hidden_size, 2 * c->ffn_size, true, codes, threads),
                              clf_estimate_linear(chunk, c->ffn_size, c->hidden_size, false, codes, threads),
                              clf_estimate_linear(chunk, attended, c->hidden_size, false, codes, threads),
                              clf_estimate_linear(1, c->hidden_size, c->vocab_size, false, codes, threads),
                              attention_scratch(c, chunk, context_length, threads),
                              attention_scratch(c, 1, context_length, threads)};
    uint64_t most = 0; /* one op at a time */
    for (size_t i = 0; i < sizeof takes / sizeof *takes; i++) most = takes[i] > most ? takes[i] : most;
    return most;
}

static clf_status estimate(clf_model_estimate *out, const clf_model_file *file, const clf_model_estimate_args *args,
                           clf_error *err) {
    const clf_config *c = clf_model_file_config(file);
    int64_t length = args->context_length, chunk = args->chunk ? args->chunk : CHUNK;
    if (!length) length = c->trained_context < CONTEXT ? c->trained_context : CONTEXT;
    CLF_CHECK(err, length > 0 && length <= INT32_MAX, CLF_INVALID_ARGUMENT,
              "estimate: context_length: expected 1 to %d, got %lld", INT32_MAX, (long long)length);
    CLF_CHECK(err, chunk > 0, CLF_INVALID_ARGUMENT, "estimate: chunk: expected 1 or more, got %lld", (long long)chunk);
    CLF_TRY(clf_kv_cache_check(c, args->kv_dtype, "estimate", err));
    CLF_CHECK(err, args->compute == CLF_F32 || args->compute == CLF_F16 || args->compute == CLF_BF16,
              CLF_INVALID_ARGUMENT, "estimate: compute: expected f32, f16 or bf16, got %s",
              clf_dtype_name(args->compute));
    if (chunk > length) chunk = length;
    const clf_backend *backend;
    int index;
    CLF_TRY(clf_registry_find("cpu", &backend, &index, err));
    clf_weight_bytes embedding, output;
    clf_estimate_ends(&embedding, &output, file);
    out->weights = c->tied_output ? output.all : embedding.all + output.all;
    for (int i = 0; i < c->n_layers; i++) out->weights += clf_estimate_block(file, i, backend).all;
    out->kv_cache = (uint64_t)c->n_layers * (clf_kv_cache_key_bytes(c, args->kv_dtype, length) +
                                             clf_kv_cache_value_bytes(c, args->kv_dtype, length));
    out->activations = clf_estimate_activations(c, args->compute, chunk);
    out->scratch = clf_estimate_scratch(file, chunk, length, args->threads > 0 ? args->threads : 1);
    return CLF_OK;
}

clf_status clf_estimate_model(clf_model_estimate *out, clf_model_info *info, const clf_model_estimate_args *args) {
    if (!out || !args) return CLF_INVALID_ARGUMENT;
    *out = (clf_model_estimate){0};
    if (info) *info = (clf_model_info){0};
    clf_error err = {0};
    clf_model_file *file = NULL;
    const clf_model_file_args file_args = {.path = args->path,
                                           .mmap = true,
                                           .metadata_only = true,
                                           .quantize = args->quantize,
                                           .keep_layout = args->keep_layout};
    clf_status st = args->path ? clf_model_file_open(&file, &file_args, &err)
                               : clf_fail(&err, CLF_INVALID_ARGUMENT, "estimate: path is NULL");
    if (st == CLF_OK) {
        if (info) clf_model_describe(info, file);
        st = estimate(out, file, args, &err);
    }
    clf_model_file_close(file);
    if (args->error && args->error_size) snprintf(args->error, args->error_size, "%s", st == CLF_OK ? "" : err.message);
    return st;
}
