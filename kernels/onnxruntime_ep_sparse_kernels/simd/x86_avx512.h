/* Primitives of AVX-512 (F, DQ). simd.h says what each one must do. */
#include <immintrin.h>

#if SPARSE_LANES != 16
#error "AVX-512 has 16 lanes"
#endif

static inline vf vf_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
/* maxps and minps return their second operand when one is NaN. */
static inline vf vf_max(vf low, vf a) { return (vf)_mm512_max_ps((__m512)low, (__m512)a); }
static inline vf vf_min(vf high, vf a) { return (vf)_mm512_min_ps((__m512)high, (__m512)a); }
static inline vf vf_load_masked(const float *p, vf mask) { return (vf)_mm512_maskz_loadu_ps(_mm512_movepi32_mask((__m512i)mask), p); }
static inline void vf_store_masked(float *p, vf mask, vf a) {
    _mm512_mask_storeu_ps(p, _mm512_movepi32_mask((__m512i)mask), (__m512)a);
}
