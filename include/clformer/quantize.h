/** @file quantize.h
 *  Smaller models, and what they cost: a model file becomes one of block dtypes, an importance matrix says which
 * columns matter, an evaluation compares models by text.
 *
 *  docs/quantisation.md says which type to use when. */
#ifndef CLFORMER_QUANTIZE_H
#define CLFORMER_QUANTIZE_H

#include "base.h"
#include "context.h"
#include "model.h"

/** @name Quantising
 *  @{ */

/** A dtype for the matrices whose name matches. */
typedef struct clf_quantize_override {
    const char *name; /**< as fnmatch(3) takes it, against "blk.3.attn_q.weight" */
    clf_dtype dtype;  /**< a float or block dtype that GGUF has */
} clf_quantize_override;

/** What became of one tensor. Errors are those of the written values against the source's, both as floats. */
typedef struct clf_quantized_tensor {
    const char *name;      /**< as GGUF has it; valid during the call */
    int index;             /**< from 0 */
    int count;             /**< of all tensors */
    int ndim;              /**< of shape */
    int64_t shape[4];      /**< last dimension fastest */
    clf_dtype from;        /**< in the source */
    clf_dtype to;          /**< as written */
    bool fell_back;        /**< to F16: its rows aren't whole blocks of the dtype that was asked for */
    uint64_t bytes;        /**< written */
    double relative_error; /**< √(Σ(w′ − w)² / Σw²); 0 where nothing changed */
    double max_error;      /**< largest |w′ − w| */
    double cosine;         /**< Σw·w′ / (|w|·|w′|) */
    double zeros;          /**< of ternary dtypes: share of zeros */
    bool ternary;          /**< of ternary dtypes: the source's values were ternary already, but for 16 bits of scale */
} clf_quantized_tensor;

/** Totals of clf_quantize(). */
typedef struct clf_quantize_result {
    uint64_t source_bytes; /**< of all tensors */
    uint64_t bytes;        /**< written */
    int64_t parameters;    /**< weights */
    int fell_back;         /**< tensors that did */
    double relative_error; /**< over all tensors that were quantised */
} clf_quantize_result;

/** Arguments of clf_quantize(). */
typedef struct clf_quantize_args {
    const char *input;  /**< a GGUF file (the first shard of several), or a Hugging Face folder */
    const char *output; /**< NAME.gguf */
    /** A dtype's name ("q8_0", "f16"), or a mix: "q2_k", "q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m",
     * "q5_k_s", "q5_k_m" give the tensors that suffer most a better dtype, as llama.cpp's mixes of these names do;
     * "q3_k", "q4_k" and "q5_k" are those with an m. Matrices take it; vectors are F32. The output matrix is Q6_K (or
     * the type, if that is finer; Q8_0, if its rows aren't whole blocks of Q6_K) and a tied embedding likewise, unless
     * `pure`. Where rows aren't whole blocks of the type the matrix becomes F16.
     * "t1" and "t2" repack the ternary matrices of the blocks (base.h), whose rows are a multiple of 16, and leave all
     * else as it is: no overrides; CLF_UNSUPPORTED if there are none, CLF_INVALID_ARGUMENT if a value doesn't fit */
    const char *type;
    const clf_quantize_override *overrides; /**< [n_overrides], the first that matches counts; NULL: none. One that
                                                 matches no matrix is an error */
    int n_overrides;                        /**< how many */
    const char
        *importance; /**< a file of clf_importance_save() or of llama-imatrix (GGUF or the older .dat); NULL: none */
    bool pure;       /**< all matrices take the type; one whose rows aren't whole blocks is an error */
    bool force;      /**< ternary dtypes though they destroy the weights (relative error above 0.1) */
    /** Called after each tensor; false ends with CLF_CANCELLED. May be NULL. */
    bool (*tensor)(void *user, const clf_quantized_tensor *tensor);
    void *user; /**< passed to `tensor` */
} clf_quantize_args;

/** Writes a quantised model, some rows at a time with the threads of `ctx`, a CPU context, in a few MiB of its memory
 * and pages of the input that the system can take back. Keys and tokenizer are the source's; those of a folder become
 * GGUF's. The input may be quantised already: errors are those against its values. Nothing is at `output` before the
 * file is whole. `result` may be NULL. Same input, same threads: same bytes.
 *  @return CLF_INVALID_ARGUMENT (unknown type; output is the input, also by another name; an importance matrix of
 * another model; `pure`); CLF_NOT_FINITE for an infinity or NaN, as read or as written, naming tensor, row and column;
 * CLF_UNSUPPORTED for a ternary dtype that would destroy the weights, with the figure, and for a folder that GGUF has
 * no keys for; CLF_BAD_FILE for a malformed importance matrix; CLF_CANCELLED; otherwise as clf_model_load() and
 * clf_model_save() */
CLF_API clf_status clf_quantize(clf_context *ctx, const clf_quantize_args *args, clf_quantize_result *result);

/** @} @name Importance
 *  How much each column of a matrix matters: the mean square of the activations that meet it. Quantising weighs errors
 *  by it.
 *  @{ */

typedef struct clf_importance clf_importance; /**< sums of squares for each matrix of a model */

/** Starts with zeros, and opens a session of `context` positions (0: 512), an F32 cache. The model must outlive it.
 * Messages of all these calls are in clf_error_message() of the model's first context. */
CLF_API clf_status clf_importance_create(clf_importance **out, clf_model *model, int64_t context);
CLF_API void clf_importance_destroy(clf_importance *importance); /**< NULL is accepted */
/** Evaluates `n` ids in chunks of `context` tokens, each from an empty cache, the beginning-of-sequence id in the place
 * of each chunk's first where the model wants one, and adds what the matrices of the blocks met. The output matrix is
 * left out, as llama-imatrix does. An incomplete last chunk is left out: to say how far one is, add a chunk at a time.
 *
 * A failure leaves what was added, a part of a chunk too; each matrix counts the rows it met.
 *  @return CLF_INVALID_ARGUMENT if there is no whole chunk or an id is out of range; CLF_NOT_FINITE if an input is
 * infinite or NaN, naming the matrix; as clf_session_eval() */
CLF_API clf_status clf_importance_add(clf_importance *importance, const int32_t *ids, int64_t n);
/** Writes it as llama.cpp's imatrix in GGUF: of each matrix, as a GGUF file names it, NAME.in_sum2 [columns], the sums
 * of squares, and NAME.counts [1], the rows. `dataset` is the text's name for imatrix.datasets, NULL: empty. Nothing is
 * at `path` before the file is whole. @return CLF_INVALID_ARGUMENT if no whole chunk was added; CLF_IO_ERROR,
 * CLF_NOT_FOUND, CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_importance_save(const clf_importance *importance, const char *path, const char *dataset);

/** @} @name Evaluation
 *  @{ */

/** A mean with its standard error. */
typedef struct clf_estimated {
    double mean;  /**< of the tokens */
    double error; /**< standard deviation ÷ √tokens */
} clf_estimated;

/** What clf_evaluate() found. Probabilities and divergences are in nats. */
typedef struct clf_evaluation {
    int64_t tokens;               /**< that were predicted */
    int64_t chunks;               /**< evaluated */
    clf_estimated nll;            /**< −log p of the right token */
    double perplexity;            /**< exp(nll.mean) */
    double perplexity_error;      /**< perplexity · nll.error */
    clf_estimated base_nll;       /**< with `base`: its own */
    clf_estimated nll_difference; /**< nll − base_nll, paired */
    clf_estimated kl;             /**< divergence of base's distribution from the model's: Σ p_base·log(p_base/p) */
    double kl_median;             /**< of the tokens; known at the end */
    double kl_999;                /**< 99.9 % are below; known at the end */
    double kl_max;                /**< largest */
    clf_estimated same_top;       /**< share of tokens where both find the same id likeliest */
    double rms_dp;                /**< root mean square difference of the right token's probability */
} clf_evaluation;

/** Arguments of clf_evaluate(). */
typedef struct clf_evaluate_args {
    clf_model *model;   /**< what is judged */
    clf_model *base;    /**< what it is compared with, of the same vocabulary, on any context; NULL: nothing */
    const int32_t *ids; /**< [n] a text */
    int64_t n;          /**< how many */
    int64_t context;    /**< tokens of a chunk, at least 3; 0: 512 */
    int64_t chunks;     /**< most chunks; 0: all */
    clf_dtype kv_dtype; /**< of the KV cache */
    /** Called after each of `chunks` chunks with what is known so far; false ends with CLF_CANCELLED. May be NULL. */
    bool (*progress)(void *user, const clf_evaluation *so_far, int64_t chunks);
    void *user; /**< passed to `progress` */
} clf_evaluate_args;

/** Perplexity as llama.cpp's tool counts it, so that figures compare: the text is cut into chunks of `context` tokens,
 * each evaluated from an empty cache with the beginning-of-sequence id in the place of its first token where the model
 * wants one; predictions of the second half's tokens but its first are judged, for the first half has too little before
 * it. An incomplete last chunk is left out. On failure `out` has what was known then.
 *
 * Beyond a session of `context` positions it takes, of each model, logits on the device and on the host of at most 16
 * MiB (or of one token), and with `base` 8 bytes for each token that is judged.
 *  @return CLF_INVALID_ARGUMENT for fewer than two chunks' tokens and for models of different vocabularies;
 * CLF_NOT_FINITE for logits that are not; as clf_session_eval(). The message is in clf_error_message() of the model's
 * first context */
CLF_API clf_status clf_evaluate(clf_evaluation *out, const clf_evaluate_args *args);

/** @} */

#endif
