/* parameters.h: the tensors being trained: master weights in F32, gradients, optimizer state, and which group each is
 * in. The model's forward pass finds a parameter where it always is; with 16-bit or ternary matrices that is a rounded
 * copy. */
#ifndef CLF_TRAIN_PARAMETERS_H
#define CLF_TRAIN_PARAMETERS_H

#include <clformer/train.h>

#include "layer.h"

typedef struct clf_parameter {
    char name[CLF_WEIGHT_NAME_SIZE + 8];
    clf_tensor *used;  /* in the model */
    clf_tensor master; /* F32: the same storage as *used, unless that is a copy */
    bool ternary;      /* *used is clf_ternarize() of it */
    clf_tensor gradient, momentum, variance, momentum_scale, variance_scale; /* buffer NULL: not needed */
    float learning_rate_scale, weight_decay;
} clf_parameter;

typedef struct clf_parameters {
    clf_parameter *all;
    int count;
    bool begins;                                        /* adapters were made for this training */
    clf_layer_gradients *layers;                        /* [n_layers] */
    clf_tensor *d_embedding, *d_output_norm, *d_output; /* NULL: frozen. A tied output is the embedding */
} clf_parameters;

/* Makes what args ask for; new adapters go into the model. On failure what was made is the caller's to release. */
clf_status clf_parameters_init(clf_parameters *p, const clf_trainer_args *args);
void clf_parameters_release(clf_parameters *p);
/* Makes *used, where it is a copy, from the master anew. */
clf_status clf_parameter_refresh(const clf_parameter *p);
/* Gives the model back what it was before clf_parameters_init(), whole or not: no new adapter, no rounded weight. */
void clf_parameters_undo(clf_parameters *p, clf_model *model);

/* What is decided by name and size alone, for the memory plan too: the group of a parameter, or NULL; the rank of a
 * matrix's adapter, and its scale; whether state is in 8 bits; how many state tensors there are, momentum first. */
const clf_parameter_group *clf_parameter_group_of(const clf_trainer_args *args, const char *name);
int clf_lora_rank(const clf_lora_args *lora, const char *name, float *scale);
bool clf_state_is_codes(const clf_trainer_args *args, int64_t elements);
int clf_state_count(const clf_trainer_args *args);
/* What a ternary matrix is used as: TQ2_0, or F16 where rows aren't whole blocks; both hold it exactly. */
clf_dtype clf_ternary_dtype(int64_t columns);

#endif
