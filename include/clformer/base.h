/** @file base.h
 *  Statuses, dtypes and the export macro: what every other header needs. */
#ifndef CLFORMER_BASE_H
#define CLFORMER_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** C linkage, in either language. */
#ifdef __cplusplus
#define CLF_EXTERN extern "C"
#else
#define CLF_EXTERN extern
#endif

/** Marks what the library exports. */
#if defined(__GNUC__) && !defined(CLF_STATIC)
#define CLF_API CLF_EXTERN __attribute__((visibility("default")))
#else
#define CLF_API CLF_EXTERN
#endif

/** Every status: name, value, meaning. docs/errors.md says what to do about each. */
#define CLF_STATUSES(X)                                                                                                \
    X(CLF_OK, 0, "ok")                                                                                                 \
    X(CLF_INVALID_ARGUMENT, -1, "invalid argument")                                                                    \
    X(CLF_UNSUPPORTED, -2, "not supported by this device or build")                                                    \
    X(CLF_OUT_OF_MEMORY, -3, "out of memory")                                                                          \
    X(CLF_NOT_FOUND, -4, "not found")                                                                                  \
    X(CLF_IO_ERROR, -5, "input or output failed")                                                                      \
    X(CLF_BAD_FILE, -6, "malformed or inconsistent file")                                                              \
    X(CLF_DEVICE_ERROR, -7, "device error")                                                                            \
    X(CLF_FULL, -8, "no room left")                                                                                    \
    X(CLF_BUSY, -9, "context in use by another thread")                                                                \
    X(CLF_CANCELLED, -10, "cancelled by the callback")                                                                 \
    X(CLF_NOT_FINITE, -11, "not a finite number")

/** What a function returns: CLF_OK or one kind of failure. */
typedef enum clf_status {
#define CLF_STATUS_ENUM(name, value, text) name = value, /**< see CLF_STATUSES */
    CLF_STATUSES(CLF_STATUS_ENUM)
#undef CLF_STATUS_ENUM
} clf_status;

/** Element types: name, GGUF's type id (-1: none), values a block, bytes a block. Block dtypes hold `values`
 * consecutive elements of the last dimension; ggml defines them to the byte, but for NF4 (arXiv:2305.14314): the
 * largest magnitude as a float, then 16 bytes for each 32 elements, low nibbles first, of codes of the quantiles of
 * N(0, 1).
 *
 * T2 and T1 are TQ2_0 and TQ1_0 with 16 consecutive rows interleaved: as many bytes, a half as scale for each
 * row and 256 values, made by clf_convert() from those without loss; used by clf_linear() alone. Such a tensor is
 * [n, k], n a multiple of 16, and a sequence of panels of 16 rows: halves [k/256][16], then words of 64 bytes, four
 * consecutive bytes a row. Words of T2 hold 16 k: bits 2p and 2p + 1 of a row's byte i are the value at 4p + i, plus 1.
 * T1 has 13 words for 256 k: twelve hold 20 k, the last 16; the digit of 3^p in a row's byte i is the value at 4p + i,
 * plus 1. In GGUF their types are clformer's own, the letters "T2" and "T1", which no other program takes. */
#define CLF_DTYPES(X)                                                                                                  \
    X(F32, "f32", 0, 1, 4)                                                                                             \
    X(F16, "f16", 1, 1, 2)                                                                                             \
    X(BF16, "bf16", 30, 1, 2)                                                                                          \
    X(I32, "i32", 26, 1, 4)                                                                                            \
    X(U8, "u8", -1, 1, 1)                                                                                              \
    X(F64, "f64", 28, 1, 8)                                                                                            \
    X(I64, "i64", 27, 1, 8)                                                                                            \
    X(I16, "i16", 25, 1, 2)                                                                                            \
    X(I8, "i8", 24, 1, 1)                                                                                              \
    X(BOOL, "bool", -1, 1, 1)                                                                                          \
    X(Q4_0, "q4_0", 2, 32, 18)                                                                                         \
    X(Q4_1, "q4_1", 3, 32, 20)                                                                                         \
    X(Q5_0, "q5_0", 6, 32, 22)                                                                                         \
    X(Q5_1, "q5_1", 7, 32, 24)                                                                                         \
    X(Q8_0, "q8_0", 8, 32, 34)                                                                                         \
    X(Q2_K, "q2_k", 10, 256, 84)                                                                                       \
    X(Q3_K, "q3_k", 11, 256, 110)                                                                                      \
    X(Q4_K, "q4_k", 12, 256, 144)                                                                                      \
    X(Q5_K, "q5_k", 13, 256, 176)                                                                                      \
    X(Q6_K, "q6_k", 14, 256, 210)                                                                                      \
    X(IQ4_NL, "iq4_nl", 20, 32, 18)                                                                                    \
    X(IQ4_XS, "iq4_xs", 23, 256, 136)                                                                                  \
    X(TQ1_0, "tq1_0", 34, 256, 54)                                                                                     \
    X(TQ2_0, "tq2_0", 35, 256, 66)                                                                                     \
    X(MXFP4, "mxfp4", 39, 32, 17)                                                                                      \
    X(NVFP4, "nvfp4", 40, 64, 36)                                                                                      \
    X(Q1_0, "q1_0", 41, 128, 18)                                                                                       \
    X(Q2_0, "q2_0", 42, 64, 18)                                                                                        \
    X(NF4, "nf4", -1, 64, 36)                                                                                          \
    X(T2, "t2", 21554, 256, 66)                                                                                        \
    X(T1, "t1", 21553, 256, 54)

/** Element type of a tensor. F32, F16 and BF16 are the float dtypes: ops compute in them. I32 holds ids, positions and
 *  lengths. The block dtypes (Q4_0 …) are weights. The rest are storage that clf_convert() reads. */
typedef enum clf_dtype {
#define CLF_DTYPE_ENUM(name, text, gguf, values, bytes) CLF_##name, /**< see CLF_DTYPES */
    CLF_DTYPES(CLF_DTYPE_ENUM)
#undef CLF_DTYPE_ENUM
        CLF_DTYPE_COUNT /**< how many there are */
} clf_dtype;

typedef struct clf_context clf_context; /**< one device, see context.h */
typedef struct clf_tensor clf_tensor;   /**< see tensor.h */

/** "invalid argument" for CLF_INVALID_ARGUMENT, and so on; never NULL. */
CLF_API const char *clf_status_string(clf_status status);
/** "f16" for CLF_F16; "?" for what is no dtype. */
CLF_API const char *clf_dtype_name(clf_dtype dtype);
/** Writes the dtype called `name` ("f16", "Q4_K", any case) to `*out`. @return CLF_NOT_FOUND if there is none. */
CLF_API clf_status clf_dtype_from_name(clf_dtype *out, const char *name);
/** Values a block: 1 for plain dtypes. 0 for what is no dtype. */
CLF_API int clf_dtype_block_values(clf_dtype dtype);
/** Bytes a block: the element's size for plain dtypes. 0 for what is no dtype. */
CLF_API size_t clf_dtype_block_bytes(clf_dtype dtype);
/** Writes `bytes` as people read it ("1.50 GiB") into `text`, always terminated. @return `text` */
CLF_API char *clf_format_bytes(char *text, size_t size, uint64_t bytes);
/** "0.1.0": the version of the library that runs, to compare with CLF_VERSION_STRING. */
CLF_API const char *clf_version(void);

#endif
