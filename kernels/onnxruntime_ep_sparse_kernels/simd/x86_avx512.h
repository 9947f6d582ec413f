/* Primitives of AVX-512 (F, DQ). simd.h says what each one must do. */
#include <immintrin.h>

#if SPARSE_LANES != 16
#error "AVX-512 has 16 lanes"
#endif

static inline vf vf_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
/* maxps and minps return their second operand when one is NaN. */
static inline vf vf_max(vf low, vf a) { return (vf)_mm512_max_ps((__m512)low, (__m512)a); }
static inline vf vf_min(vf high, vf a) { return (vf)_mm512_min_ps((__m512)high, (__m512)a); }
static inline vf vf_gather_parts(const float *x, const uint16_t *k, int n) {
#define QUARTER(i) _mm_loadu_ps(x + 4 * (int64_t)k[i])
#define HALF(i) (n == 8 ? _mm256_loadu_ps(x + 8 * (int64_t)k[i]) : \
                 _mm256_insertf128_ps(_mm256_castps128_ps256(QUARTER(2 * (i))), QUARTER(2 * (i) + 1), 1))
    return (vf)_mm512_insertf32x8(_mm512_castps256_ps512(HALF(0)), HALF(1), 1);
}
static inline vf vf_permuted(vf a, vf places) { return (vf)_mm512_permutexvar_ps((__m512i)places, (__m512)a); }
static inline vf vf_load_quad(const float *p) { return (vf)_mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
static inline vf vf_load_half(const uint16_t *p) { return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
static inline void vf_store_half(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph((__m512)a, _MM_FROUND_TO_NEAREST_INT));
}
static inline vf vf_load_masked(const float *p, vf mask) { return (vf)_mm512_maskz_loadu_ps(_mm512_movepi32_mask((__m512i)mask), p); }
static inline void vf_store_masked(float *p, vf mask, vf a) {
    _mm512_mask_storeu_ps(p, _mm512_movepi32_mask((__m512i)mask), (__m512)a);
}
