/* op_run.c: one run of an op_case: its tensors, their values, their places on a device.
 *
 * A tensor lies inside a larger storage, between guard bands. Strided runs put the dimensions (but the last) in reverse
 * order, with gaps after each row and each outer step: in variants of even number of 3 elements, starting at an odd
 * one; in the others in steps of 8, as kernels that copy whole vectors ask for. Everything that isn't an input's
 * element is poison: bytes that are NaN in every float dtype, so that what is read and shouldn't be spoils the result,
 * and what isn't written and should be is found. Interleaved rows (T2, T1) lie between guard panels,
 * never strided. */
#include "op_case.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 */
static uint64_t next(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double op_random(op_run *run) {
    return (double)(next(&run->random) >> 11) * 0x1p-53;
}

int64_t op_random_int(op_run *run, int64_t n) {
    return (int64_t)(op_random(run) * (double)n);
}

static void *allocate(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

int64_t op_elements(const op_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}

static size_t bytes_of(clf_dtype dtype, int64_t n) {
    return (size_t)(n / clf_dtype_block_values(dtype)) * clf_dtype_block_bytes(dtype);
}

size_t op_bytes(const op_tensor *t) {
    return bytes_of(t->dtype, op_elements(t));
}

double op_traffic(const op_run *run) {
    double bytes = 0;
    for (int i = 0; i < run->n_tensors; i++) bytes += (double)op_bytes(&run->t[i]);
    return bytes;
}

double op_tolerance(const op_run *run, const op_tensor *t) {
    (void)run;
    return t->dtype == CLF_F16 ? 1e-4 : t->dtype == CLF_BF16 ? 1e-3 : 1e-6;
}

clf_status op_call(const op_case *c, op_run *run) {
    return run->backward ? c->call_backward(run) : c->call(run);
}

static bool is_float(clf_dtype dtype) {
    return dtype == CLF_F32 || dtype == CLF_F16 || dtype == CLF_BF16 || dtype == CLF_F64;
}

static int declare(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape) {
    if (run->n_tensors == OP_MAX_TENSORS) {
        fprintf(stderr, "more than %d tensors\n", OP_MAX_TENSORS);
        exit(1);
    }
    op_tensor *t = &run->t[run->n_tensors];
    *t = (op_tensor){.name = name, .dtype = dtype, .ndim = ndim, .alias = -1, .repeat = -1};
    for (int i = 0; i < ndim; i++) t->shape[i] = shape[i];
    t->value = allocate((size_t)op_elements(t), sizeof *t->value);
    return run->n_tensors++;
}

int op_input(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape, double low, double high) {
    const int index = declare(run, name, dtype, ndim, shape);
    op_tensor *t = &run->t[index];
    const int64_t n = op_elements(t);
    if (clf_dtype_block_values(dtype) > 1) {
        t->blocks = allocate(op_bytes(t), 1);
        if (op_interleaved(dtype)) {
            op_random_interleaved(run, dtype, shape[0], shape[1], high, t->blocks);
            op_decode_interleaved(dtype, t->blocks, shape[0], shape[1], t->value);
        } else {
            op_random_blocks(run, dtype, n, high, t->blocks);
            op_decode(dtype, t->blocks, n, t->value);
        }
        return index;
    }
    for (int64_t i = 0; i < n; i++) {
        const double v = low + (high - low) * op_random(run);
        t->value[i] = is_float(dtype) ? op_round(v, dtype) : floor(v);
    }
    return index;
}

int op_output(op_run *run, const char *name, clf_dtype dtype, int ndim, const int64_t *shape) {
    const int index = declare(run, name, dtype, ndim, shape);
    run->t[index].output = true;
    return index;
}

int op_output_over(op_run *run, const char *name, int input) {
    const int index = op_output(run, name, run->t[input].dtype, run->t[input].ndim, run->t[input].shape);
    run->t[index].alias = input;
    return index;
}

void op_repeat(op_run *run, int input, int dim) {
    op_tensor *t = &run->t[input];
    int64_t inner = 1;
    for (int i = dim + 1; i < t->ndim; i++) inner *= t->shape[i];
    const int64_t period = inner * t->shape[dim];
    for (int64_t i = 0; i < op_elements(t); i++) t->value[i] = t->value[i / period * period + i % inner];
    t->repeat = dim;
}

op_tensor *op_find(const op_run *run, const char *name) {
    for (int i = 0; i < run->n_tensors; i++)
        if (!strcmp(run->t[i].name, name))
            return (op_tensor *)(uintptr_t)&run->t[i]; /* as const as its run is to the caller */
    return NULL;
}
clf_tensor *op_device(op_run *run, const char *name) {
    const op_tensor *t = op_find(run, name);
    return t ? t->tensor : NULL;
}
double *op_value(op_run *run, const char *name) {
    const op_tensor *t = op_find(run, name);
    return t ? t->value : NULL;
}

bool op_begin(op_run *run, const op_case *c, int variant, clf_dtype dtype, bool backward, uint64_t seed) {
    *run = (op_run){.variant = variant, .dtype = dtype, .backward = backward};
    run->random = seed + ((uint64_t)variant << 32) + ((uint64_t)dtype << 16);
    return c->make(run);
}

void op_end(op_run *run) {
    for (int i = 0; i < run->n_tensors; i++) {
        free(run->t[i].value);
        free(run->t[i].blocks);
    }
    run->n_tensors = 0;
}

/* Strides of a placement with gaps of `gap` elements (0: contiguous); returns the elements from the first to one past
 * the last. */
static int64_t lay_out(const op_tensor *t, int64_t gap, int64_t *stride) {
    const bool strided = gap != 0;
    int64_t reach = t->ndim ? t->shape[t->ndim - 1] : 1;
    if (t->ndim) stride[t->ndim - 1] = 1;
    for (int i = 0; i + 1 < t->ndim; i++) {
        const int dim = strided ? i : t->ndim - 2 - i;
        reach += t->ndim > 1 ? gap : 0;
        stride[dim] = strided && t->repeat == dim ? 0 : reach;
        if (stride[dim]) reach *= t->shape[dim];
    }
    return reach;
}

clf_status op_place(op_run *run, clf_context *ctx, bool strided) {
    run->ctx = ctx;
    for (int i = 0; i < run->n_tensors; i++) {
        op_tensor *t = &run->t[i];
        if (t->alias >= 0) {
            t->tensor = run->t[t->alias].tensor;
            continue;
        }
        if (op_interleaved(t->dtype)) { /* nothing but whole panels */
            const clf_tensor_args all = {.dtype = t->dtype, .ndim = 2, .shape = {t->shape[0] + 32, t->shape[1]}};
            clf_status st = clf_tensor_create(&t->storage, ctx, &all);
            if (st == CLF_OK) st = clf_tensor_view(&t->tensor, t->storage, 2, t->shape, NULL, 16 * t->shape[1]);
            if (st != CLF_OK) return st;
            continue;
        }
        const int values = clf_dtype_block_values(t->dtype);
        const bool odd = run->variant % 2 == 0;
        const int64_t guard = strided ? (odd ? 17 : 24) * values : 64 * values;
        const int64_t gap = strided ? (values > 1 ? values : odd ? 3 : 8) : 0;
        int64_t stride[CLF_MAX_DIMS];
        const int64_t reach = lay_out(t, gap, stride);
        clf_status st = clf_tensor_create(
            &t->storage, ctx, &(clf_tensor_args){.dtype = t->dtype, .ndim = 1, .shape = {reach + 2 * guard}});
        if (st == CLF_OK) st = clf_tensor_view(&t->tensor, t->storage, t->ndim, t->shape, stride, guard);
        if (st != CLF_OK) return st;
    }
    return CLF_OK;
}

clf_status op_fill(op_run *run, uint32_t poison) {
    clf_status st = CLF_OK;
    for (int i = 0; i < run->n_tensors && st == CLF_OK; i++) {
        const op_tensor *t = &run->t[i];
        if (t->alias >= 0) continue;
        const size_t all = clf_tensor_bytes(t->storage), bytes = op_bytes(t);
        uint8_t *data = allocate(all > bytes ? all : bytes, 1); /* a repeated input has more elements than storage */
        for (size_t b = 0; b < all; b++) data[b] = (uint8_t)(poison >> b % 4 * 8);
        st = clf_tensor_write(t->storage, data, all);
        if (st == CLF_OK && !t->output) {
            if (!t->blocks) op_encode(t->dtype, t->value, op_elements(t), data);
            st = clf_tensor_write(t->tensor, t->blocks ? t->blocks : data, bytes);
        }
        free(data);
    }
    return st;
}

void op_unplace(op_run *run) {
    for (int i = 0; i < run->n_tensors; i++) {
        op_tensor *t = &run->t[i];
        if (t->alias < 0) {
            clf_tensor_destroy(t->tensor);
            clf_tensor_destroy(t->storage);
        }
        t->tensor = t->storage = NULL;
    }
}

int op_rejected(clf_context *ctx, clf_status got, clf_status expected, const char *part) {
    const char *message = clf_error_message(ctx);
    if (got == expected && strstr(message, part)) return 0;
    printf("FAIL rejects (%s): expected '%s' about \"%s\", got '%s': \"%s\"\n", clf_context_backend(ctx),
           clf_status_string(expected), part, clf_status_string(got), message);
    return 1;
}

bool op_make(clf_context *ctx, const clf_tensor_args *list, int n, clf_tensor **out) {
    for (int i = 0; i < n; i++)
        if (clf_tensor_create(&out[i], ctx, &list[i]) != CLF_OK) {
            printf("FAIL rejects (%s): tensor %d: %s\n", clf_context_backend(ctx), i, clf_error_message(ctx));
            op_unmake(out, i);
            return false;
        }
    return true;
}

void op_unmake(clf_tensor **t, int n) {
    for (int i = 0; i < n; i++) clf_tensor_destroy(t[i]);
}
