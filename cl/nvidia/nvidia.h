/* nvidia.h: kernels on tensor cores, beside the portable ones of cl/. A launcher here says whether it takes a call; the
 * portable one has the rest. */
#ifndef CLF_CL_NVIDIA_H
#define CLF_CL_NVIDIA_H

#include "../linear.h"

/* nvidia.c: whether tensor cores are to be used, found out at the first call: where the device says that it has them
 * and a known answer of each operation comes out right. CLFORMER_OPENCL_TENSOR_CORES=off: never; =mma: without wgmma;
 * =wgmma, =wgmma-arch, =wgmma-ptx: wgmma by that way only; =emulate, =emulate:SM: the kernels run in their emulation on
 * any device, with the tiles of that compute capability and with every fault of synchronisation turned into NaN, for
 * tests. Fails if the device is lost over it. */
clf_status clf_nvidia_find(clf_context *ctx);

/* ptx.c: a program for sm_90a out of one that was built with CLF_NVIDIA_MARKED, given as its binary, the driver's PTX:
 * the target becomes sm_90a, the instructions behind marks are let in. NULL: it is no PTX for sm_90 with marks, or
 * memory is lacking. The caller frees it. */
#define CLF_NVIDIA_MARKED "-DWGMMA_MARKED=1"
char *clf_nvidia_ptx_90a(const char *ptx);

/* The texts of warp.h, for the cache's keys. */
#define CLF_NVIDIA_WARP                                                                                                \
    clf_cl_source_text("nvidia/warp"), clf_cl_source_text("nvidia/warp_ptx"),                                          \
        clf_cl_source_text("nvidia/warp_memory"), clf_cl_source_text("nvidia/warp_emulated")

/* The options of warp.h for 16-bit operands of dtype. */
void clf_nvidia_options(const clf_context *ctx, clf_dtype dtype, char *text, size_t size);

/* `global const float *t, long t_at`; `global const int *t, long t_at, long t_stride`. */
void clf_nvidia_f32s(clf_cl_call *call, const clf_tensor *t);
void clf_nvidia_ints(clf_cl_call *call, const clf_tensor *t);

/* attention.c: *taken: the call was one for these kernels. attention_backward.c: the gradients that these kernels have
 * computed become NULL in *args. */
clf_status clf_nvidia_attention(bool *taken, clf_context *ctx, const clf_attention_args *args);
clf_status clf_nvidia_attention_backward(clf_context *ctx, clf_attention_backward_args *args);

/* linear.c: one product, likewise; _down: with the weight read across its rows. */
clf_status clf_nvidia_linear(bool *taken, clf_context *ctx, const clf_cl_product *p);
clf_status clf_nvidia_linear_down(bool *taken, clf_context *ctx, const clf_cl_product *p);

#endif
