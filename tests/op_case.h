/* op_case.h: what one op is, told once. tests/OP.c describes inputs, call, double-precision reference, tolerance and
 * cost as an op_case; op_test.c checks every usable table against it, bench/ times it. */
#ifndef CLF_TESTS_OP_CASE_H
#define CLF_TESTS_OP_CASE_H

#include <clformer/clformer.h>

enum { OP_MAX_TENSORS = 16 };

/* One tensor of a run. `value` holds doubles in C order: of an input, as rounded to its dtype; of an output, what
 * reference() wrote. */
typedef struct op_tensor {
    const char *name;
    clf_dtype dtype;
    int ndim;
    int64_t shape[CLF_MAX_DIMS];
    bool output;
    int alias;          /* output written in place of this input; -1: storage of its own */
    double *value;      /* op_elements() of them */
    clf_tensor *tensor; /* on the device, made by the runner, with guard bands and, in some runs, padded strides */
} op_tensor;

/* One run of an op: variant × dtype × seed. */
typedef struct op_run {
    clf_context *ctx;
    int variant;
    clf_dtype dtype; /* of the activations */
    uint64_t random; /* state of op_random() */
    int n_tensors;
    op_tensor t[OP_MAX_TENSORS];
    union { /* what make() decided, for call() and reference() */
        clf_embedding_args embedding;
        clf_rms_norm_args rms_norm;
        clf_rope_args rope;
        clf_linear_args linear;
        clf_glu_args glu;
        clf_attention_args attention;
        clf_add_args add;
        clf_convert_args convert;
        clf_softcap_args softcap;
        clf_argmax_args argmax;
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
    /* Largest rms-relative error √(Σ(a−b)²/Σb²) allowed for output t; docs/numerics.md says why. Element-wise 16-bit
     * outputs are also held to one unit in the last place where `ulp` is set. */
    double (*tolerance)(const op_run *run, const op_tensor *t);
    bool ulp;
    double (*flops)(const op_run *run);
    double (*bytes)(const op_run *run); /* least traffic: each input read once, each output written once */

    /* For backward functions, NULL where an op has none: the same shape, with gradients as further tensors. */
    clf_status (*call_backward)(op_run *run);
    void (*reference_backward)(op_run *run);

    /* Calls with wrong arguments: returns the number of failures after printing each. NULL: none. */
    int (*rejects)(clf_context *ctx);
} op_case;

/* In make(): adds a tensor. Inputs get uniform values in [low, high), rounded to dtype; integers are whole numbers. For
 * block dtypes random valid blocks are made and `value` is what they decode to. Returns its index. */
int op_input(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape, double low, double high);
int op_output(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape);
int op_output_over(op_run *run, const char *name, int input); /* in place of an input */

int64_t op_elements(const op_tensor *t);
double op_random(op_run *run);                  /* uniform in [0, 1) */
int64_t op_random_int(op_run *run, int64_t n);  /* uniform in 0 … n − 1 */
double op_round(double value, clf_dtype dtype); /* to nearest even in F32, F16 or BF16 */
/* Decodes n values of any dtype into doubles: the tests' own decoder, written from the format, not the library's. */
void op_decode(clf_dtype dtype, const void *blocks, int64_t n, double *out);

/* Runs a case over every usable device, or those of --device; returns the exit code. Flags: --device D (repeatable),
 * --dtype T,
 * --variant N, --seed N, --list, --verbose. The last line is "N passed, N failed, N skipped". */
int op_main(int argc, char **argv, const op_case *c);

#endif
