/* linear_epilogue.cl: what becomes of a sum of products, in all kernels of linear:
 *
 *     v = scale · sum + bias[column]
 *     v = activation(gate[row, column]) · v        with a gate, which an earlier call left in float32
 *     out[row, column] = v + residual[row, column] */

#define EPILOGUE_ARGS                                                                                                  \
    float scale, global const void *bias, long bias_at, int bias_dtype, global const float *gate, int activation,      \
        IN(residual), int residual_dtype, OUT(out), int out_dtype, uint4 shape, uint m, uint n
#define EPILOGUE                                                                                                       \
    scale, bias, bias_at, bias_dtype, gate, activation, residual, residual_at, residual_stride, residual_dtype, out,   \
        out_at, out_stride, out_dtype, shape, m, n

void finish(uint row, uint column, float v, EPILOGUE_ARGS) {
    if (row >= m || column >= n) return;
    v *= scale;
    if (bias) v += load(bias, bias_at + column, bias_dtype);
    if (gate) v *= activate(gate[(ulong)row * n + column], activation);
    if (residual) v += load(residual, ROW(residual, row) + column, residual_dtype);
    store(out, ROW(out, row) + column, v, out_dtype);
}
