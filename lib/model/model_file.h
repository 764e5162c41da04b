/* model_file.h: named tensors and configuration of one model, whatever format they came in. Names are GGUF's
 * ("blk.0.attn_q.weight"): Hugging Face's are translated, fused matrices (phi3) split into ranges of rows, and
 * `rope.pairing` says whether rows of queries and keys are permuted. When a file opens, every tensor that its
 * configuration asks for is there, each has the shape and a dtype that a decoder takes, and none is unknown to it. */
#ifndef CLF_MODEL_FILE_H
#define CLF_MODEL_FILE_H

#include "../core/status.h"
#include "architecture.h"

typedef struct clf_file_tensor {
    const char *name;
    clf_dtype dtype;
    clf_dtype loaded;            /* of a model file: what it becomes on a context; vectors F32 */
    bool repacks;                /* of a model file: a ternary matrix for which a context's table may have a layout */
    int ndim;                    /* at most 4 */
    int64_t shape[CLF_MAX_DIMS]; /* C order: [rows, columns] for a matrix */
    const void *data; /* nbytes of it, mapped or read; aligned as the file has it (perhaps not to the element) */
    uint64_t nbytes;
    const struct clf_packed *packed; /* not NULL: clf_packed_rows() makes the rows, from first_row on, of several
                                        tensors; data and nbytes are of the codes */
    int64_t first_row;
} clf_file_tensor;

static inline int64_t clf_file_elements(const clf_file_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

typedef struct clf_model_file clf_model_file;
typedef struct clf_gguf clf_gguf; /* gguf.h */

typedef struct clf_model_file_args {
    const char *path; /* GGUF file or shard, or folder */
    const void *data; /* or a GGUF in memory */
    size_t data_size;
    bool mmap;
    bool metadata_only; /* tensors' data stay NULL; frequency factors stay 1 */
    clf_dtype quantize; /* CLF_NF4: what float matrices of blocks become; CLF_F32: nothing changes */
    bool keep_layout;   /* no tensor repacks */
} clf_model_file_args;

clf_status clf_model_file_open(clf_model_file **out, const clf_model_file_args *args, clf_error *err);
void clf_model_file_close(clf_model_file *file); /* NULL is accepted; tensors' data go with it */
const clf_config *clf_model_file_config(const clf_model_file *file);
const char *clf_model_file_format(const clf_model_file *file); /* "gguf", "safetensors" */
int64_t clf_model_file_count(const clf_model_file *file);
const clf_file_tensor *clf_model_file_at(const clf_model_file *file, int64_t index);
/* The tensor called `name`, or NULL. Hashed. */
const clf_file_tensor *clf_model_file_find(const clf_model_file *file, const char *name);
/* Tensors as the files have them, in their order, known to the decoder or not; NULL beyond the last. */
const clf_file_tensor *clf_model_file_stored(const clf_model_file *file, int64_t index);
/* What a stored tensor is to the decoder: its rule (a fused one's own), its layer (-1: the model's), and ".weight" or
 * ".bias"; NULL: nothing. */
const clf_tensor_rule *clf_model_file_rule(const clf_model_file *file, const clf_file_tensor *stored, int *layer,
                                           const char **suffix);
/* The GGUF behind it, for its tokenizer keys; NULL for a folder, whose path is clf_model_file_path(). */
const clf_gguf *clf_model_file_gguf(const clf_model_file *file);
/* Whether the file at `path` is one that its tensors are in. */
bool clf_model_file_reads(const clf_model_file *file, const char *path);
const char *clf_model_file_path(const clf_model_file *file);

#endif
