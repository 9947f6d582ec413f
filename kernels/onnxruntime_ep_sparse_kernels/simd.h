/* Vectors of SPARSE_LANES float32 for the generated kernels, through the vector extensions that gcc and clang share.
 *
 * vf_fma is one rounding wherever the instruction set has FMA and two in `baseline`: every kernel of one instruction set therefore
 * computes the same chain bit for bit. */
#ifndef SPARSE_SIMD_H
#define SPARSE_SIMD_H

#include <stdint.h>
#include <string.h>

#ifndef SPARSE_LANES
#error "SPARSE_LANES comes from variants.py through the compiler flags"
#endif

typedef float vf __attribute__((vector_size(4 * SPARSE_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * SPARSE_LANES)));
typedef float vf_unaligned __attribute__((vector_size(4 * SPARSE_LANES), aligned(4), may_alias));

static inline vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
static inline void vf_store(float *p, vf a) { *(vf_unaligned *)p = a; }
static inline vf vf_set(float a) { return a - (vf){0}; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }

#if defined(__FMA__) && SPARSE_LANES == 8
#include <immintrin.h>
static inline vf vf_fma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
/* maxps and minps return their second operand when one is NaN: NaN in `a` stays. */
static inline vf vf_max(vf low, vf a) { return (vf)_mm256_max_ps((__m256)low, (__m256)a); }
static inline vf vf_min(vf high, vf a) { return (vf)_mm256_min_ps((__m256)high, (__m256)a); }
#elif defined(__AVX512F__) && SPARSE_LANES == 16
#include <immintrin.h>
static inline vf vf_fma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
static inline vf vf_max(vf low, vf a) { return (vf)_mm512_max_ps((__m512)low, (__m512)a); }
static inline vf vf_min(vf high, vf a) { return (vf)_mm512_min_ps((__m512)high, (__m512)a); }
#else
static inline vf vf_select(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf vf_fma(vf a, vf b, vf c) { return a * b + c; }
static inline vf vf_max(vf low, vf a) { return vf_select(low > a, low, a); }
static inline vf vf_min(vf high, vf a) { return vf_select(high < a, high, a); }
#endif

/* Scalar twins for row ends, with the same rounding. */
static inline float f_max(float low, float a) { return low > a ? low : a; }
static inline float f_min(float high, float a) { return high < a ? high : a; }

/* e^x, Cody-Waite reduction and a degree-6 polynomial (Cephes expf); at most 2 ulp, exact 0 and Inf at the ends, NaN stays. */
static inline float f_exp(float x) {
    float clamped = f_max(-87.8f, f_min(88.7f, x));
    float n = clamped * 1.44269504088896341f;
    n = n + 12582912.0f; /* 1.5 * 2^23 rounds to an integer */
    n = n - 12582912.0f;
    float r = clamped - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* 2^n in two factors so that n = 128 and n = -126 stay in range */
    int32_t e = (int32_t)(n == n ? n : 0.0f), half = e / 2;
    union { int32_t i; float f; } a = {(half + 127) << 23}, b = {(e - half + 127) << 23};
    float y = p * a.f * b.f;
    y = x < -103.0f ? 0.0f : y;
    return x > 88.72283f ? 1.0f / 0.0f : y;
}
static inline float f_sigmoid(float x) { return 1.0f / (1.0f + f_exp(-x)); }
static inline float f_tanh(float x) {
    /* odd polynomial below 0.625 (Cephes tanhf), where 1 - 2/(e^2x + 1) would cancel */
    float s = x * x;
    float p = ((((-5.70498872745e-3f * s + 2.06390887954e-2f) * s - 5.37397155531e-2f) * s + 1.33314422036e-1f) * s - 3.33332819422e-1f) * s * x + x;
    float q = 1.0f - 2.0f / (f_exp(2.0f * x) + 1.0f);
    return s < 0.390625f ? p : q;
}
static inline float f_erf(float x) {
    /* rational minimax on [-4, 4] (the form used by Eigen), about 3e-7 absolute */
    float c = f_max(-4.0f, f_min(4.0f, x)), s = c * c;
    float p = -2.72614225801306e-10f;
    p = p * s + 2.77068142495902e-08f;
    p = p * s + -2.10102402082508e-06f;
    p = p * s + -5.69250639462346e-05f;
    p = p * s + -7.34990630326855e-04f;
    p = p * s + -2.95459980854025e-03f;
    p = p * s + -1.60960333262415e-02f;
    float q = -1.45660718464996e-05f;
    q = q * s + -2.13374055278905e-04f;
    q = q * s + -1.68282697438203e-03f;
    q = q * s + -7.37332916720468e-03f;
    q = q * s + -1.42647390514189e-02f;
    return c * p / q;
}
#endif
