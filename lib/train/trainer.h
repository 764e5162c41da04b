/* trainer.h: the state behind a clf_trainer. Blocks are in groups: the input of each group's first block is
 * kept, the rest of what a block saves only for the group at hand; without checkpointing all blocks are one group.
 * Group 0's input is looked up again, its place being taken by the last group's where there are more than two.
 * Offloaded, the inputs of the groups take turns in two tensors, and wait on the host until their group is run again.
 */
#ifndef CLF_TRAIN_TRAINER_H
#define CLF_TRAIN_TRAINER_H

#include "../core/transfer.h"
#include "parameters.h"

enum {
    CLF_MAX_BATCH_TOKENS = 1 << 24,
    CLF_INPUTS_AT_WORK = 2 /* a group's own, and the next one's, which is its output */
};

/* How n_layers blocks are grouped, and where the inputs of the groups are. */
typedef struct clf_groups {
    int size, count; /* blocks in a group; groups */
    int inputs;      /* tensors on the device */
    int on_host;     /* groups whose inputs wait there: from the second on */
} clf_groups;

struct clf_trainer {
    clf_trainer_args args;
    clf_context *ctx;
    clf_parameters parameters;
    clf_pass pass; /* work and positions for args.tokens tokens */
    clf_groups groups;
    clf_saved_set *sets;     /* [groups.size]; the input of the first is none of its own */
    clf_tensor *inputs;      /* [groups.inputs]: group g's first block has the one at g modulo these */
    clf_memory *host_inputs; /* [groups.on_host] of [tokens, hidden_size] of args.compute: of group 1 on */
    clf_tensor last_stat, ids, labels, loss; /* [tokens]; last: of the norm before the output matrix */
    clf_tensor row_weights;                  /* F32 [tokens]; buffer NULL until preferences come */
    clf_tensor norms;                        /* F32 [parameters]: Σ gradient² */
    int32_t *host_ids;                       /* [tokens]: positions on their way */
    float *host_values;                      /* [tokens or parameters]: losses, norms */
    uint64_t model;                          /* the model's fingerprint before training */
    int64_t step, micro_batch;               /* updates done; batches since the beginning */
    int64_t settled;                         /* of which the last update took account: what a checkpoint says */
};

/* Refuses what is out of range, and fills in the defaults. `adapted`: the model has an adapter already. */
clf_status clf_trainer_check(clf_trainer_args *args, const clf_config *config, bool adapted, clf_error *err);
clf_groups clf_groups_of(const clf_trainer_args *args, int n_layers);
/* Bytes of the inputs that wait on the host. */
uint64_t clf_host_input_bytes(const clf_groups *groups, const clf_trainer_args *args, const clf_config *config);
clf_status clf_trainer_enter(const clf_trainer *trainer);
clf_status clf_trainer_clear_gradients(clf_trainer *trainer);
/* A weight with a value that isn't finite, perhaps written to `name`; NULL: none is found. */
const char *clf_trainer_culprit(const clf_trainer *trainer, char name[CLF_WEIGHT_NAME_SIZE]);

/* The parts of a pass over a batch. */
clf_status clf_pass_check(const clf_trainer *trainer, const clf_batch *batch);
/* Views of the batch's size, its data on the device. */
clf_status clf_pass_begin(clf_trainer *trainer, const clf_batch *batch, clf_pass *pass);
/* `backward`: what clf_pass_backward() needs is kept. */
clf_status clf_pass_forward(const clf_trainer *trainer, const clf_pass *pass, bool backward);
/* The loss of each token; with d_loss ≠ 0 also the gradients, each row's times its weight (NULL: 1), by the output
 * matrix and the last block's output. Can be had again for the same forward. */
clf_status clf_pass_head(clf_trainer *trainer, const clf_pass *pass, float d_loss, const clf_tensor *row_weights);
clf_status clf_pass_backward(const clf_trainer *trainer, const clf_pass *pass);
/* The losses of n tokens to host_values, and their sum, which must be finite. */
clf_status clf_pass_loss(clf_trainer *trainer, int64_t n, double *sum);

#endif
