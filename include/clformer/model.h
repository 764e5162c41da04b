/** @file model.h
 *  Models, tokenizers, sessions, sampling: text from a transformer.
 *
 *  A model is weights with their configuration and tokenizer, read from a GGUF file or a Hugging Face folder; it
 * spreads over one or more contexts. A session is one sequence being read and written: its KV cache and position.
 * Several sessions may share a model, on one thread at a time. */
#ifndef CLFORMER_MODEL_H
#define CLFORMER_MODEL_H

#include "base.h"
#include "context.h"

typedef struct clf_tokenizer clf_tokenizer;     /**< text to ids and back; immutable, so threads may share it */
typedef struct clf_detokenizer clf_detokenizer; /**< a stream of ids to text */
typedef struct clf_model clf_model;             /**< weights, configuration, tokenizer */
typedef struct clf_session clf_session;         /**< one sequence */
typedef struct clf_sampler clf_sampler;         /**< from logits to the next token */

/** @name Tokenizers
 *  @{ */

/** Arguments of clf_tokenizer_create(). */
typedef struct clf_tokenizer_args {
    const char *path;  /**< a GGUF file, a folder with tokenizer.json or tokenizer.model, or either file */
    char *error;       /**< receives the message on failure; may be NULL */
    size_t error_size; /**< bytes at `error` */
} clf_tokenizer_args;

/** Reads a tokenizer alone: byte-level and SentencePiece BPE, unigram. Beside a tokenizer.json or tokenizer.model,
 * tokenizer_config.json, special_tokens_map.json, generation_config.json and chat_template.jinja are read where they
 * are. @return CLF_NOT_FOUND, CLF_IO_ERROR, CLF_BAD_FILE, CLF_UNSUPPORTED (a kind or a part that it doesn't know, named
 * in the message), CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_tokenizer_create(clf_tokenizer **out, const clf_tokenizer_args *args);
/** Not for a tokenizer that belongs to a model. NULL is accepted. */
CLF_API void clf_tokenizer_destroy(clf_tokenizer *tokenizer);

/** What clf_tokenize() does besides splitting text. Flags. */
typedef enum clf_tokenize_flags {
    CLF_TOKENIZE_PLAIN = 0,       /**< text only: "<s>" in it is three characters */
    CLF_TOKENIZE_ADD_SPECIAL = 1, /**< begin-of-sequence and the like, as the model wants them */
    CLF_TOKENIZE_PARSE_SPECIAL =
        2 /**< special tokens spelled in the text become those tokens: never for untrusted text */
} clf_tokenize_flags;

/** Writes the ids of `length` bytes of UTF-8 `text` to `ids` (at most `capacity`) and their full number to `*count`.
 * What isn't UTF-8 becomes byte tokens, which give it back when decoded; U+FFFD where the tokenizer has no token for
 * every byte. `ids` may be NULL with capacity 0, to ask for the number.
 *
 * A tokenizer is shared by threads and so has no place for a message; the status says all there is to say.
 *  @return CLF_FULL if there are more than `capacity` (the first ones are written), CLF_INVALID_ARGUMENT for NULL,
 * unknown flags or more than 2^31 bytes, CLF_UNSUPPORTED if a pattern of the tokenizer's file needs more than ten
 * million steps on this text, CLF_OUT_OF_MEMORY; `*count` is 0 then */
CLF_API clf_status clf_tokenize(const clf_tokenizer *tokenizer, const char *text, size_t length, int flags,
                                int32_t *ids, size_t capacity, size_t *count);
/** Writes the text of `n` ids, at most `size` − 1 bytes and a terminating 0, and its full length to `*length`. With
 * `special` special tokens are spelled out, otherwise left out. @return CLF_FULL if it doesn't fit,
 * CLF_INVALID_ARGUMENT for an id out of range */
CLF_API clf_status clf_detokenize(const clf_tokenizer *tokenizer, const int32_t *ids, size_t n, bool special,
                                  char *text, size_t size, size_t *length);
CLF_API int32_t clf_tokenizer_size(const clf_tokenizer *tokenizer); /**< number of ids */
CLF_API int32_t clf_tokenizer_bos(const clf_tokenizer *tokenizer);  /**< begin-of-sequence id, or -1 */
CLF_API int32_t clf_tokenizer_eos(const clf_tokenizer *tokenizer);  /**< end-of-sequence id, or -1 */
/** Whether `id` ends a generation: end of sequence, end of turn and their kin. */
CLF_API bool clf_tokenizer_is_end(const clf_tokenizer *tokenizer, int32_t id);
/** Spelling of one token as the vocabulary has it ("Ġthe"), or NULL if out of range. */
CLF_API const char *clf_tokenizer_piece(const clf_tokenizer *tokenizer, int32_t id);
/** Id spelled `piece`, or -1. */
CLF_API int32_t clf_tokenizer_find(const clf_tokenizer *tokenizer, const char *piece);

/** Starts a stream. With `special` special tokens are spelled out. */
CLF_API clf_status clf_detokenizer_create(clf_detokenizer **out, const clf_tokenizer *tokenizer, bool special);
CLF_API void clf_detokenizer_destroy(clf_detokenizer *d); /**< NULL is accepted */
/** Takes one id; `*text` (valid until the next call) is what may be shown now: complete UTF-8, possibly empty. */
CLF_API clf_status clf_detokenizer_push(clf_detokenizer *d, int32_t id, const char **text, size_t *length);
/** Ends the stream: the incomplete rest, with U+FFFD for what isn't UTF-8. The next push begins another stream. */
CLF_API clf_status clf_detokenizer_finish(clf_detokenizer *d, const char **text, size_t *length);

/** One message of a conversation. */
typedef struct clf_chat_message {
    const char *role;    /**< "system", "user" or "assistant" */
    const char *content; /**< UTF-8 */
} clf_chat_message;

/** Tokenizes a conversation with the model's chat template, recognised among the known families (llama2, llama3,
 * mistral, chatml, gemma, phi3, zephyr) and their variants; the template itself is never run. Contents are plain text:
 * special tokens spelled in them are not parsed. With `reply` the ids end where the assistant begins to speak. The ids
 * are all there are: begin-of-sequence is among them where the template says so. LLaMA 3.1's template tells the model a
 * date, which is the template's own: 26 July 2024. Capacity as in clf_tokenize().
 *
 * Roles and orders: llama3, chatml, zephyr and phi3 take any; llama2, mistral and gemma take user and assistant in
 * turn, the user first, after a system message where the template has a place for one (the first templates of Mistral,
 * Gemma and Phi-3 have none).
 *  @return CLF_UNSUPPORTED if the template is of no known family or there is none, CLF_INVALID_ARGUMENT for NULL, no
 * message, or a role or order that the template doesn't take; otherwise as clf_tokenize() */
CLF_API clf_status clf_tokenize_chat(const clf_tokenizer *tokenizer, const clf_chat_message *messages, size_t n,
                                     bool reply, int32_t *ids, size_t capacity, size_t *count);
/** "llama3", "chatml" …; NULL if there is no template or it isn't recognised. */
CLF_API const char *clf_tokenizer_chat_family(const clf_tokenizer *tokenizer);

/** @} @name Models
 *  @{ */

/** Arguments of clf_model_load(). */
typedef struct clf_model_args {
    const char *path; /**< GGUF file (the first shard of several), or a Hugging Face folder */
    const void *data; /**< instead of `path`: a GGUF file in memory, which must outlive the model */
    size_t data_size; /**< bytes at `data` */
    bool mmap;        /**< map the file: fast, and weights are used in place on the CPU; but a file that another process
                           truncates meanwhile kills this one (SIGBUS). false: read it into memory, checked */
    clf_context *const *contexts; /**< where layers go, in this order: as many as fit the first one's memory limit, and
                                     so on; the last one takes the rest */
    int n_contexts;               /**< at least 1 */
    const int *layers;            /**< [n_contexts] most layers for each; NULL: as many as fit */
    int64_t context_length;       /**< KV cache to leave room for when layers are placed; 0: 2048 or what the model was
                                     trained for, if less */
    clf_dtype quantize;  /**< CLF_NF4: matrices of the blocks that are of a float dtype, and whose rows are whole
                            blocks of 64, become NF4 with double quantisation (arXiv:2305.14314); zero: nothing */
    bool keep_layout;    /**< false: TQ1_0, TQ2_0 and Q2_0 matrices of the blocks are repacked without loss to what the
                            context's table is fastest with (T1 or T2), where there is such a layout and they fit it.
                            true: weights stay as the file has them, which training needs; a file of T1 or T2
                            is refused */
    const char *adapter; /**< LoRA: a PEFT folder (with modules_to_save for embedding and output matrix, or without) or
                            a GGUF adapter; NULL: none */
    void (*progress)(void *user, double share); /**< called with 0 … 1 while loading; NULL: not */
    void *progress_user;                        /**< passed to `progress` */
} clf_model_args;

/** Loads a model. Messages are in clf_error_message(contexts[0]).
 *  @return CLF_NOT_FOUND, CLF_IO_ERROR, CLF_BAD_FILE, CLF_UNSUPPORTED (architecture, dtype), CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_model_load(clf_model **out, const clf_model_args *args);
/** Sessions of the model must be destroyed before. NULL is accepted. */
CLF_API void clf_model_destroy(clf_model *model);

/** Arguments of clf_model_save(). */
typedef struct clf_model_save_args {
    const char *path;  /**< NAME.gguf: a GGUF file; any other name: a Hugging Face folder. Either becomes the other */
    const char *dtype; /**< "f32", "f16" or "bf16" for all weights (vectors of a GGUF stay F32); NULL: each as the file
                            had it that the model was loaded from, but in a GGUF ternary matrices of a training as
                            TQ2_0. "nf4", folders only: matrices of layers as 4-bit NormalFloat with double
                            quantisation, in bitsandbytes' tensors, the rest as the file had it, of a GGUF in
                            one dtype: the embedding's, or F32 */
} clf_model_save_args;

/** Writes the model as it is now: its weights, and the adapter it carries merged into them, W + scale · B · A, in F32
 * and then rounded once, some rows at a time. Keys of a GGUF, configuration and tokenizer files of a folder are those
 * of the files that the model was loaded from, which must still be there. A folder made of a GGUF has config.json,
 * tokenizer.json and tokenizer_config.json; the latter two are missing where tokenizer.json can't say how the tokenizer
 * cuts texts (unigram models, SentencePiece's whose pieces' scores are equal, tokens that aren't UTF-8): a line of the
 * log says so and why, CLF_LOG_WARNING.
 *
 * All is written under another name first and renamed. A folder at `path` is replaced if it holds nothing but such
 * files as are written here. Messages are in clf_error_message() of the model's first context.
 *  @return CLF_UNSUPPORTED for weights of a block dtype that were trained or are adapted (or that the format doesn't
 * have), unless `dtype` is given, for rows that aren't whole blocks of nf4, for a
 * folder with a tokenizer that GGUF has no keys for, and for a GGUF that config.json can't describe; CLF_NOT_FINITE for
 * an infinity or NaN, naming the tensor; CLF_INVALID_ARGUMENT for wrong arguments and a folder that holds other files;
 * CLF_NOT_FOUND, CLF_IO_ERROR, CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_model_save(const clf_model *model, const clf_model_save_args *args);

/** Arguments of clf_model_save_adapter(). */
typedef struct clf_adapter_save_args {
    const char *path;       /**< NAME.gguf: a GGUF adapter, as llama.cpp reads it; any other name: a PEFT folder */
    const char *base_model; /**< PEFT's base_model_name_or_path: the base's folder or its name on a hub; NULL: null */
} clf_adapter_save_args;

/** Writes the LoRA adapter that the model carries, A and B in F32, for either format's base, whatever the model was
 * loaded from: rows of queries and keys are put into the order that the format has them in, parts of fused matrices
 * (Phi 3) become one again. Temporary names as in clf_model_save().
 *
 * PEFT takes alpha = scale · r, with patterns where matrices differ. GGUF has one alpha: what a matrix differs by goes
 * into its B. Embedding and output matrix that were trained as a whole are PEFT's modules_to_save; a tied one is there
 * twice, as PEFT has it. GGUF has no place for them: CLF_UNSUPPORTED.
 *  @return CLF_INVALID_ARGUMENT if the model has no adapter, for wrong arguments, and a folder that holds other files;
 * CLF_NOT_FINITE for an infinity or NaN, naming the tensor; CLF_NOT_FOUND, CLF_IO_ERROR, CLF_OUT_OF_MEMORY */
CLF_API clf_status clf_model_save_adapter(const clf_model *model, const clf_adapter_save_args *args);

/** What a model is. */
typedef struct clf_model_info {
    char architecture[32];   /**< "llama", "qwen2" … */
    char name[96];           /**< as the file says; may be empty */
    char format[16];         /**< "gguf" or "safetensors" */
    int64_t parameters;      /**< weights */
    uint64_t weight_bytes;   /**< as stored */
    int32_t vocab_size;      /**< rows of the embedding */
    int64_t trained_context; /**< positions it was trained for */
    int32_t n_layers;        /**< blocks */
    int32_t hidden_size;     /**< width */
    int32_t ffn_size;        /**< width inside the gated unit */
    int32_t n_heads;         /**< query heads */
    int32_t n_kv_heads;      /**< key and value heads */
    int32_t head_dim;        /**< width of a query and key head */
    int64_t window;          /**< sliding window of the layers that have one; 0: none */
    clf_dtype weight_dtype;  /**< of most weights */
    int32_t layers_on[8];    /**< layers on each context */
} clf_model_info;

CLF_API clf_status clf_model_get_info(const clf_model *model, clf_model_info *out); /**< fills `out` */
CLF_API const clf_tokenizer *
clf_model_tokenizer(const clf_model *model); /**< the model's own; NULL if its files have none */

/** Memory that a model takes, before it is loaded. All bytes. */
typedef struct clf_model_estimate {
    uint64_t weights;     /**< copied to the device, or mapped */
    uint64_t kv_cache;    /**< of one session */
    uint64_t activations; /**< between ops, largest chunk */
    uint64_t scratch;     /**< inside ops */
} clf_model_estimate;

/** Arguments of clf_estimate_model(). */
typedef struct clf_model_estimate_args {
    const char *path;       /**< as in clf_model_args */
    int64_t context_length; /**< positions of the session; 0: as clf_session_create() */
    clf_dtype kv_dtype;     /**< of the KV cache */
    clf_dtype compute;      /**< as in clf_session_args */
    int64_t chunk;          /**< as in clf_session_args */
    int threads;            /**< scratch is per thread; 0: 1 */
    clf_dtype quantize;     /**< as in clf_model_args */
    bool keep_layout;       /**< as in clf_model_args; false: repacked as this machine's best CPU table wants them */
    char *error;            /**< receives the message on failure; may be NULL */
    size_t error_size;      /**< bytes at `error` */
} clf_model_estimate_args;

/** Reads the file's description only. @return as clf_model_load() */
CLF_API clf_status clf_estimate_model(clf_model_estimate *out, clf_model_info *info,
                                      const clf_model_estimate_args *args);

/** Shape of a decoder's attention layer: projections, rotation, KV cache, attention, output projection. */
typedef struct clf_attention_layer_memory_args {
    int64_t hidden_size;    /**< width of its input and output */
    int64_t n_heads;        /**< query heads */
    int64_t n_kv_heads;     /**< key and value heads */
    int64_t head_dim;       /**< width of queries and keys */
    int64_t v_dim;          /**< width of values; 0: head_dim */
    int64_t tokens;         /**< evaluated at once */
    int64_t context_length; /**< positions in the KV cache, the tokens' included */
    clf_dtype weight_dtype; /**< of the four projections */
    clf_dtype kv_dtype;     /**< of the KV cache */
    int threads;            /**< scratch is per thread; 0: 1 */
} clf_attention_layer_memory_args;

/** Memory of one attention layer beyond its weights, its input and its output, on a CPU table. All bytes. */
typedef struct clf_attention_layer_bytes {
    uint64_t kv_cache;      /**< keys and values of the context */
    uint64_t activations;   /**< queries, keys, values, attention's output: F32 */
    uint64_t scratch;       /**< the most that one op inside it takes */
    uint64_t naive_scratch; /**< the same if attention stored scores and probabilities, F32 */
} clf_attention_layer_bytes;

/** States what an attention layer takes. @return CLF_INVALID_ARGUMENT as clf_attention_memory(), and for a negative
 * hidden_size or context_length < tokens */
CLF_API clf_status clf_attention_layer_memory(clf_attention_layer_bytes *out,
                                              const clf_attention_layer_memory_args *args);

/** @} @name Sessions
 *  @{ */

/** Arguments of clf_session_create(). */
typedef struct clf_session_args {
    clf_model *model;       /**< must outlive the session */
    int64_t context_length; /**< positions in the KV cache; 0: the trained context, 4096 at most */
    /** CLF_F32, CLF_F16, CLF_BF16, or, for heads of a multiple of 32 (CLF_UNSUPPORTED otherwise), CLF_Q8_0 or CLF_Q4_0:
     * keys and values are rounded as they are appended, and keys once more when an eviction moves them */
    clf_dtype kv_dtype;
    clf_dtype compute; /**< of what flows between ops: CLF_F32 (zero); CLF_F16 and CLF_BF16 halve its memory and
                            are what tensor cores take, each op rounding its result once. Logits are F32 */
    int64_t chunk;     /**< most tokens evaluated at once; 0: 512 */
    bool evict;        /**< when the cache is full, forget the oldest after `keep`; false: CLF_FULL */
    int64_t keep;      /**< first positions never evicted (attention sinks), fewer than context_length */
} clf_session_args;

/** Creates an empty session. Messages of all session calls are in clf_error_message() of the model's first context. */
CLF_API clf_status clf_session_create(clf_session **out, const clf_session_args *args);
CLF_API void clf_session_destroy(clf_session *session); /**< NULL is accepted */
/** Which logits clf_session_eval() gives. */
typedef enum clf_logits {
    CLF_LOGITS_NONE /**< none */,
    CLF_LOGITS_LAST /**< [vocab] */,
    CLF_LOGITS_ALL /**< [n, vocab] */
} clf_logits;
/** Appends `n` tokens and writes float logits to host memory as `which` says. On failure the session is as before, but
 * for what was evicted to make room.
 *
 * Eviction drops at least half of what may be dropped at once, so that it is rare. Positions count from the start of
 * the cache: the younger keys turn back by as many positions as were dropped (attention sinks, arXiv:2309.17453).
 *  @return CLF_FULL if the cache has no room and doesn't evict, CLF_INVALID_ARGUMENT for an id out of range */
CLF_API clf_status clf_session_eval(clf_session *session, const int32_t *ids, int64_t n, clf_logits which,
                                    float *logits);
CLF_API int64_t clf_session_position(const clf_session *session); /**< tokens appended so far, evicted ones included */
CLF_API int64_t clf_session_capacity(const clf_session *session); /**< positions in the cache */
/** Forgets all but the first `position` tokens. @return CLF_INVALID_ARGUMENT if it isn't in 0 … position, or was
 * evicted */
CLF_API clf_status clf_session_rewind(clf_session *session, int64_t position);
CLF_API clf_status clf_session_clear(clf_session *session); /**< as rewinding to 0, always possible */
/** A second session with the same contents, which then goes its own way. */
CLF_API clf_status clf_session_fork(clf_session **out, const clf_session *session);
/** Writes the session to a file, under a temporary name first, then renamed. The file holds a checksum and the model's
 * fingerprint: sizes, norms, the beginnings of its matrices, the adapter. */
CLF_API clf_status clf_session_save(const clf_session *session, const char *path);
/** Replaces the session's contents by a file's. @return CLF_BAD_FILE if it is damaged or of another model, CLF_FULL if
 * it holds more tokens than fit, CLF_INVALID_ARGUMENT if its kv_dtype or, after eviction, `keep` differs; the session
 * is then as before */
CLF_API clf_status clf_session_load(clf_session *session, const char *path);

/** Arguments of clf_sampler_create(). The filters apply in the order of the fields. */
typedef struct clf_sampler_args {
    const int32_t *bias_ids;  /**< [n_bias] tokens whose logits are shifted */
    const float *bias;        /**< [n_bias] by this; −INFINITY forbids */
    size_t n_bias;            /**< 0: none */
    float repetition_penalty; /**< positive logits of recent tokens ÷, negative × it; 0: 1 */
    float presence_penalty;   /**< subtracted once for tokens that occurred */
    float frequency_penalty;  /**< subtracted for each occurrence */
    int penalty_window;       /**< how many recent tokens count; 0: 64 */
    int top_k;                /**< keep the k greatest; 0: all */
    float top_p;              /**< keep the smallest set with this probability; 0: 1 */
    float min_p;              /**< drop what is less likely than min_p × the likeliest */
    float temperature;        /**< 0: greedy */
    uint64_t seed;            /**< same seed, same choices (xoshiro256**, seeded by splitmix64) */
} clf_sampler_args;

/** Creates a sampler; NULL args: greedy. @return CLF_INVALID_ARGUMENT for values out of range */
CLF_API clf_status clf_sampler_create(clf_sampler **out, const clf_sampler_args *args);
CLF_API void clf_sampler_destroy(clf_sampler *sampler); /**< NULL is accepted */
/** Chooses from `n` logits, which it may change, and remembers the choice for the penalties.
 *  @return CLF_INVALID_ARGUMENT if a logit is NaN or all are −inf */
CLF_API clf_status clf_sampler_next(clf_sampler *sampler, float *logits, int32_t n, int32_t *id);
/** Counts a token that wasn't chosen here (the prompt's) for the penalties. */
CLF_API void clf_sampler_accept(clf_sampler *sampler, int32_t id);

/** Why clf_generate() ended. */
typedef enum clf_stop_reason {
    CLF_STOP_LENGTH,  /**< `tokens` were made */
    CLF_STOP_END,     /**< the model ended its text */
    CLF_STOP_STRING,  /**< a stop string appeared */
    CLF_STOP_FULL,    /**< the cache is full */
    CLF_STOP_CALLBACK /**< the callback said so */
} clf_stop_reason;

/** Arguments of clf_generate(). */
typedef struct clf_generate_args {
    const int32_t
        *prompt;          /**< [n_prompt], appended first; n_prompt 0 goes on from the last eval, which must be there */
    int64_t n_prompt;     /**< tokens of the prompt */
    int64_t tokens;       /**< most tokens to make; 0: until the end */
    clf_sampler *sampler; /**< NULL: greedy */
    const char *const *stop; /**< [n_stop] strings that end the text and aren't part of it */
    size_t n_stop;           /**< how many */
    bool ignore_end;         /**< go on after the model's end token */
    /** Receives what may be shown now (UTF-8, not terminated, perhaps nothing) for each token; id -1: the rest, at the
     * end. false stops. May be NULL. */
    bool (*text)(void *user, const char *text, size_t length, int32_t id);
    void *user; /**< passed to `text` */
} clf_generate_args;

/** What clf_generate() did. */
typedef struct clf_generate_result {
    int64_t tokens;         /**< tokens made */
    clf_stop_reason reason; /**< why it ended */
    double prompt_seconds;  /**< for the prompt */
    double seconds;         /**< for the rest */
} clf_generate_result;

/** Generates text. Every token made is appended to the session, so that a call with n_prompt 0 goes on from there; the
 * model's end token is neither made nor appended. Text that may be the beginning of a stop string is held back until it
 * is known. If the prompt fails the session is as before; a later failure leaves what was made, `result` says how much.
 * `result` may be NULL. @return as clf_session_eval() and clf_sampler_next() */
CLF_API clf_status clf_generate(clf_session *session, const clf_generate_args *args, clf_generate_result *result);

/** @} */

#endif
