/* philox.cl: Philox 4x32-10 (Salmon et al., SC 2011), the random words of dropout. */
uint4 philox(uint4 counter, uint2 key) {
    for (int round = 0; round < 10; round++) {
        const uint a = 0xD2511F53u, b = 0xCD9E8D57u;
        counter = (uint4)(mul_hi(b, counter.z) ^ counter.y ^ key.x, b * counter.z,
                          mul_hi(a, counter.x) ^ counter.w ^ key.y, a * counter.x);
        key += (uint2)(0x9E3779B9u, 0xBB67AE85u);
    }
    return counter;
}
