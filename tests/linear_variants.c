/* linear_variants.c: the shapes and features that linear is tested and timed with. */
#include "linear_case.h"

static const linear_variant fixed[] = {
    {1, {0}, 1, 1, CLF_F32, ANY_X},
    {1, {0}, 5, 7, CLF_F16, BIAS | ANY_X},
    {2, {3}, 4, 0, CLF_F32, BIAS_F32 | RESIDUAL},
    {2, {0}, 4, 8, CLF_F32, BIAS},
    {2, {3}, 0, 8, CLF_F32, 0},
    {2, {2}, 0, 32, CLF_Q8_0, SILU},
    {2, {12}, 4, 0, CLF_BF16, SILU | BIAS},
    {2, {1}, 3, 15, CLF_BF16, ANY_X},
    {3, {2, 3}, 9, 17, CLF_F32, BIAS_F32 | ANY_X},
    {4, {2, 1, 3}, 33, 31, CLF_F16, RESIDUAL | ANY_X},
    {2, {9}, 7, 33, CLF_F32, BIAS | RESIDUAL | ANY_X},
    {3, {5, 4}, 13, 65, CLF_F16, OVER_RESIDUAL | ANY_X},
    {2, {35}, 14, 129, CLF_BF16, BIAS | OUT_F32 | ANY_X},
    {2, {17}, 25, 255, CLF_F32, SILU | BIAS | ANY_X},
    {2, {1}, 25, 257, CLF_F16, SILU | BIAS_F32 | OVER_RESIDUAL | ANY_X},
    {2, {2}, 25, 100, CLF_BF16, GELU | RESIDUAL | ANY_X},
    {2, {31}, 100, 40, CLF_F32, TANH | BIAS | ANY_X},
    {3, {3, 9}, 30, 24, CLF_F16, REPEAT | ANY_X},
    {2, {4}, 30, 64, CLF_F32, THREE | BIAS | ANY_X},
    {2, {40}, 30, 64, CLF_F16, THREE | BIAS_F32 | OUT_F32 | ANY_X},
    {2, {1}, 64, 256, CLF_Q4_K, THREE | BIAS_F32},
    {2, {33}, 64, 256, CLF_Q4_K, THREE | OUT_F32},
    {2, {1}, 40, 512, CLF_Q4_0, SILU},
    {2, {48}, 40, 512, CLF_Q4_0, SILU | RESIDUAL},
    {2, {3}, 40, 512, CLF_Q8_0, TANH | BIAS},
    {2, {70}, 110, 96, CLF_Q8_0, GELU | BIAS_F32 | OUT_F32},
    {2, {1}, 19, 768, CLF_Q5_K, OVER_RESIDUAL},
    {2, {21}, 19, 768, CLF_Q6_K, OVER_RESIDUAL | BIAS},
    {2, {300}, 12, 64, CLF_F32, BIAS | ANY_X},
    {2, {280}, 101, 352, CLF_Q8_0, 0},
    {2, {2}, 24, 11008, CLF_F32, ANY_X},
    {2, {20}, 24, 11008, CLF_F32, ANY_X},
    {2, {2}, 24, 11008, CLF_Q4_K, 0},
    {2, {20}, 24, 11008, CLF_Q6_K, 0},
    {2, {20}, 24, 11008, CLF_Q8_0, EXACT | ANY_X},
    {2, {1}, 512, 1024, CLF_F16, ANY_X},
    {2, {1}, 600, 1024, CLF_Q4_0, TWO},
    {2, {6}, 21, 40, CLF_F32, SCALE | BIAS | RESIDUAL | ANY_X},
    {2, {26}, 21, 40, CLF_BF16, SCALE | BIAS | SILU | ANY_X},
    {2, {3}, 20, 256, CLF_Q4_K, SCALE | THREE | BIAS_F32},
    {2, {30}, 20, 256, CLF_Q4_K, SCALE | TWO},
    {2, {70}, 33, 45, CLF_F16, SCALE | BIAS | THREE | OVER_RESIDUAL | BACKWARD},
    {2, {70}, 33, 45, CLF_F32, D_X | BACKWARD},
    {2, {70}, 33, 45, CLF_F32, D_WEIGHT | SCALE | BACKWARD},
    {3, {3, 90}, 4, 300, CLF_F32, BIAS | ANY_X},
    {3, {2, 70}, 300, 4, CLF_F16, BIAS | RESIDUAL | ANY_X},
    {2, {300}, 9, 130, CLF_BF16, ANY_X},
    {2, {310}, 70, 8, CLF_F32, ANY_X},
    {2, {40}, 300, 64, CLF_Q8_0, D_X | TWO | RESIDUAL | BACKWARD},
    {2, {9}, 270, 768, CLF_Q4_K, D_X | BACKWARD},
    {2, {600}, 40, 96, CLF_F32, D_WEIGHT | OUT_F32 | BACKWARD},
    {2, {420}, 60, 300, CLF_F32, BACKWARD},
    {2, {530}, 70, 300, CLF_F32, BIAS | ANY_X},
    {2, {600}, 300, 20, CLF_F16, SCALE | OVER_RESIDUAL | ANY_X},
    {2, {100}, 16, 300, CLF_F32, THREE | BIAS | ANY_X},
    {2, {12}, 70, 150, CLF_F32, REPEAT | BIAS | BACKWARD},
};

/* T2 and T1, whose rows are interleaved, in these; `dtype` is theirs. */
static const linear_variant interleaved[] = {
    {1, {0}, 16, 256, CLF_F32, 0},
    {2, {0}, 16, 256, CLF_F32, 0},
    {2, {3}, 16, 0, CLF_F32, BIAS},
    {2, {12}, 16, 0, CLF_F32, 0},
    {2, {1}, 112, 768, CLF_F32, BIAS},
    {2, {2}, 48, 512, CLF_F32, RESIDUAL},
    {2, {7}, 208, 512, CLF_F32, SILU | BIAS_F32},
    {3, {2, 4}, 64, 1024, CLF_F32, THREE},
    {2, {37}, 32, 2304, CLF_F32, THREE | BIAS | OUT_F32},
    {2, {70}, 240, 512, CLF_F32, TANH | OVER_RESIDUAL},
    {2, {300}, 80, 256, CLF_F32, SCALE},
    {2, {40}, 96, 768, CLF_F32, TWO | SCALE},
    {2, {1}, 16, 16384, CLF_F32, EXTREME},
    {2, {3}, 32, 16384, CLF_F32, EXTREME},
    {2, {11}, 48, 16384, CLF_F32, EXTREME},
    {2, {3}, 32, 512, CLF_F32, EXACT | ANY_X},
    {2, {18}, 32, 512, CLF_F32, EXACT | ANY_X | SILU},
    {2, {9}, 32, 256, CLF_F32, BIAS},
};
static const clf_dtype interleaved_dtypes[] = {CLF_T2, CLF_T1};

/* Block-sparse ones: `dtype` is that of their words. */
static const linear_variant tiled[] = {
    {1, {0}, 16, 16, CLF_U8, FULL},
    {2, {0}, 32, 64, CLF_U8, 0},
    {2, {2}, 32, 64, CLF_U8, EMPTY | BIAS},
    {2, {3}, 16, 0, CLF_U8, 0},
    {2, {1}, 112, 784, CLF_U8, BIAS},
    {2, {2}, 48, 272, CLF_U8, RESIDUAL | FULL},
    {2, {7}, 208, 512, CLF_U8, SILU | BIAS_F32},
    {3, {2, 4}, 64, 1024, CLF_U8, THREE},
    {2, {37}, 32, 2304, CLF_U8, THREE | BIAS | OUT_F32},
    {2, {70}, 240, 512, CLF_U8, TANH | OVER_RESIDUAL},
    {2, {300}, 80, 256, CLF_U8, SCALE},
    {2, {12}, 16, 0, CLF_U8, 0},
    {2, {1}, 16, 16384, CLF_U8, EXTREME | FULL},
    {2, {3}, 32, 16384, CLF_U8, EXTREME | FULL},
    {2, {11}, 48, 16384, CLF_U8, EXTREME | FULL},
    {2, {3}, 32, 528, CLF_U8, EXACT | ANY_X},
    {2, {18}, 32, 512, CLF_U8, EXACT | ANY_X | SILU},
    {2, {9}, 48, 144, CLF_U8, BIAS},
};

/* Each weight dtype in these shapes; k is two blocks, odd for AVX-512 where blocks are 32. */
static const linear_variant each[] = {
    {2, {3}, 13, 0, CLF_F32, EXTREME | OUT_F32 | FORWARD},
    {2, {20}, 13, 0, CLF_F32, EXTREME | OUT_F32 | FORWARD},
    {2, {1}, 11, 0, CLF_F32, BIAS_F32},
    {2, {6}, 26, 0, CLF_F32, 0},
    {2, {29}, 26, 0, CLF_F32, RESIDUAL},
    {2, {2}, 9, 0, CLF_F32, EXACT | ANY_X},
    {2, {18}, 9, 0, CLF_F32, EXACT | ANY_X | OUT_F32},
};

/* The linear layers of TinyLlama 1.1B for one token and for 256. */
static const linear_variant bench[] = {
    {2, {1}, 2048, 2048, CLF_F32, FORWARD},         {2, {1}, 5632, 2048, CLF_F32, SILU | FORWARD},
    {2, {1}, 2048, 5632, CLF_F32, FORWARD},         {2, {1}, 32000, 2048, CLF_F32, OUT_F32 | FORWARD},
    {2, {256}, 2048, 2048, CLF_F32, D_X},           {2, {256}, 5632, 2048, CLF_F32, SILU | D_X},
    {2, {256}, 2048, 5632, CLF_F32, RESIDUAL | D_X}};
/* Its LoRA adapters, and a full gradient. */
static const linear_variant bench_f32[] = {
    {2, {512}, 4, 2048, CLF_F32, D_X},
    {2, {512}, 16, 2048, CLF_F32, D_X},
    {2, {512}, 64, 2048, CLF_F32, D_X},
    {2, {512}, 2048, 4, CLF_F32, D_X},
    {2, {512}, 2048, 16, CLF_F32, D_X},
    {2, {512}, 2048, 64, CLF_F32, D_X},
    {2, {2048}, 16, 2048, CLF_F32, D_X},
    {2, {2048}, 2048, 16, CLF_F32, D_X},
    {2, {512}, 4, 2048, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {512}, 16, 2048, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {512}, 64, 2048, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {512}, 2048, 4, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {512}, 2048, 16, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {512}, 2048, 64, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {2048}, 16, 2048, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {2048}, 2048, 16, CLF_F32, D_WEIGHT | BACKWARD},
    {2, {512}, 5632, 2048, CLF_F32, D_X},
    {2, {512}, 5632, 2048, CLF_F32, D_WEIGHT | BACKWARD},
};
static const clf_dtype bench_dtypes[] = {CLF_F16,  CLF_BF16,  CLF_Q8_0,  CLF_Q4_0, CLF_Q4_K,
                                         CLF_Q6_K, CLF_TQ2_0, CLF_TQ1_0, CLF_T2,   CLF_T1};

static const clf_dtype dtypes[] = {CLF_F32,   CLF_F16,    CLF_BF16,   CLF_Q4_0,  CLF_Q4_1,  CLF_Q5_0,
                                   CLF_Q5_1,  CLF_Q8_0,   CLF_Q2_K,   CLF_Q3_K,  CLF_Q4_K,  CLF_Q5_K,
                                   CLF_Q6_K,  CLF_IQ4_NL, CLF_IQ4_XS, CLF_TQ1_0, CLF_TQ2_0, CLF_MXFP4,
                                   CLF_NVFP4, CLF_Q1_0,   CLF_Q2_0,   CLF_NF4};

enum {
    N_FIXED = COUNT(fixed),
    N_INTERLEAVED = COUNT(interleaved) * COUNT(interleaved_dtypes),
    N_TILED = COUNT(tiled),
    N_EACH = COUNT(each) * COUNT(dtypes) + N_INTERLEAVED + N_TILED,
    N_BENCH_F32 = COUNT(bench_f32),
    N_BENCH = N_BENCH_F32 + COUNT(bench) * COUNT(bench_dtypes)
};

const int linear_variants = N_FIXED + N_EACH + N_BENCH, linear_bench_variants = N_BENCH;

linear_variant linear_variant_of(int i) {
    if (i < N_FIXED) return fixed[i];
    i -= N_FIXED;
    if (i < N_INTERLEAVED) {
        linear_variant v = interleaved[i % COUNT(interleaved)];
        v.dtype = interleaved_dtypes[i / COUNT(interleaved)];
        v.features |= FORWARD;
        return v;
    }
    if (i < N_INTERLEAVED + N_TILED) {
        linear_variant v = tiled[i - N_INTERLEAVED];
        v.features |= FORWARD;
        return v;
    }
    if (i < N_EACH) {
        i -= N_INTERLEAVED + N_TILED;
        linear_variant v = each[i % COUNT(each)];
        v.dtype = dtypes[i / COUNT(each)];
        const int block = clf_dtype_block_values(v.dtype);
        v.k = block == 1 ? 75 : block == 32 ? 96 : 2 * block;
        if (block == 1) v.features |= ANY_X;
        return v;
    }
    i -= N_EACH;
    if (i < N_BENCH_F32) return bench_f32[i];
    i -= N_BENCH_F32;
    linear_variant v = bench[i % COUNT(bench)];
    v.dtype = bench_dtypes[i / COUNT(bench)];
    if (op_interleaved(v.dtype)) v.features |= FORWARD;
    return v;
}
