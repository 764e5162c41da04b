/* linear_result.cl: how products on tensor cores are stored: 16 rows of each warp at a time through local memory, so
 * that neighbours in a row are stored together, and the epilogue is in a program once. After WARP_N, N_WARPS. */
#define PITCH        (WARP_N + 8)
#define RESULT_BYTES (N_WARPS * 16 * PITCH * 4)

/* The accumulators acc[WARP_N / 8][4] of rows row0 … row0 + 15, columns column0 … of out. Local memory is
 * free. (all) */
WARP_FN void store_rows(warp *w, float (*acc)[4], int row0, int column0, EPILOGUE_ARGS) {
    const uint result = w->local_base + w->index * (16 * PITCH * 4);
    block_barrier(w);
    UNROLL for (int j = 0; j < WARP_N / 8; j++)
        UNROLL for (int h = 0; h < 2; h++)
            local_put2(w, result + (((w->lane >> 2) + 8 * h) * PITCH + j * 8 + (w->lane & 3) * 2) * 4, acc[j][2 * h],
                       acc[j][2 * h + 1]);
    block_barrier(w);
    for (int e = w->lane; e < 16 * WARP_N; e += 32) {
        const int row = e / WARP_N, to = e % WARP_N;
        finish((uint)(row0 + row), (uint)(column0 + to), local_get(w, result + (row * PITCH + to) * 4), EPILOGUE);
    }
}
