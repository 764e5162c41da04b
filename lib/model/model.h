/* model.h: the state behind a clf_model. Each block has a context of its own choosing, so that a model larger than one
 * device's memory spreads over several. */
#ifndef CLF_MODEL_MODEL_H
#define CLF_MODEL_MODEL_H

#include <clformer/model.h>

#include "../core/context.h"
#include "lora.h"
#include "weights.h"

enum { CLF_MAX_PLACES = 8 };

typedef struct clf_layer {
    clf_context *ctx;
    int place;                       /* index of ctx among the model's */
    clf_tensor weight[CLF_W_COUNT];  /* buffer NULL: the architecture does without it */
    clf_tiles tiles[CLF_W_MATRICES]; /* of those whose weight is block-sparse */
    clf_lora lora[CLF_W_MATRICES];   /* a.buffer NULL: not adapted */
} clf_layer;

struct clf_model {
    clf_config config;
    clf_model_info info;
    clf_context *contexts[CLF_MAX_PLACES];
    int n_contexts;
    clf_layer *layers;                         /* [n_layers] */
    clf_tensor embedding, output_norm, output; /* the first on the first block's context, the rest on the last's */
    int64_t lora_rank;                         /* largest; 0: no adapter */
    bool embedding_trained, output_trained;    /* as a whole: they belong to the adapter */
    clf_tokenizer *tokenizer;                  /* NULL: none */
    clf_model_file *file;                      /* open where weights are used in place */
    bool mapped;                               /* as a mapping */
    char *path;                                /* what was loaded: `path`, or `data` */
    const void *data;
    size_t data_size;
    uint64_t fingerprint; /* tells models apart whose sessions must not be mixed */
};

/* NULL for a weight that isn't there. */
static inline const clf_tensor *clf_weight_of(const clf_layer *layer, clf_weight id) {
    return layer->weight[id].buffer ? &layer->weight[id] : NULL;
}

/* Whether a matrix isn't in rows, as training and saving want it, but repacked for inference. */
static inline bool clf_weight_is_repacked(const clf_layer *layer, clf_weight id) {
    return clf_dtype_is_interleaved(layer->weight[id].dtype) ||
           (id < CLF_W_MATRICES && clf_tiles_are_there(&layer->tiles[id]));
}

/* Makes a tied output the tensor that the embedding is now. */
void clf_model_tie(clf_model *model);
/* Begins a call on a model's handles: refuses busy and forked contexts, clears the message. */
clf_status clf_model_enter(const clf_model *model);
/* Brings a failure's message from the context where it happened to the first one, where callers look. */
clf_status clf_model_failed(const clf_model *model, const clf_context *where, clf_status status);
/* What clf_model_get_info() says, but for layers_on. */
void clf_model_describe(clf_model_info *out, const clf_model_file *file);

#endif
