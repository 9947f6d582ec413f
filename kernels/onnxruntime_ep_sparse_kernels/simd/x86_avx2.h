/* Primitives of AVX2 with FMA and F16C. simd.h says what each one must do. */
#include <immintrin.h>

#if SPARSE_LANES != 8
#error "AVX2 has 8 lanes"
#endif

static inline vf vf_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
/* maxps and minps return their second operand when one is NaN. */
static inline vf vf_max(vf low, vf a) { return (vf)_mm256_max_ps((__m256)low, (__m256)a); }
static inline vf vf_min(vf high, vf a) { return (vf)_mm256_min_ps((__m256)high, (__m256)a); }
static inline vf vf_gather_parts(const float *x, const uint16_t *k, int n) {
    if (n == 8) return vf_load(x + 8 * (int64_t)k[0]);
    return (vf)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + 4 * (int64_t)k[0])), _mm_loadu_ps(x + 4 * (int64_t)k[1]), 1);
}
static inline vf vf_permuted(vf a, vf places) { return (vf)_mm256_permutevar8x32_ps((__m256)a, (__m256i)places); }
static inline vf vf_load_quad(const float *p) { return (vf)_mm256_broadcast_ps((const __m128 *)p); }
static inline vf vf_load_half(const uint16_t *p) { return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
static inline void vf_store_half(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph((__m256)a, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_masked(const float *p, vf mask) { return (vf)_mm256_maskload_ps(p, (__m256i)mask); }
static inline void vf_store_masked(float *p, vf mask, vf a) { _mm256_maskstore_ps(p, (__m256i)mask, (__m256)a); }
