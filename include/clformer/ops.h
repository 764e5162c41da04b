/** @file ops.h
 *  Ops: functions of tensors, without state. All tensors of a call live on its context.
 *
 *  Common to all: the last dimension of every float tensor is contiguous, other strides are free (a view may repeat
 * with stride 0 where it is only read). "Float" means F32, F16 or BF16; unless said, the float tensors of one call
 * share a dtype. Inside, arithmetic is float32, and 16-bit results are rounded once, to nearest even. A zero field
 * means the default stated at it. An output may be the very same view as an input where "may alias" says so and may not
 * overlap any input otherwise. Empty tensors are valid. Ops on a CPU context return finished; on others they are
 * enqueued (clf_sync() waits).
 *
 *  Gradients. clf_X_backward() takes the gradient of a loss by X's outputs, called d_out and so on, and gives those by
 * its inputs. Gradients by activations are written; gradients by weights are F32 and added to what is there, so that
 * the micro-batches of a step accumulate (attention's sinks, mask and slopes are written). A gradient that is NULL is
 * not computed. Same arguments, same threads: same bits.
 *
 *  @return of each: CLF_INVALID_ARGUMENT names op, argument, expected and got; CLF_UNSUPPORTED: this table lacks
 *  it; CLF_OUT_OF_MEMORY: scratch. Nothing is written when the arguments are refused. Formulas: docs/ops.md. */
#ifndef CLFORMER_OPS_H
#define CLFORMER_OPS_H

#include "base.h"
#include "tensor.h"

/** Activation of a gated unit. */
typedef enum clf_activation {
    CLF_ACTIVATION_NONE,     /**< no gate */
    CLF_ACTIVATION_SILU,     /**< x·σ(x), as in SwiGLU */
    CLF_ACTIVATION_GELU,     /**< x·Φ(x), exact (erf) */
    CLF_ACTIVATION_GELU_TANH /**< its tanh approximation, as in Gemma */
} clf_activation;

/** Arguments of clf_embedding(). */
typedef struct clf_embedding_args {
    const clf_tensor *weight; /**< [vocab, dim], any dtype: blocks are decoded */
    const clf_tensor *ids;    /**< i32 [...], each in [0, vocab) */
    float scale;              /**< multiplies the rows; 0: 1 */
    clf_tensor *out;          /**< [..., dim], float: ids' dimensions and one more */
} clf_embedding_args;

/** out[..., :] = scale · weight[ids[...], :]. On the CPU an id out of range is CLF_INVALID_ARGUMENT and nothing is
 * written; where ids lie on another device its row becomes NaN. */
CLF_API clf_status clf_embedding(clf_context *ctx, const clf_embedding_args *args);

/** Arguments of clf_embedding_backward(). */
typedef struct clf_embedding_backward_args {
    const clf_tensor *ids;   /**< i32 [...], as clf_embedding() got them */
    float scale;             /**< as there; 0: 1 */
    const clf_tensor *d_out; /**< [..., dim] float */
    clf_tensor *d_weight;    /**< F32 [vocab, dim]: added to */
} clf_embedding_backward_args;

/** d_weight[ids[...], :] += scale · d_out[..., :], equal ids in their order. Ids out of range as in clf_embedding(),
 * but where ids lie on another device their rows add nothing. */
CLF_API clf_status clf_embedding_backward(clf_context *ctx, const clf_embedding_backward_args *args);

/** Arguments of clf_rms_norm(). */
typedef struct clf_rms_norm_args {
    const clf_tensor *x;        /**< [..., dim] float */
    const clf_tensor *residual; /**< as x, added to x first; NULL: none */
    const clf_tensor *weight;   /**< [dim], F32 or x's dtype; NULL: all ones */
    float weight_offset;        /**< added to each weight: 1 for Gemma's (1 + w) */
    float eps;                  /**< taken as given */
    clf_tensor *sum; /**< receives x + residual, rounded to x's dtype; the norm is taken of the rounded sum; may alias x
                        or residual; NULL: not stored */
    clf_tensor *rstd; /**< [...] F32: receives 1/√(mean + eps), for the backward pass; then dim ≥ 1; NULL: not stored */
    clf_tensor *out; /**< as x; may alias x or, without `sum`, residual. Or Q8_0 of x's shape, to be the next product's
                        x (CPU; else CLF_UNSUPPORTED): what clf_convert() makes of the results in F32, but that a block
                        which isn't finite has a NaN as scale; a residual needs `sum` then */
} clf_rms_norm_args;

/** s = x + residual; out = s / √(mean(s²) + eps) · (weight_offset + weight), over the last dimension.
 *  Zhang and Sennrich, arXiv:1910.07467. */
CLF_API clf_status clf_rms_norm(clf_context *ctx, const clf_rms_norm_args *args);

/** Arguments of clf_rms_norm_backward(). */
typedef struct clf_rms_norm_backward_args {
    const clf_tensor *x;      /**< [..., dim] float: what was normed, clf_rms_norm()'s `sum` where it had a residual */
    const clf_tensor *weight; /**< as there */
    float weight_offset;      /**< as there */
    const clf_tensor *rstd;   /**< F32 [...]: what clf_rms_norm() wrote */
    const clf_tensor *d_out;  /**< as x */
    const clf_tensor *residual; /**< as x, added to d_x: the gradient that reaches x otherwise; NULL: none */
    clf_tensor *d_x;            /**< as x; may alias d_out or residual */
    clf_tensor *d_weight;       /**< F32 [dim]: added to */
} clf_rms_norm_backward_args;

/** With n = x · rstd and m = d_out · (weight_offset + weight): d_x = rstd · (m − n · mean(m · n)) + residual,
 *  d_weight += Σ d_out · n over the rows. */
CLF_API clf_status clf_rms_norm_backward(clf_context *ctx, const clf_rms_norm_backward_args *args);

/** Which elements rotate together. */
typedef enum clf_rope_pairing {
    CLF_ROPE_HALVES,     /**< (i, i + n/2): Hugging Face, GPT-NeoX */
    CLF_ROPE_INTERLEAVED /**< (2i, 2i + 1): the paper, LLaMA in GGUF */
} clf_rope_pairing;

/** How rotary frequencies are stretched beyond the trained context. */
typedef enum clf_rope_scaling {
    CLF_ROPE_SCALING_NONE,   /**< base^(−2i/n) as it is */
    CLF_ROPE_SCALING_LINEAR, /**< positions ÷ factor */
    CLF_ROPE_SCALING_LLAMA3, /**< long waves ÷ factor, short ones kept, a ramp between (LLaMA 3.1) */
    CLF_ROPE_SCALING_YARN, /**< ramp between kept and ÷ factor, and magnitudes × attention_factor (arXiv:2309.00071) */
    CLF_ROPE_SCALING_LONGROPE /**< frequencies ÷ freq_factors, magnitudes × attention_factor (Phi 3) */
} clf_rope_scaling;

/** Arguments of clf_rope(). */
typedef struct clf_rope_args {
    const clf_tensor *x;         /**< [heads, seq, head_dim] or [batch, heads, seq, head_dim] float, any strides */
    const clf_tensor *positions; /**< i32 [seq] or [batch, seq], each ≥ 0; NULL: 0, 1, 2 … */
    int64_t position;            /**< added to every position, ≥ 0 */
    int n_dims; /**< leading elements of a head that rotate, even, ≤ 1024; the rest are copied; 0: head_dim */
    clf_rope_pairing pairing;  /**< zero is CLF_ROPE_HALVES */
    double base;               /**< θ; 0: 10000 */
    clf_rope_scaling scaling;  /**< zero is none */
    float factor;              /**< of LINEAR, LLAMA3, YARN; 0: 1 */
    int64_t original_context;  /**< trained context; of LLAMA3 and YARN, where it must be positive */
    float low_freq_factor;     /**< of LLAMA3; 0: 1 */
    float high_freq_factor;    /**< of LLAMA3; 0: 4 */
    float beta_fast;           /**< of YARN; 0: 32 */
    float beta_slow;           /**< of YARN; 0: 1 */
    float attention_factor;    /**< of YARN and LONGROPE; 0: YARN 0.1·ln(factor) + 1, LONGROPE 1 */
    const float *freq_factors; /**< host, [n_dims/2]: each frequency is divided by it, with any scaling; NULL: ones */
    bool inverse;              /**< rotate back: the gradient of the forward rotation */
    clf_tensor *out;           /**< as x; may alias x */
} clf_rope_args;

/** Rotates pairs of elements by position · frequency (arXiv:2104.09864). Angles are reduced exactly, so that large
 * positions lose nothing. */
CLF_API clf_status clf_rope(clf_context *ctx, const clf_rope_args *args);

/** What a table may do to the activations of clf_linear() when the weight has a block dtype. */
typedef enum clf_linear_precision {
    CLF_LINEAR_FAST, /**< it may round them to int8, a scale per 32 values (amax/127), per 256 where the weight's scales
                        are (T2, T1), if that is faster */
    CLF_LINEAR_EXACT /**< they stay float: training, comparisons */
} clf_linear_precision;

#define CLF_LINEAR_MAX 3 /**< products of one x in one call */

/** Arguments of clf_linear(). One product uses entry 0; query, key and value projections use three; gate and up use
 * two. */
typedef struct clf_linear_args {
    const clf_tensor *x; /**< [..., k] float, or Q8_0 (CPU; else CLF_UNSUPPORTED): where it would be rounded a scale per
                            32, its codes and scales are taken as they are (-128, which no quantiser makes, as -127) */
    const clf_tensor *weight[CLF_LINEAR_MAX]; /**< [n, k], any float or block dtype, x's or not; NULL ends the list */
    /** Block-sparse ternary: weight[i] is U8 [tiles · 64], words of T2 (base.h), each 16 rows × 16 k, and this is I32
     * [n/16 + 1]: row of tiles t is tiles tile_rows[t] to tile_rows[t + 1] − 1. What no tile holds is zero. Rounded x
     * has one scale a row then. Lists that lead outside are CLF_INVALID_ARGUMENT on the CPU; on other devices the rows
     * that they make are NaN. NULL: dense */
    const clf_tensor *tile_rows[CLF_LINEAR_MAX];
    const clf_tensor *tile_columns[CLF_LINEAR_MAX]; /**< I32 [tiles], below k/16; with tile_rows */
    const clf_tensor *row_scale[CLF_LINEAR_MAX];    /**< F32 [n], n a multiple of 16; with tile_rows */
    const clf_tensor *bias[CLF_LINEAR_MAX];         /**< [n] F32 or x's dtype, with Q8_0 any float; NULL: none */
    const clf_tensor *residual; /**< as out[0], added to it; one product or a gate only; may alias out[0]; NULL: none */
    float scale;                /**< multiplies the products x·Wᵀ, not the biases; 0: 1 */
    clf_activation glu; /**< not NONE: out[0] = activation(x·W₀ᵀ + b₀) · (x·W₁ᵀ + b₁), nothing else stored */
    clf_linear_precision precision;  /**< zero is CLF_LINEAR_FAST */
    clf_tensor *out[CLF_LINEAR_MAX]; /**< [..., n] of x's dtype, or F32 whatever x is, with Q8_0 any float; one per
                                        weight, or one with `glu` */
} clf_linear_args;

/** out[i] = scale · x · weight[i]ᵀ + bias[i] (+ residual). */
CLF_API clf_status clf_linear(clf_context *ctx, const clf_linear_args *args);

/** Arguments of clf_linear_backward(). Entries are those of clf_linear(). */
typedef struct clf_linear_backward_args {
    const clf_tensor *x;                      /**< [..., k] float; used for d_weight only, may else be NULL */
    const clf_tensor *weight[CLF_LINEAR_MAX]; /**< [n, k], any float or block dtype, decoded a tile at a time; used for
                                                 d_x only, may else be NULL */
    const clf_tensor *d_out[CLF_LINEAR_MAX];  /**< [..., n] float, one dtype; NULL ends the list */
    const clf_tensor
        *residual;   /**< as d_x, added to it: the gradient that reaches x otherwise; may alias d_x; NULL: none */
    float scale;     /**< as there; 0: 1 */
    clf_tensor *d_x; /**< [..., k] of d_out's dtype, or F32 */
    clf_tensor *d_weight[CLF_LINEAR_MAX]; /**< F32 [n, k]: added to; NULL: frozen */
    clf_tensor *d_bias[CLF_LINEAR_MAX];   /**< F32 [n]: added to; NULL: frozen */
} clf_linear_backward_args;

/** d_x = scale · Σ d_out[i] · weight[i] (+ residual); d_weight[i] += scale · d_out[i]ᵀ · x; d_bias[i] += Σ d_out[i]
 * over the rows. */
CLF_API clf_status clf_linear_backward(clf_context *ctx, const clf_linear_backward_args *args);

#define CLF_LABEL_NONE (-100) /**< label of a row that is no target */

/** Arguments of clf_linear_cross_entropy(). */
typedef struct clf_linear_cross_entropy_args {
    const clf_tensor *x;           /**< [rows, k] float */
    const clf_tensor *weight;      /**< [vocab, k], any float or block dtype */
    const clf_tensor *labels;      /**< i32 [rows]: each in [0, vocab), or CLF_LABEL_NONE */
    const clf_tensor *row_weights; /**< F32 [rows]: multiply the gradients of each row, not its loss; NULL: ones */
    float softcap;                 /**< z = c·tanh(x·Wᵀ/c); 0: none */
    float label_smoothing;         /**< ε, 0 … 1: the share of the target that is spread over the vocabulary */
    float z_loss;                  /**< λ ≥ 0: λ·lse² is added to each loss */
    float d_loss;                  /**< multiplies all gradients: loss scale ÷ targets of the step; 0: 1 */
    clf_tensor *loss;              /**< F32 [rows]: 0 where the label is CLF_LABEL_NONE */
    clf_tensor *lse;               /**< F32 [rows]: log Σ exp(z), likewise 0; NULL: not stored */
    clf_tensor *d_x;               /**< as x; may alias x */
    clf_tensor *d_weight;          /**< F32 [vocab, k]: added to; NULL: frozen. Holding zeros alone it is faster on a
                                        CPU: its memory then serves for the logits of up to k rows meanwhile */
} clf_linear_cross_entropy_args;

/** Cross-entropy of z = softcap(x·weightᵀ) with the labels, and its gradients in the same pass, some rows and columns
 * at a time: logits are never stored as a whole (Wijmans et al., arXiv:2411.09009; Liger, arXiv:2410.10989).
 *
 *     loss = lse − (1 − ε)·z[label] − ε·mean(z) + λ·lse²
 *     d_z  = d_loss · row_weight · (softmax(z)·(1 + 2λ·lse) − (1 − ε)·1[label] − ε/vocab)
 *
 * A label that is neither is CLF_INVALID_ARGUMENT where the host can read it; elsewhere its loss is NaN. */
CLF_API clf_status clf_linear_cross_entropy(clf_context *ctx, const clf_linear_cross_entropy_args *args);

/** Arguments of clf_glu(). */
typedef struct clf_glu_args {
    const clf_tensor *gate;    /**< [..., dim] float */
    const clf_tensor *up;      /**< as gate */
    clf_activation activation; /**< not CLF_ACTIVATION_NONE */
    clf_tensor *out;           /**< as gate; may alias gate or up */
} clf_glu_args;

/** out = activation(gate) · up (arXiv:2002.05202). */
CLF_API clf_status clf_glu(clf_context *ctx, const clf_glu_args *args);

/** Arguments of clf_glu_backward(). */
typedef struct clf_glu_backward_args {
    const clf_tensor *gate;    /**< as clf_glu() got it */
    const clf_tensor *up;      /**< as there */
    clf_activation activation; /**< as there */
    const clf_tensor *d_out;   /**< as gate */
    clf_tensor *d_gate;        /**< as gate; may alias gate, up or d_out */
    clf_tensor *d_up;          /**< as gate; likewise */
    clf_tensor *out; /**< as gate: clf_glu()'s result again, so that it needn't be kept; likewise; NULL: not stored */
} clf_glu_backward_args;

/** d_gate = d_out · up · activation′(gate); d_up = d_out · activation(gate). */
CLF_API clf_status clf_glu_backward(clf_context *ctx, const clf_glu_backward_args *args);

/** Arguments of clf_attention().
 *
 * Sequences. Without `query_starts` each entry of the batch is one sequence: its n_q queries and n_k keys. Packed,
 * batch is 1 and sequence s has the query rows query_starts[s] … query_starts[s + 1] − 1 and the key rows key_starts[s]
 * … key_starts[s + 1] − 1; rows of no sequence get 0 and an lse of −inf. Paged, key and value are pools of blocks that
 * any sequence may use: position p of sequence s is row p % block_size of block block_table[s][p / block_size].
 *
 * Positions. Query i of a sequence's n queries stands at key position i + keys − n: the last query at the last key.
 * `keys` is n_k; packed, the sequence's own number of key rows; paged, its key_lengths. In the first two cases
 * key_lengths only hide. Distances, windows, and the blocks of a layout are counted within a sequence. */
typedef struct clf_attention_args {
    const clf_tensor *query; /**< [batch, heads, n_q, head_dim] float, head_dim 1 … 256 */
    /** [batch, kv_heads, n_k, head_dim], kv_heads divides heads; any float dtype, as value's; or both Q8_0 or
     * Q4_0 where head_dim and v_dim are multiples of 32. Paged: [blocks, kv_heads, block_size, head_dim] */
    const clf_tensor *key;
    const clf_tensor *value;        /**< as key but for v_dim, 1 … 256, in place of head_dim */
    float scale;                    /**< multiplies q·k; 0: 1/√head_dim */
    float softcap;                  /**< c·tanh(score/c) after the scale; 0: none */
    const clf_tensor *alibi_slopes; /**< F32 [heads], ≥ 0: slope × distance is subtracted; NULL: none */
    /** F32 or query's dtype, [1|batch, 1|heads, 1|n_q, 1|n_k], added; −inf hides; NULL: none. Packed, n_q and n_k count
     * all rows; paged, n_k is the positions that a row of block_table has room for, and batch is query's */
    const clf_tensor *mask;
    bool causal;          /**< keys after the query's position are hidden */
    int64_t window;       /**< keys seen looking back, itself included: key > position − window; 0: unlimited */
    int64_t window_right; /**< keys seen looking ahead, itself included: key < position + window; 0: unlimited */
    const clf_tensor *key_lengths;  /**< i32 [sequences]: a sequence's keys from it on are hidden; NULL: all are seen */
    const clf_tensor *query_starts; /**< i32 [sequences + 1], rising from 0, at most n_q; NULL: not packed */
    const clf_tensor *key_starts;   /**< likewise of the keys; with query_starts and no block_table */
    /** i32 [sequences, most], with key_lengths: the blocks of each sequence; entries past its length are not looked at;
     * NULL: not paged */
    const clf_tensor *block_table;
    /** i32 [row_blocks + 1], compressed rows: queries i of a sequence with i / layout_block = r see the keys j with j /
     * layout_block in layout_columns[layout_rows[r]] … [layout_rows[r + 1] − 1] only; queries past the last row block
     * see none; NULL: no layout */
    const clf_tensor *layout_rows;
    const clf_tensor *layout_columns; /**< i32 [entries], rising within a row; with layout_rows */
    int64_t layout_block;             /**< 16, 32, 64 or 128; with layout_rows */
    /** Probability of 0 … < 1 with which each p is made 0, the others being ÷ (1 − dropout); lse is without it. p of
     * sequence s, head h, query i, key j (both counted in the sequence) is kept if word j % 4 of Philox4×32-10 (Salmon
     * et al., SC 2011) with key (seed, seed >> 32) and counter (j / 4, i, h, s) is ≥ dropout · 2^32; 0: none */
    float dropout;
    uint64_t dropout_seed;   /**< the generator's key: one of its own for each call */
    const clf_tensor *sinks; /**< F32 [heads]: exp(sink) joins the softmax's sum, without a value; NULL: none */
    clf_tensor *lse;         /**< F32 [batch, heads, n_q]: receives log Σ exp (sink included); NULL: not stored */
    clf_tensor *out;         /**< [batch, heads, n_q, v_dim] of query's dtype; may not alias */
} clf_attention_args;

/** out = softmax(mask(softcap(scale · q·kᵀ) − alibi + mask)) · v; every field combines with every other. A query that
 * sees no key yields 0, with lse −inf (the sink's, if there are sinks). Keys and values that
 * key_lengths, starts or table leave out may hold anything; all others are finite, hidden or not. More than 256 per
 * head, and other block dtypes, are CLF_UNSUPPORTED. Scores are never stored: arXiv:2205.14135, 2112.05682.
 * clf_attention_memory() says what memory it takes. Indices that lie in device memory are checked where the host can
 * read them; elsewhere a wrong one hides keys, and nothing outside the tensors is touched.
 */
CLF_API clf_status clf_attention(clf_context *ctx, const clf_attention_args *args);

/** Arguments of clf_attention_backward(). Gradients of F32 or of their tensor's dtype are written, not added to; NULL
 * ones are not computed; none may overlap another or an input. */
typedef struct clf_attention_backward_args {
    clf_attention_args forward; /**< as clf_attention() got them; out and lse hold what it wrote */
    const clf_tensor *d_out;    /**< as out: the loss's gradient by it */
    clf_tensor *d_query;        /**< as query */
    clf_tensor *d_key;          /**< as key: summed over the query heads of its group */
    clf_tensor *d_value;        /**< as value */
    clf_tensor *d_sinks;        /**< F32 [heads], with sinks */
    clf_tensor *d_mask; /**< F32, as mask, with mask: summed over what the mask is repeated over; 0 where it is −inf */
    clf_tensor *d_alibi_slopes; /**< F32 [heads], with alibi_slopes */
} clf_attention_backward_args;

/** Gradients of clf_attention(), probabilities being recomputed from lse (arXiv:2205.14135, algorithm 4). The keys must
 * be float and not paged (CLF_UNSUPPORTED otherwise). Same arguments, same threads: same bits. */
CLF_API clf_status clf_attention_backward(clf_context *ctx, const clf_attention_backward_args *args);

/** Arguments of clf_add(). */
typedef struct clf_add_args {
    const clf_tensor *a; /**< [...] float */
    const clf_tensor *b; /**< as a, or [dim], a's last dimension, added to every row */
    clf_tensor *out;     /**< as a; may alias a, or b of a's shape */
} clf_add_args;

/** out = a + b. */
CLF_API clf_status clf_add(clf_context *ctx, const clf_add_args *args);

/** Arguments of clf_convert(). */
typedef struct clf_convert_args {
    const clf_tensor *x; /**< any dtype, any strides (block dtypes: whole rows) */
    /** F32 [columns], finite and ≥ 0, with `out` of a block dtype: how much the square of an error in each column
     * weighs, all zeros and NULL: evenly. Q8_0, the ternary dtypes, MXFP4 and NF4 don't weigh */
    const clf_tensor *importance;
    clf_tensor *out; /**< same shape, F32, F16, BF16, I32, or of a block dtype but NVFP4 and Q1_0; may not alias */
} clf_convert_args;

/** Copies, changing dtype and layout. Float to I32 truncates towards zero and saturates; NaN becomes 0. Blocks are
 * decoded. Into blocks: Q4_0, Q4_1, Q5_0, Q5_1 (without importance), Q8_0, TQ1_0, TQ2_0 and Q2_0 are ggml's, to the
 * byte; the others' scales are searched for, but NF4's, a float. What isn't finite or is too large for a scale that is
 * a half is CLF_NOT_FINITE, with the first one's row and column in the message. OpenCL makes Q8_0 and Q4_0 of floats,
 * the same bytes; a block of values that aren't finite gets NaN for its scale. T2 and T1 are made from
 * matrices of TQ1_0, TQ2_0, Q2_0 and each other without loss, and made those and floats (CPU); what doesn't fit (2 in
 * base 3, several scales for 256 values) is CLF_INVALID_ARGUMENT. */
CLF_API clf_status clf_convert(clf_context *ctx, const clf_convert_args *args);

/** Arguments of clf_softcap(). */
typedef struct clf_softcap_args {
    const clf_tensor *x; /**< [...] float */
    float cap;           /**< positive */
    clf_tensor *out;     /**< as x; may alias x */
} clf_softcap_args;

/** out = cap · tanh(x / cap). */
CLF_API clf_status clf_softcap(clf_context *ctx, const clf_softcap_args *args);

/** Arguments of clf_softcap_backward(). */
typedef struct clf_softcap_backward_args {
    const clf_tensor *out;   /**< what clf_softcap() wrote */
    float cap;               /**< as there */
    const clf_tensor *d_out; /**< as out */
    clf_tensor *d_x;         /**< as out; may alias out or d_out */
} clf_softcap_backward_args;

/** d_x = d_out · (1 − (out / cap)²). */
CLF_API clf_status clf_softcap_backward(clf_context *ctx, const clf_softcap_backward_args *args);

/** Arguments of clf_dropout(). */
typedef struct clf_dropout_args {
    const clf_tensor *x;        /**< [...] float */
    const clf_tensor *residual; /**< as x, added to out; NULL: none */
    float probability; /**< 0 … < 1 with which an element becomes 0, the others being ÷ (1 − probability) */
    uint64_t seed;     /**< the generator's key: one of its own for each call */
    clf_tensor *out;   /**< as x; may alias x or residual */
} clf_dropout_args;

/** Drops elements at random. Element i, counted in C order, is kept if word i % 4 of Philox4×32-10 with key (seed, seed
 * >> 32) and counter (i / 4, i / 2^34, 0, 0) is ≥ probability · 2^32. With the same seed it is its own gradient. */
CLF_API clf_status clf_dropout(clf_context *ctx, const clf_dropout_args *args);

/** Arguments of clf_argmax(). */
typedef struct clf_argmax_args {
    const clf_tensor *x; /**< [..., dim] float, dim ≥ 1 */
    clf_tensor *out;     /**< i32 [...] */
} clf_argmax_args;

/** Index of the greatest element of each row; the first of equals; the first NaN if there is one. */
CLF_API clf_status clf_argmax(clf_context *ctx, const clf_argmax_args *args);

/** Arguments of clf_sum_squares(). */
typedef struct clf_sum_squares_args {
    const clf_tensor *x; /**< [...] float */
    clf_tensor *out;     /**< F32 scalar: []; or one element of a longer tensor, as a view */
} clf_sum_squares_args;

/** out = Σ x², for norms of gradients; not finite if an element isn't. */
CLF_API clf_status clf_sum_squares(clf_context *ctx, const clf_sum_squares_args *args);

/** How weights follow their gradients. */
typedef enum clf_optimizer {
    CLF_OPTIMIZER_ADAMW, /**< arXiv:1711.05101: momentum and variance, both corrected for their start at 0 */
    CLF_OPTIMIZER_SGD,   /**< v = beta1·v + g; w −= lr·v; without a momentum tensor w −= lr·g */
    CLF_OPTIMIZER_LION   /**< arXiv:2302.06675: the sign of beta1·m + (1 − beta1)·g */
} clf_optimizer;

#define CLF_OPTIMIZER_BLOCK 256 /**< elements that share a scale in 8-bit state */

/** Arguments of clf_optimizer_step(). Tensors are contiguous. */
typedef struct clf_optimizer_step_args {
    clf_optimizer optimizer;    /**< zero is AdamW */
    clf_tensor *weight;         /**< F32 [...]: the master weights, updated */
    clf_tensor *gradient;       /**< F32 as weight: becomes 0 */
    clf_tensor *copy;           /**< F16 or BF16, as weight: receives the new weights, rounded; NULL: none */
    clf_tensor *momentum;       /**< as weight, F32, or U8 with momentum_scale; SGD: NULL for none */
    clf_tensor *variance;       /**< AdamW's, likewise with variance_scale; NULL for the others */
    clf_tensor *momentum_scale; /**< F32 [⌈elements / CLF_OPTIMIZER_BLOCK⌉]: the largest magnitude of each block */
    clf_tensor *variance_scale; /**< likewise */
    float gradient_scale;       /**< multiplies the gradient first: clipping, loss scale; 0: 1 */
    float learning_rate;        /**< taken as given, as the next four are */
    float beta1;                /**< decay of momentum */
    float beta2;                /**< AdamW: decay of variance; Lion: of momentum */
    float eps;                  /**< AdamW's */
    float weight_decay;         /**< decoupled: w ·= 1 − lr·decay, before the step */
    int64_t step;               /**< AdamW: 1 for the first; a number of its own for each */
} clf_optimizer_step_args;

/** One step over one tensor, in a single pass. U8 state holds codes of roots, as docs/ops.md says, and a float scale
 * for each block; variance is rounded by step and element. The step is taken with the values before they are rounded.
 * The caller sees to it that gradients are finite (clf_sum_squares()). */
CLF_API clf_status clf_optimizer_step(clf_context *ctx, const clf_optimizer_step_args *args);

/** Arguments of clf_ternarize(). Tensors are contiguous. */
typedef struct clf_ternarize_args {
    const clf_tensor *x; /**< F32 [...] */
    clf_tensor *out;     /**< as x, float or TQ2_0 */
} clf_ternarize_args;

/** out = γ · clip(round(x / γ), −1, 1), γ = mean|x| over all of x, rounded to f16 (BitNet b1.58, arXiv:2402.17764): so
 * TQ2_0 and F16 hold it exactly, BF16 with γ rounded again. |x| = γ/2 becomes 0. Nothing in out is finite where x isn't
 * everywhere, or its mean is beyond f16. */
CLF_API clf_status clf_ternarize(clf_context *ctx, const clf_ternarize_args *args);

/** Arguments of clf_fake_quantize(). */
typedef struct clf_fake_quantize_args {
    const clf_tensor *x; /**< [..., dim] float */
    clf_tensor *out;     /**< as x; may alias x */
} clf_fake_quantize_args;

/** Rounds each row to int8 and back: out = d · round(x / d), d = max|x| / 127 over the last dimension, to nearest even.
 * Rows below 2^−100 become 0; one that isn't finite becomes NaN. For training that is to know of the rounding: the
 * gradient is passed straight through. */
CLF_API clf_status clf_fake_quantize(clf_context *ctx, const clf_fake_quantize_args *args);

#endif
