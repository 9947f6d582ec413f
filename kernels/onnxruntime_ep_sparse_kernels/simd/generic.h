/* Primitives for any CPU and any number of lanes, in plain C with vector extensions. simd.h says what each one must do. */

/* One rounding where the compiler fuses the two operations, else two. */
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_max(vf low, vf a) { return vf_pick(low > a, low, a); }
static inline vf vf_min(vf high, vf a) { return vf_pick(high < a, high, a); }
static inline vf vf_gather_parts(const float *x, const uint16_t *k, int n) {
    vf a = vf_set(0);
    for (int i = 0; i < SPARSE_LANES / n; i++) memcpy((char *)&a + 4 * i * n, x + (int64_t)n * k[i], 4 * n);
    return a;
}
static inline vf vf_permuted(vf a, vf places) {
    vf b;
    for (int i = 0; i < SPARSE_LANES; i++) b[i] = a[((vi)places)[i]];
    return b;
}
static inline vf vf_load_quad(const float *p) {
    vf a;
    for (int i = 0; i < SPARSE_LANES; i += 4) memcpy((char *)&a + 4 * i, p, 16);
    return a;
}
/* Subnormal halves become normal floats by one exact subtraction, and the reverse by one addition that rounds: no float is subnormal in
 * between, so that the modes which flush these to zero change nothing. F16C gives the same bits, also of NaN. */
static inline vf vf_load_half(const uint16_t *p) {
    vi h, rest, small;
    for (int i = 0; i < SPARSE_LANES; i++) h[i] = p[i];
    rest = (h & 0x7fff) << 13;
    small = (vi)((vf)(rest + (113 << 23)) - (vf)(vi)((vi){0} + (113 << 23)));
    rest = (vi)vf_pick((h & 0x7c00) == 0, (vf)small, (vf)vf_pick((h & 0x7c00) == 0x7c00, (vf)(rest | 0x7f800000), (vf)(rest + (112 << 23))));
    rest |= ((h & 0x7fff) > 0x7c00) & 0x400000;
    return (vf)(rest | (h & 0x8000) << 16);
}
static inline void vf_store_half(uint16_t *p, vf a) {
    const vi u = (vi)vf_abs(a), sign = (((vi)a < 0) & 0x8000);
    const vi small = (vi)((vf)u + vf_set(0.5f)) - (126 << 23);
    const vi normal = (u - (112 << 23) + 0xfff + ((u >> 13) & 1)) >> 13;
    const vi large = (vi)vf_pick(u > 0x7f800000, (vf)(0x7e00 | ((u >> 13) & 0x3ff)), (vf)((vi){0} + 0x7c00));
    const vi h = sign | (vi)vf_pick(u < (113 << 23), (vf)small, vf_pick(u < (143 << 23), (vf)normal, (vf)large));
    for (int i = 0; i < SPARSE_LANES; i++) p[i] = (uint16_t)h[i];
}
static inline vf vf_load_masked(const float *p, vf mask) {
    vf a = vf_set(0);
    for (int i = 0; i < SPARSE_LANES; i++)
        if (((vi)mask)[i]) a[i] = p[i];
    return a;
}
static inline void vf_store_masked(float *p, vf mask, vf a) {
    for (int i = 0; i < SPARSE_LANES; i++)
        if (((vi)mask)[i]) p[i] = a[i];
}
