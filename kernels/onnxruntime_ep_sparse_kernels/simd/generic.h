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
