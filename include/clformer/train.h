/** @file train.h
 *  Fine-tuning: a dataset turns files into batches of tokens, a trainer turns batches into better weights of a model,
 * all of them or a low-rank adapter's.
 *
 *  One step of training is some micro-batches and an update:
 *
 *      for (each micro-batch of the step) clf_trainer_accumulate(trainer, &batch, targets_of_the_step, &loss);
 *      clf_trainer_update(trainer, learning_rate, &result);
 *
 *  Gradients are normalised by the targets of the whole step, so that it doesn't matter how it is cut. */
#ifndef CLFORMER_TRAIN_H
#define CLFORMER_TRAIN_H

#include "base.h"
#include "model.h"
#include "ops.h"

typedef struct clf_trainer clf_trainer; /**< a model being trained, its gradients and optimizer state */

/** @name Data
 *  Files become samples, samples become batches of tokens with their labels. Nothing but an index of the samples (8
 *  bytes each) and the samples at hand is in memory. docs/finetuning.md has the formats.
 *  @{ */

typedef struct clf_dataset clf_dataset; /**< samples in an order, and a place in it; one thread at a time */

/** What the files hold. */
typedef enum clf_dataset_format {
    /** By the file: its first bytes (tokens) or else its name: .jsonl, .ndjson, .json; .txt, .text, .md */
    CLF_DATASET_AUTO,
    /** A JSON object a line, other keys ignored: {"messages": [{"role", "content"}]}, or {"prompt", "completion"}, or
     * {"text"}, the first of these that is there; with `preference` {"chosen", "rejected"} and perhaps "prompt".
     * prompt, completion, chosen and rejected are strings, or all of them lists of messages. */
    CLF_DATASET_JSONL,
    CLF_DATASET_TEXT,  /**< one document of running text: split, whatever `split` says */
    CLF_DATASET_TOKENS /**< what clf_dataset_save_tokens() writes */
} clf_dataset_format;

/** Arguments of clf_dataset_create(). */
typedef struct clf_dataset_args {
    const char *path;               /**< one file; NULL: see `paths` */
    const char *const *paths;       /**< [n_paths], one after another; used if `path` is NULL */
    size_t n_paths;                 /**< how many */
    clf_dataset_format format;      /**< of every file */
    const clf_tokenizer *tokenizer; /**< outlives the dataset; may be NULL where all files are tokens */
    int64_t context;                /**< most tokens of a sequence */
    bool pack;                      /**< false: each sequence is padded to `context` tokens */
    bool split;          /**< a longer sample becomes several sequences; false: what is beyond `context` is cut off */
    bool preference;     /**< pairs: a chosen and a rejected sequence. Not with `split` */
    bool ordered;        /**< the files' order in every epoch; false: each epoch has its own */
    uint64_t seed;       /**< of the orders */
    uint64_t split_seed; /**< of clf_dataset_split(): apart from `seed`, so that all runs are judged by the same samples
                          */
    uint64_t max_line;   /**< most bytes of a line; 0: 16 MiB */
    /** Called for a bad line, with a message that names it, when the dataset is created; for one that the chat template
     * refuses, each time it is read. true leaves the line out, false fails. NULL: every bad line is an error. */
    bool (*bad_line)(void *user, const char *message);
    void *user;        /**< passed to `bad_line` */
    char *error;       /**< receives the message on failure; may be NULL */
    size_t error_size; /**< bytes at `error` */
} clf_dataset_args;

/** Reads the files once: checks every line and notes where it begins; nothing is tokenized yet. The files must stay as
 * they are: later calls fail with CLF_BAD_FILE if size or time of change differ.
 *  @return CLF_INVALID_ARGUMENT, CLF_NOT_FOUND, CLF_IO_ERROR, CLF_BAD_FILE (a bad line, an empty file, a folder, tokens
 * that are damaged or of another vocabulary), CLF_UNSUPPORTED (messages, but no chat template of a known family),
 * CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_dataset_create(clf_dataset **out, const clf_dataset_args *args);
/** NULL is accepted. Views of a split are destroyed each by itself, in any order. */
CLF_API void clf_dataset_destroy(clf_dataset *d);
/** What the last failing call on `d` found; "" if none failed. Valid until the next call. */
CLF_API const char *clf_dataset_error(const clf_dataset *d);
/** Moves round(share · samples) samples, at least one, chosen by `split_seed`, from `d` to `*out`, a dataset with the
 * same arguments, and begins `d` anew. The same files, share and split_seed give the same samples. To be called before
 * clf_dataset_next(); a second split takes others. @return CLF_INVALID_ARGUMENT if share is not between 0 and 1 or no
 * sample would be left */
CLF_API clf_status clf_dataset_split(clf_dataset *d, double share, clf_dataset **out);

/** Tokens for one pass of a model. All arrays are the dataset's, valid until the next call on it.
 *
 * Sequence s has the tokens starts[s] … starts[s + 1] − 1, as clf_attention() takes them: no token attends to another
 * sequence. Packed, sequences follow each other without padding and `tokens` is at most rows · context. Padded, every
 * sequence has `context` tokens, the last of which are padding without labels, so that the arrays are also [sequences,
 * context]. */
typedef struct clf_batch {
    int64_t tokens;           /**< of all sequences */
    int64_t sequences;        /**< how many */
    const int32_t *ids;       /**< [tokens] */
    const int32_t *labels;    /**< [tokens]: the next token's id, or CLF_LABEL_NONE where that is no target */
    const int32_t *positions; /**< [tokens]: from 0 in each sequence */
    const int32_t *starts;    /**< [sequences + 1], from 0 */
    int64_t targets;          /**< labels that aren't CLF_LABEL_NONE: what a mean loss is divided by */
    int64_t padding;          /**< tokens that are padding */
    int64_t truncated;        /**< samples here that were cut off */
    int64_t lost;             /**< tokens cut off them, and those of split-off sequences without a target */
    int64_t dropped;          /**< samples met on the way that have no target or that the chat template refuses */
    int64_t epoch;            /**< from 0 */
    bool last;                /**< the epoch ends here */
    bool pairs;               /**< sequences 2i are chosen, 2i + 1 rejected, of the same prompt */
} clf_batch;

/** Gives the next batch: at most `rows` · context tokens of one epoch, at least one sequence. Packed, the next samples
 * are taken in order while they fit, then those of the 64 next that still do. An epoch has every sample of the dataset
 * once, in an order that seed and epoch decide; its last batch may be small; the next one follows, without end. With
 * `preference`, `rows` is even. A call that fails leaves the place as it was.
 *  @return CLF_INVALID_ARGUMENT, CLF_BAD_FILE (a file has changed; no sample has a target), CLF_IO_ERROR,
 * CLF_OUT_OF_MEMORY, CLF_UNSUPPORTED (as clf_tokenize()) */
CLF_API clf_status clf_dataset_next(clf_dataset *d, int64_t rows, clf_batch *batch);

/** A place in the stream of batches: plain numbers, to be kept in checkpoints. */
typedef struct clf_dataset_position {
    uint64_t fingerprint; /**< of files, tokenizer and arguments */
    uint64_t epoch;       /**< from 0 */
    uint64_t sample;      /**< the first one in the epoch's order that isn't all used */
    uint64_t sequence;    /**< how many of its sequences are */
    uint64_t used;        /**< bit i: sample + i is */
} clf_dataset_position;

/** Where the next batch begins. */
CLF_API clf_dataset_position clf_dataset_tell(const clf_dataset *d);
/** Goes on from a position that clf_dataset_tell() gave, then or in another process: the same batches follow. NULL: the
 * beginning. @return CLF_INVALID_ARGUMENT if it is of other data, another tokenizer or other arguments */
CLF_API clf_status clf_dataset_seek(clf_dataset *d, const clf_dataset_position *position);

/** What an epoch holds. */
typedef struct clf_dataset_stats {
    int64_t samples;   /**< of this dataset, those of no target included */
    int64_t skipped;   /**< bad lines left out of the files when they were opened */
    int64_t sequences; /**< given */
    int64_t tokens;    /**< given, padding not counted */
    int64_t targets;   /**< given */
    int64_t truncated; /**< samples cut off */
    int64_t lost;      /**< tokens cut off */
    int64_t dropped;   /**< samples without a target, or refused by the chat template */
    int64_t longest;   /**< tokens of the longest sample, before anything is cut off */
    int64_t batches;   /**< of `rows` rows, in the epoch of the present position */
} clf_dataset_stats;

/** Goes through the whole epoch of the present position, tokenizing everything, and stays where it was.
 *  @return as clf_dataset_next() */
CLF_API clf_status clf_dataset_scan(clf_dataset *d, int64_t rows, clf_dataset_stats *stats);
/** Tokenizes every sample, uncut, into a file that clf_dataset_create() reads; samples without a target are left out.
 * Running text and other samples can't be in one file. The file appears whole or not at all.
 *  @return CLF_UNSUPPORTED if both are there, otherwise as clf_dataset_next() */
CLF_API clf_status clf_dataset_save_tokens(clf_dataset *d, const char *path);

/** @} */

/** @name Schedule and loss scale
 *  How fast weights follow their gradients from step to step, and how gradients survive in 16 bits. Steps are counted
 *  from 1. What these functions are given is plain data: they need no context and cannot fail.
 *  @{ */

/** How the learning rate goes on after the warm-up. */
typedef enum clf_schedule {
    CLF_SCHEDULE_CONSTANT, /**< as it is */
    CLF_SCHEDULE_LINEAR,   /**< down to the minimum in a straight line */
    CLF_SCHEDULE_COSINE    /**< down to the minimum along half a wave (arXiv:1608.03983) */
} clf_schedule;

/** Arguments of clf_schedule_multiplier(). */
typedef struct clf_schedule_args {
    clf_schedule schedule; /**< zero is constant */
    int64_t steps;         /**< of the whole training, warm-up included; unused by CONSTANT */
    int64_t warmup_steps;  /**< the first full rate is that of this step; 0: that of step 1 */
    double minimum;        /**< 0 … 1: what LINEAR and COSINE go down to, after the last step */
} clf_schedule_args;

/** What the learning rate is multiplied by at `step`, 0 … 1. With w = max(warmup_steps, 1):
 *
 *     step < w:  step / w
 *     otherwise: f + (1 − f)·minimum,   f = 1,  1 − p  or  (1 + cos(π·p))/2,   p = (step − w) / (steps + 1 − w) ≤ 1
 *
 * This is Hugging Face's schedule with num_warmup_steps = w and num_training_steps = steps + 1, at current_step = step:
 * the same curve without the step at rate 0 that theirs begin with. With warmup_steps 0 it is theirs exactly, with
 * num_training_steps = steps, at current_step = step − 1. Steps below 1 count as 1; beyond the last the rate stays at
 * the minimum. */
CLF_API double clf_schedule_multiplier(const clf_schedule_args *args, int64_t step);

/** What the loss is multiplied by before its gradients are taken, so that small ones don't become 0 in f16. */
typedef enum clf_loss_scale {
    CLF_LOSS_SCALE_NONE,   /**< 1 */
    CLF_LOSS_SCALE_STATIC, /**< `initial`, always */
    CLF_LOSS_SCALE_DYNAMIC /**< from `initial` on halved with every overflow, doubled after `interval` good steps */
} clf_loss_scale;

/** Arguments of clf_loss_scale_start() and clf_loss_scale_update(). */
typedef struct clf_loss_scale_args {
    clf_loss_scale loss_scale; /**< zero is none */
    float initial;             /**< positive; 0: 65536 */
    int64_t interval;          /**< of DYNAMIC; 0: 2000 */
} clf_loss_scale_args;

/** All that must be kept to go on: plain data for a checkpoint. */
typedef struct clf_loss_scale_state {
    float scale;        /**< multiplies the loss; gradients are divided by it before anything else */
    int64_t good_steps; /**< of DYNAMIC, since the scale last changed */
} clf_loss_scale_state;

/** The state before the first step. */
CLF_API clf_loss_scale_state clf_loss_scale_start(const clf_loss_scale_args *args);
/** After the gradients of a step: `finite` says that all of them are (clf_sum_squares()). DYNAMIC: if they aren't, the
 * scale is halved, but not below 2^−126, and good_steps becomes 0; if they are, good_steps grows by one, and when it
 * reaches the interval the scale is doubled, unless it then were infinite, and good_steps becomes 0. (Micikevicius et
 * al., arXiv:1710.03740)
 * @return whether to take the step: finite. */
CLF_API bool clf_loss_scale_update(const clf_loss_scale_args *args, clf_loss_scale_state *state, bool finite);

/** @} */

/** @name Trainer
 *  @{ */

/** What is trained. */
typedef enum clf_train_mode {
    CLF_TRAIN_LORA, /**< low-rank adapters beside frozen matrices (arXiv:2106.09685), which may be of block dtypes */
    CLF_TRAIN_FULL  /**< every weight */
} clf_train_mode;

/** The seven matrices of a block, for clf_lora_args.targets. Flags. */
typedef enum clf_projection {
    CLF_PROJECTION_QUERY = 1 << 0,  /**< q_proj */
    CLF_PROJECTION_KEY = 1 << 1,    /**< k_proj */
    CLF_PROJECTION_VALUE = 1 << 2,  /**< v_proj */
    CLF_PROJECTION_OUTPUT = 1 << 3, /**< o_proj */
    CLF_PROJECTION_GATE = 1 << 4,   /**< gate_proj */
    CLF_PROJECTION_UP = 1 << 5,     /**< up_proj */
    CLF_PROJECTION_DOWN = 1 << 6    /**< down_proj */
} clf_projection;

/** A rank and alpha of its own for the matrices whose name matches. */
typedef struct clf_lora_pattern {
    const char *name; /**< as fnmatch(3) takes it, against "blk.3.attn_q.weight" */
    int rank;         /**< 0: the general one */
    float alpha;      /**< 0: the general one */
} clf_lora_pattern;

/** The adapter of CLF_TRAIN_LORA. A model that was loaded with an adapter goes on with it: then all of this but
 * `dropout` stays zero. */
typedef struct clf_lora_args {
    int rank;                         /**< r; 0: 16 */
    float alpha;                      /**< the scale is alpha ÷ r; 0: r */
    bool rank_stabilized;             /**< the scale is alpha ÷ √r (arXiv:2312.03732) */
    float dropout;                    /**< probability with which an element of the adapter's input is dropped */
    int targets;                      /**< flags of clf_projection; 0: all seven */
    const clf_lora_pattern *patterns; /**< [n_patterns], the first that matches counts; NULL: none */
    int n_patterns;                   /**< how many */
} clf_lora_args;

/** How parameters whose name matches are trained. */
typedef struct clf_parameter_group {
    const char *name;          /**< as fnmatch(3) takes it, against "token_embd.weight", "blk.3.attn_q.weight.lora_a" */
    bool frozen;               /**< not trained at all */
    float learning_rate_scale; /**< multiplies the learning rate; 0: 1 */
    float weight_decay;        /**< taken as given */
} clf_parameter_group;

#define CLF_CHECKPOINT_NONE 0    /**< all activations are kept */
#define CLF_CHECKPOINT_SQRT (-1) /**< inputs of every ⌈√n_layers⌉-th block are kept */

/** Arguments of clf_trainer_create(). */
typedef struct clf_trainer_args {
    clf_model *model;     /**< on one context; must outlive the trainer, and keeps what was trained: all weights with
                             `compute` BF16 or F16 as rounded to it; with `ternary` the blocks' matrices in TQ2_0, or
                             F16 where rows aren't whole blocks of 256, either being exact */
    clf_train_mode mode;  /**< zero is CLF_TRAIN_LORA */
    clf_lora_args lora;   /**< of CLF_TRAIN_LORA */
    bool train_embedding; /**< CLF_TRAIN_LORA: the embedding too, whole; saved with the adapter */
    bool train_output;    /**< CLF_TRAIN_LORA: the output matrix too, whole; a tied one is the embedding */
    int64_t tokens;       /**< most tokens of a micro-batch */
    int64_t sequences;    /**< most sequences in it; 0: tokens ÷ 2 */
    int checkpointing;    /**< inputs of every n-th block are kept and the rest is computed again (arXiv:1604.06174):
                               n, CLF_CHECKPOINT_SQRT; zero is CLF_CHECKPOINT_NONE. Gradients are the same bits */
    /** With `checkpointing`: the kept inputs wait in host memory, all but the first, which is looked up again, and the
     * last two, and travel there and back while other blocks compute; the same bits. Not on the CPU, whose memory is
     * the host's */
    bool offload_checkpoints;
    clf_dtype compute; /**< of activations and, in CLF_TRAIN_FULL, of the matrices they meet: F32 (zero), BF16, F16;
                            master weights, gradients and optimizer state are F32 */
    /** CLF_TRAIN_FULL: the seven matrices of each block are used as clf_ternarize() of their master weights, and their
     * inputs as clf_fake_quantize() of them, a token at a time; the gradient goes straight through both
     * (arXiv:2402.17764). Frozen matrices stay as they are */
    bool ternary;
    float loss_scale;        /**< gradients are computed of so many times the loss; 0: 1 */
    clf_optimizer optimizer; /**< zero is AdamW */
    bool optimizer_8bit;     /**< state of tensors of 4096 elements and more in 8 bits */
    float beta1;             /**< 0: 0.9 */
    float beta2;             /**< 0: 0.999, Lion 0.99 */
    float eps;               /**< 0: 1e-8 */
    float weight_decay;      /**< of matrices, taken as given; of vectors it is 0 unless a group says otherwise */
    const clf_parameter_group *groups; /**< [n_groups], the first that matches counts; NULL: none */
    int n_groups;                      /**< how many */
    float clip;                        /**< gradients are scaled down to this norm, taken over all; 0: not */
    float label_smoothing;             /**< as in clf_linear_cross_entropy_args */
    float z_loss;                      /**< likewise */
    uint64_t seed;                     /**< of new adapters and of dropout */
} clf_trainer_args;

/** Prepares training: new adapters (A uniform in ±1/√k, B zero), gradients, optimizer state, activations; after it a
 * step allocates nothing but ops' scratch. @return CLF_INVALID_ARGUMENT, CLF_OUT_OF_MEMORY with the bytes wanted,
 * CLF_UNSUPPORTED for a model on several contexts, and for `offload_checkpoints` on the CPU */
CLF_API clf_status clf_trainer_create(clf_trainer **out, const clf_trainer_args *args);
CLF_API void clf_trainer_destroy(clf_trainer *trainer); /**< NULL is accepted */

/** Runs the batch forward and backward and adds its gradients, those of the loss's sum ÷ `targets`, to the others since
 * the last update. *loss receives the sum over the batch's targets, z-loss and smoothing included; NULL: not wanted.
 * @return CLF_INVALID_ARGUMENT (ids, labels, starts), CLF_NOT_FINITE if the loss isn't finite, with the first weight in
 * the message that isn't. After a failure of the arguments everything is as before; after others the gradients of the
 * step are cleared */
CLF_API clf_status clf_trainer_accumulate(clf_trainer *trainer, const clf_batch *batch, int64_t targets, double *loss);
/** The loss alone: no gradient, no dropout. */
CLF_API clf_status clf_trainer_evaluate(clf_trainer *trainer, const clf_batch *batch, double *loss);

/** What clf_trainer_accumulate_preference() and clf_trainer_evaluate_preference() found: sums over pairs. */
typedef struct clf_preference {
    int64_t pairs;   /**< how many */
    int64_t correct; /**< of which the chosen answer is preferred, more than without the adapter */
    double loss;     /**< −log σ(z) */
    double margin;   /**< z */
} clf_preference;

/** Direct preference optimisation (Rafailov et al., arXiv:2305.18290) of an adapter, the model without it being the
 * reference: sequences 2i of the batch are chosen, 2i + 1 rejected answers; labels count the answer's tokens alone.
 * Adds the gradients of the sum of losses ÷ `pairs`, those of the whole step; `beta` is the strength with which the
 * model is held to the reference, usually 0.1. @return as clf_trainer_accumulate() */
CLF_API clf_status clf_trainer_accumulate_preference(clf_trainer *trainer, const clf_batch *batch, int64_t pairs,
                                                     float beta, clf_preference *out);
/** The same figures alone: no gradient, no dropout. @return as clf_trainer_accumulate_preference() */
CLF_API clf_status clf_trainer_evaluate_preference(clf_trainer *trainer, const clf_batch *batch, float beta,
                                                   clf_preference *out);

/** What clf_trainer_update() did. */
typedef struct clf_update {
    double gradient_norm; /**< over all parameters, before clipping */
    bool skipped;         /**< it wasn't finite: no weight has changed, the gradients are cleared */
    const char *culprit;  /**< then the name of the first parameter whose gradient wasn't; otherwise NULL */
} clf_update;

/** Takes a step with the gradients since the last one, and clears them. `result` may be NULL. */
CLF_API clf_status clf_trainer_update(clf_trainer *trainer, float learning_rate, clf_update *result);
/** Steps taken so far. */
CLF_API int64_t clf_trainer_step(const clf_trainer *trainer);
/** Changes the loss scale, between an update and the next batch. */
CLF_API clf_status clf_trainer_set_loss_scale(clf_trainer *trainer, float loss_scale);

/** Writes master weights, optimizer state, step, loss scale and the text `extra` (NULL: none), which is the caller's:
 * position in the data, log. Nothing is at `path` before the file is whole and synced. Gradients aren't kept: the state
 * is that after the last update, and batches since then are to be given again. @return CLF_IO_ERROR */
CLF_API clf_status clf_trainer_save(clf_trainer *trainer, const char *path, const char *extra);
/** Goes on from what clf_trainer_save() wrote, to the bit, with a trainer made by equal arguments. `extra` receives the
 * text, at most `extra_size` bytes with its terminating 0; NULL: not wanted. The trainer is as before if the file is
 * refused. @return CLF_NOT_FOUND, CLF_BAD_FILE (damaged, or of another model or training), CLF_UNSUPPORTED (another
 * version), CLF_FULL */
CLF_API clf_status clf_trainer_load(clf_trainer *trainer, const char *path, char *extra, size_t extra_size);

/** What training takes, before anything is loaded. Bytes unless said. */
typedef struct clf_trainer_estimate {
    uint64_t weights;     /**< frozen ones of the model, as loaded: mapped on the CPU, or held */
    uint64_t parameters;  /**< what is trained: master weights, 16-bit and ternary copies */
    uint64_t gradients;   /**< of them */
    uint64_t optimizer;   /**< its state */
    uint64_t activations; /**< kept for the backward pass, and at work */
    uint64_t saved;       /**< of which blocks keep, their inputs apart */
    uint64_t scratch;     /**< inside ops: one at a time */
    uint64_t total;       /**< of all these */
    uint64_t host;        /**< host memory besides, on a device: kept inputs with offload_checkpoints */
    int64_t trained;      /**< parameters, in numbers */
    double recomputed;    /**< share of the blocks whose forward pass is done twice: what checkpointing costs */
    double flops;         /**< floating-point operations for a token of a full micro-batch, forward and backward */
} clf_trainer_estimate;

/** Arguments of clf_estimate_trainer(). */
typedef struct clf_trainer_estimate_args {
    const char *path;         /**< the model, as in clf_model_args */
    const void *data;         /**< instead: as there */
    size_t data_size;         /**< as there */
    clf_dtype quantize;       /**< as there */
    const char *adapter;      /**< as there: it is trained on, and says its ranks itself. NULL: a new one is made */
    clf_trainer_args trainer; /**< `model` is not looked at */
    int threads;              /**< scratch is per thread; 0: 1 */
    bool device;              /**< scratch is what OpenCL's own kernels take (a product by CLBlast takes its size in F32
                                   more); false: a CPU table's */
    char *error;              /**< receives the message on failure; may be NULL */
    size_t error_size;        /**< bytes at `error` */
} clf_trainer_estimate_args;

/** Reads the descriptions of model and adapter only. @return as clf_model_load() and clf_trainer_create() */
CLF_API clf_status clf_estimate_trainer(clf_trainer_estimate *out, const clf_trainer_estimate_args *args);

/** One tensor being trained. Handles are borrowed. */
typedef struct clf_parameter_info {
    const char *name;           /**< "blk.3.attn_q.weight"; of an adapter with ".lora_a" or ".lora_b" after it */
    const clf_tensor *weight;   /**< F32, the master weights */
    const clf_tensor *gradient; /**< F32, times the loss scale */
} clf_parameter_info;

CLF_API int clf_trainer_parameters(const clf_trainer *trainer); /**< how many there are */
/** Describes parameter `index`. */
CLF_API clf_status clf_trainer_parameter(const clf_trainer *trainer, int index, clf_parameter_info *out);

/** @} */

#endif
