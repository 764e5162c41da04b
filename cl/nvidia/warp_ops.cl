/* warp_ops.cl: every operation of warp.h once, on inputs whose results are exact: on a GPU it tells whether the inline
 * PTX means what the emulation does, elsewhere whether the emulation means what the PTX manual says. nvidia.c has the
 * answers. Two warps, one group. */
enum { N_WORDS = 35 }; /* that each work-item writes */

__attribute__((reqd_work_group_size(64, 1, 1))) __kernel void
warp_ops(__global const ushort *source /* [64][8] operands */, __global uint *out /* [64][N_WORDS] */,
         __local uint *local_memory /* 2048 bytes */) {
    WARP_BEGIN(w, local_memory, 2048, 2);
    const int id = w->index * 32 + w->lane;
    const uint row = w->local_base + id * 16;
    __global uint *to = out + id * N_WORDS;

    cp_async16(w, row, source + id * 8, id % 4 == 3 ? id % 16 + 1 : 16); /* 4, 8, 12 or all 16 bytes */
    cp_async_commit(w);
    cp_async_wait_group(w, 0);
    block_barrier(w);

    uint a[4], b[4];
    ldmatrix_x4(w, a, row);
    ldmatrix_x4_trans(w, b, row);
    float c[4] = {id, -id, 2 * id, 1};
    mma_m16n8k16(w, c, a, b[0], b[1]);
    for (int i = 0; i < 4; i++) {
        to[i] = a[i];
        to[4 + i] = b[i];
        to[8 + i] = as_uint(c[i]);
    }
    for (int i = 0; i < 5; i++) to[12 + i] = as_uint(warp_shfl_xor(w, (float)id, 1 << i));
    to[17] = pack(1.00390625f, -3.0f); /* in bfloat16 half way between two: to the even one, 1 */
    to[18] = pack(1.01171875f, id);    /* likewise, to 1.015625 */
    to[19] = as_uint(ex2((float)(id - 32)));
    to[20] = as_uint(ex2(-INFINITY));
    to[21] = as_uint(lg2((float)(1 << (id & 15))));
    to[22] = as_uint(rcp(unpack(source[id * 8 + 1])));

    int n[4] = {id, -id, 2 * id, 1}, half_n[4] = {id, -id, 2 * id, 1};
    mma_m16n8k32(w, n, a, a[0], a[1]);
    mma_m16n8k16_bytes(w, half_n, a, a[2]);
    for (int i = 0; i < 4; i++) {
        to[23 + i] = (uint)n[i];
        to[27 + i] = (uint)half_n[i];
    }
    to[31] = (uint)dp4a(a[0], a[1], id);
    const uint own = w->local_base + 1024; /* 64 words, then 64 pairs, by lanes of the other warp */
    local_put(w, own + id * 4, (float)id);
    local_put2(w, own + 256 + id * 8, (float)id, (float)-id);
    block_barrier(w);
    const float2 pair = local_get2(w, own + 256 + (id ^ 32) * 8);
    to[32] = as_uint(local_get(w, own + (id ^ 32) * 4));
    to[33] = as_uint(pair.x + 2 * pair.y);
    block_barrier(w);
    local_put16(w, own + id * 16, (uint4)(id, 1, 2, 3 * id));
    block_barrier(w);
    ldmatrix_x4(w, b, own + (id ^ 32) * 16);
    to[34] = b[0] + b[1] + b[2] + b[3];
}
