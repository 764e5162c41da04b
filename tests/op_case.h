/* op_case.h: what one op is, told once. tests/OP.c describes inputs, call, double-precision reference, tolerance and
 * cost as an op_case; op_test.c checks every usable table against it, bench/ times it. op_run.c makes the runs. */
#ifndef CLF_TESTS_OP_CASE_H
#define CLF_TESTS_OP_CASE_H

#include <clformer/clformer.h>

enum { OP_MAX_TENSORS = 24 };

/* One tensor of a run. `value` holds doubles in C order: of an input, as rounded to its dtype; of an output, what
 * reference() wrote. */
typedef struct op_tensor {
    const char *name;
    clf_dtype dtype;
    int ndim;
    int64_t shape[CLF_MAX_DIMS];
    bool output;
    int alias;           /* output written in place of this input; -1: storage of its own */
    int repeat;          /* input that is the same along this dimension: stride 0 in the strided runs; -1: none */
    double *value;       /* op_elements() of them */
    double magnitude;    /* of an output, by reference(): rms of the terms it is summed from, where they may cancel */
    bool sampled;        /* of an output: elements that reference() left NaN are not compared, but must be numbers */
    void *blocks;        /* bytes of an input of a block dtype; NULL otherwise */
    clf_tensor *storage; /* on the device: guard band, elements (with gaps, in the strided runs), guard band */
    clf_tensor *tensor;  /* the view of it that the op is called with */
} op_tensor;

/* One run of an op: variant × dtype × seed. */
typedef struct op_run {
    clf_context *ctx;
    int variant;
    clf_dtype dtype;   /* of the activations */
    bool backward;     /* the backward function: make() declares the gradients too */
    bool tensor_cores; /* by op_test.c: the call said that it was theirs */
    bool light;        /* by make(): one placement (threads, strides), the variants taking turns, not all of them */
    uint64_t random;   /* state of op_random() */
    int n_tensors;
    op_tensor t[OP_MAX_TENSORS];
    union { /* what make() decided, for call() and reference() */
        clf_embedding_args embedding;
        clf_embedding_backward_args embedding_backward;
        clf_rms_norm_args rms_norm;
        clf_rms_norm_backward_args rms_norm_backward;
        clf_rope_args rope;
        clf_linear_args linear;
        clf_linear_backward_args linear_backward;
        clf_linear_cross_entropy_args linear_cross_entropy;
        clf_glu_args glu;
        clf_glu_backward_args glu_backward;
        clf_attention_args attention;
        clf_attention_backward_args attention_backward;
        clf_add_args add;
        clf_convert_args convert;
        clf_softcap_args softcap;
        clf_softcap_backward_args softcap_backward;
        clf_dropout_args dropout;
        clf_argmax_args argmax;
        clf_optimizer_step_args optimizer_step;
    } args;
    float host[512]; /* host arrays that args point to */
    char text[200];  /* shape and features, for the one-line reproduction */
} op_run;

typedef struct op_case {
    const char *name;
    int variants;       /* make() takes 0 … variants − 1: shapes × features, small and odd ones first */
    int bench_variants; /* the last of them are big, for bench/ only, named after models in `text` */
    uint32_t dtypes;    /* bit d: dtype d is tried as run->dtype; 0: F32, F16, BF16 */
    bool exact;         /* outputs are integers or copies: compared for equality */

    /* Declares tensors (op_input, op_output), fills run->args' scalars and run->text. Returns false where the variant
     * doesn't exist for this dtype. */
    bool (*make)(op_run *run);
    /* Points args at the tensors and calls the op. */
    clf_status (*call)(op_run *run);
    /* Outputs' `value` from the inputs' `value`, in double. */
    void (*reference)(op_run *run);
    /* Largest rms-relative error √(Σ(a−b)²/Σb²) allowed for output t, b being the reference rounded to t's dtype;
     * docs/numerics.md says why. NULL: op_tolerance(). 5e-7 of t's magnitude is allowed whatever remains of it.
     * 16-bit outputs are also held to one unit in the last place, each element, where `ulp` is set. */
    double (*tolerance)(const op_run *run, const op_tensor *t);
    bool ulp;
    double (*flops)(const op_run *run);
    double (*bytes)(const op_run *run); /* least traffic: each input read once, each output written once */

    /* What this run needs that the backend (clf_context_backend()) is known to lack, in words, or NULL. Such a run must
     * be refused with CLF_UNSUPPORTED and counts as skipped; no other may be. NULL: CPU tables have everything. */
    const char *(*lacks)(const op_run *run, const char *backend);

    /* The backward function, NULL where an op has none: called with run->backward set when make() ran. */
    clf_status (*call_backward)(op_run *run);
    void (*reference_backward)(op_run *run);
    /* The loss of a backward run, in double, from its inputs' `value`: each output d_X that stands beside an input X,
     * be that passed to the op or not, must be its slope by X; an output over an input whose name begins with "before"
     * is added to that. The reference is held to finite differences of it. NULL: the case does that elsewhere. */
    double (*loss)(op_run *run);

    /* Calls with wrong arguments: returns the number of failures after printing each (op_rejected does). NULL: none. */
    int (*rejects)(clf_context *ctx);
} op_case;

/* In make(): adds a tensor. Inputs get uniform values in [low, high), rounded to dtype; integers are whole numbers. For
 * block dtypes random valid blocks are made, |value| ≤ about `high`, and `value` is what they decode to. make() may
 * overwrite `value` of other inputs by numbers that the dtype holds. Returns its index. */
int op_input(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape, double low, double high);
int op_output(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape);
int op_output_over(op_run *run, const char *name, int input); /* in place of an input */
/* Makes an input the same along `dim`; the strided runs give it stride 0 there. */
void op_repeat(op_run *run, int input, int dim);

/* By name; NULL where make() declared none. */
op_tensor *op_find(const op_run *run, const char *name); /* to be changed where the run may be */
clf_tensor *op_device(op_run *run, const char *name);
double *op_value(op_run *run, const char *name);

int64_t op_elements(const op_tensor *t);
size_t op_bytes(const op_tensor *t);            /* of its elements, laid contiguously */
double op_traffic(const op_run *run);           /* for bytes(): inputs read once, outputs written once */
double op_random(op_run *run);                  /* uniform in [0, 1) */
int64_t op_random_int(op_run *run, int64_t n);  /* uniform in 0 … n − 1 */
double op_round(double value, clf_dtype dtype); /* to nearest even in F32, F16 or BF16 */
/* Element-wise ops: F32 1e-6, F16 1e-4, BF16 1e-3. */
double op_tolerance(const op_run *run, const op_tensor *t);
clf_status op_call(const op_case *c, op_run *run); /* the function that the run is of */

/* op_decode.c: the tests' own decoder, written from the formats, not the library's. n values of any dtype as doubles;
 * plain values as bytes; blocks with random contents and finite scales that bring |value| up to about `high`. */
void op_decode(clf_dtype dtype, const void *blocks, int64_t n, double *out);
void op_encode(clf_dtype dtype, const double *value, int64_t n, void *out);
void op_random_blocks(op_run *run, clf_dtype dtype, int64_t n, double high, void *out);
/* The same of T2 and T1, whose rows are interleaved: [n, k]. */
bool op_interleaved(clf_dtype dtype);
void op_decode_interleaved(clf_dtype dtype, const void *panels, int64_t n, int64_t k, double *out);
void op_random_interleaved(op_run *run, clf_dtype dtype, int64_t n, int64_t k, double high, void *out);

/* A run's life: begin makes the tensors (false: the variant doesn't exist), place puts them on a device, fill writes
 * inputs and NaN elsewhere, unplace takes them off it, end frees the rest. */
bool op_begin(op_run *run, const op_case *c, int variant, clf_dtype dtype, bool backward, uint64_t seed);
clf_status op_place(op_run *run, clf_context *ctx, bool strided);
clf_status op_fill(op_run *run, uint32_t poison);
void op_unplace(op_run *run);
void op_end(op_run *run);

/* op_slope.c: the gradients of reference_backward() against finite differences of the loss, in a run of dtype F64.
 * Returns the number of failures after printing; adds those that are right to *passed. */
int op_check_slopes(const op_case *c, int variant, uint64_t seed, int *passed);

/* For rejects(): tensors as the list says; false, with none made, if that fails. */
bool op_make(clf_context *ctx, const clf_tensor_args *list, int n, clf_tensor **out);
void op_unmake(clf_tensor **t, int n);
/* Whether a call was refused with `expected` and a message that holds `part`. Returns the number of failures, 0 or 1,
 * after printing. */
int op_rejected(clf_context *ctx, clf_status got, clf_status expected, const char *part);
/* Calls clf_OP with `good` changed by the statements that follow `part`; adds to `failures`. */
#define OP_REJECT(op, expected, part, ...)                                                                             \
    do {                                                                                                               \
        clf_##op##_args a = good;                                                                                      \
        __VA_ARGS__;                                                                                                   \
        failures += op_rejected(ctx, clf_##op(ctx, &a), expected, part);                                               \
    } while (0)

/* Runs a case over every usable device, or those of --device. Flags: --device D (repeatable), --dtype T, --variant N,
 * --like N (those whose tensors have the dtypes of variant N's), --forward, --backward, --seed N, --most-cost C
 * (variants of more bytes and operations are left out), --list, --verbose. The last line is "N passed, N failed, N
 * skipped". Returns the exit code: 0, 1 if anything failed, 77 if nothing but skips ran, 2 for
 * wrong flags. */
int op_main(int argc, char **argv, const op_case *c);

#endif
