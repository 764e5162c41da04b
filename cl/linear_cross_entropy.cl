/* linear_cross_entropy.cl: a row of logits becomes its loss and the gradients of the logits, in place. One group a row;
 * an item touches the same columns in every pass. A row without a label gets zeros, one whose label is out of range a
 * loss of NaN.
 *
 *     loss = lse − (1 − ε)·z[label] − ε·mean(z) + λ·lse²
 *     dz   = g · (softmax(z)·(1 + 2λ·lse) − (1 − ε)·1[label] − ε/vocab) · (1 − (z/cap)²)
 */
kernel void linear_cross_entropy(global float *z, global const int *labels, long labels_at, global const float *weights,
                                 long weights_at, float cap, float smoothing, float z_loss, float d_loss,
                                 global float *loss, long loss_at, global float *lse_out, long lse_at, uint row0,
                                 uint vocab, local float *scratch) {
    const uint row = row0 + get_group_id(0), first = get_local_id(0), step = get_local_size(0);
    const int label = labels[labels_at + row];
    z += (ulong)get_group_id(0) * vocab;
    if (label < 0 || label >= (int)vocab) {
        for (uint i = first; i < vocab; i += step) z[i] = 0;
        if (first == 0) loss[loss_at + row] = label == -100 ? 0 : NAN;
        if (first == 0 && lse_out) lse_out[lse_at + row] = label == -100 ? 0 : NAN;
        return;
    }
    float most = -INFINITY, total = 0;
    for (uint i = first; i < vocab; i += step) {
        if (cap != 0) z[i] = cap * tanh(z[i] / cap);
        most = fmax(most, z[i]);
        total += z[i];
    }
    barrier(CLK_GLOBAL_MEM_FENCE); /* for z[label] */
    most = group_max(most, scratch);
    total = group_sum(total, scratch);
    float sum = 0;
    for (uint i = first; i < vocab; i += step) sum += exp(z[i] - most);
    const float lse = most + log(group_sum(sum, scratch));
    const float target = z[label];
    barrier(CLK_GLOBAL_MEM_FENCE);
    if (first == 0) {
        loss[loss_at + row] = (lse - target) + smoothing * (target - total / vocab) + z_loss * lse * lse;
        if (lse_out) lse_out[lse_at + row] = lse;
    }
    const float g = d_loss * (weights ? weights[weights_at + row] : 1), spread = g * smoothing / vocab;
    for (uint i = first; i < vocab; i += step) {
        float d = g * (1 + 2 * z_loss * lse) * exp(z[i] - lse) - spread;
        if (i == (uint)label) d -= g * (1 - smoothing);
        if (cap != 0) d *= (1 - z[i] / cap) * (1 + z[i] / cap);
        z[i] = d;
    }
}
