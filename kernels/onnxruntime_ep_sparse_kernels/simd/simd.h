/* Vectors of SPARSE_LANES float32 for the generated kernels, through the vector extensions that gcc and clang share.
 *
 * The compiler flags of a row of isa.py define SPARSE_LANES, the number of lanes, and SPARSE_PRIMITIVES, the header in this folder with the
 * primitives of the instruction set. All other functions follow from the primitives; they are here and in math.h, one copy for all.
 *
 * A header of primitives defines these functions and no others (tests/kernels/test_isas.py compares them):
 *   vf_fma(a, b, c)             a * b + c with one rounding, or with two everywhere if the instruction set has no FMA: every kernel of an
 *                               instruction set computes the same chain bit for bit.
 *   vf_max(low, a)              the larger; NaN in `a` stays. Likewise vf_min(high, a).
 *   vf_gather_parts(x, k, n)    n values from x + n * k[0] on, then n from x + n * k[1] on, and so forth; n is 4 or 8 and divides the lanes.
 *   vf_permuted(a, places)      lane i is lane k of `a`, where lane i of `places` has the bits of the integer k.
 *   vf_load_quad(p)             p[0], p[1], p[2], p[3], and the same four again until all lanes have one.
 *   vf_load_half(p)             float16 from p on, exactly; NaN become quiet.
 *   vf_store_half(p, a)         float16, rounded to the nearest, half to even; NaN become quiet and keep the high bits of what they hold.
 *   vf_load_masked(p, mask)     p[i] where the lane of `mask` has all bits set, 0 where it has none. The memory of those is not touched.
 *   vf_store_masked(p, mask, a) stores lanes in the same way. */
#ifndef SPARSE_SIMD_H
#define SPARSE_SIMD_H

#include <stdint.h>
#include <string.h>

#if !defined(SPARSE_LANES) || !defined(SPARSE_PRIMITIVES)
#error "SPARSE_LANES and SPARSE_PRIMITIVES come from isa.py through the compiler flags"
#endif

typedef float vf __attribute__((vector_size(4 * SPARSE_LANES)));
typedef int32_t vi __attribute__((vector_size(4 * SPARSE_LANES)));
typedef float vf_unaligned __attribute__((vector_size(4 * SPARSE_LANES), aligned(4), may_alias));

static inline vf vf_load(const float *p) { return *(const vf_unaligned *)p; }
static inline void vf_store(float *p, vf a) { *(vf_unaligned *)p = a; }
static inline vf vf_set(float a) { return a - (vf){0}; }
static inline vf vf_add(vf a, vf b) { return a + b; }
static inline vf vf_sub(vf a, vf b) { return a - b; }
static inline vf vf_mul(vf a, vf b) { return a * b; }
static inline vf vf_div(vf a, vf b) { return a / b; }
static inline vf vf_pick(vi mask, vf a, vf b) { return (vf)((mask & (vi)a) | (~mask & (vi)b)); }
static inline vf vf_abs(vf a) { return (vf)((vi)a & 0x7fffffff); }
/* Half to even, of |a| < 2^22: the sum has no bits below 1. */
static inline vf vf_rint(vf a) { return (a + 12582912.0f) - 12582912.0f; }
static inline vf vf_neg(vf a) { return (vf)((vi)a ^ (int32_t)0x80000000); }

#include SPARSE_PRIMITIVES

/* The same value, which stays in a register: gcc would else load it again for every multiply-add that has it as an operand. */
#if (SPARSE_LANES == 16 && defined(__AVX512F__)) || (SPARSE_LANES == 8 && defined(__AVX__)) || (SPARSE_LANES == 4 && defined(__SSE__))
static inline vf vf_kept(vf a) { __asm__("" : "+v"(a)); return a; }
#else
static inline vf vf_kept(vf a) { return a; }
#endif
/* vf_fma of a, the vector at p, and c, whose register the result takes: gcc would put it into that of `a` after its last use, and then lack a
 * register where a kernel has all of them. */
#if (SPARSE_LANES == 16 && defined(__AVX512F__)) || (SPARSE_LANES == 8 && defined(__FMA__))
static inline vf vf_fma_at(vf a, const float *p, vf c) {
    __asm__("vfmadd231ps %1, %2, %0" : "+v"(c) : "m"(*(const vf_unaligned *)p), "v"(a));
    return c;
}
#else
static inline vf vf_fma_at(vf a, const float *p, vf c) { return vf_fma(a, vf_load(p), c); }
#endif

/* Scalar twins of max and min, for loops that the compiler vectorises. */
static inline float f_max(float low, float a) { return low > a ? low : a; }
static inline float f_min(float high, float a) { return high < a ? high : a; }
static inline float f_rint(float a) { return (a + 12582912.0f) - 12582912.0f; }
/* One rounding on every instruction set: where there is no such instruction, a function of the C library. */
static inline float f_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

/* The list of(0), of(1), ... of(SPARSE_LANES - 1). */
#define EACH_OF_4(of, i) of((i)), of((i) + 1), of((i) + 2), of((i) + 3)
#if SPARSE_LANES == 4
#define EACH_LANE(of) EACH_OF_4(of, 0)
#elif SPARSE_LANES == 8
#define EACH_LANE(of) EACH_OF_4(of, 0), EACH_OF_4(of, 4)
#elif SPARSE_LANES == 16
#define EACH_LANE(of) EACH_OF_4(of, 0), EACH_OF_4(of, 4), EACH_OF_4(of, 8), EACH_OF_4(of, 12)
#else
#error "EACH_LANE lacks this number of lanes"
#endif

#ifdef __clang__
#define vf_shuffle(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define vf_shuffle(a, b, ...) __builtin_shuffle(a, b, (vi){__VA_ARGS__})
#endif
/* Every other element of two vectors, from the first or the second on, in the order in which they come out of the 128 bits of each:
 * for 8 lanes 0 2 8 10 4 6 12 14. Where a sum is made of such vectors, only the sum needs to be brought in order. */
#define EVEN_APART(i) ((i) / 4 * 4 + ((i) % 4 < 2 ? (i) % 4 * 2 : SPARSE_LANES + ((i) % 4 - 2) * 2))
#define ODD_APART(i) (EVEN_APART(i) + 1)
/* Where lane i of the result stands in such a vector: for 8 lanes 0 1 4 5 2 3 6 7. */
#define IN_ORDER(i) ((i) < SPARSE_LANES / 2 ? (i) / 2 * 4 + (i) % 2 : ((i) - SPARSE_LANES / 2) / 2 * 4 + (i) % 2 + 2)
static inline vf vf_evens_apart(vf a, vf b) { return vf_shuffle(a, b, EACH_LANE(EVEN_APART)); }
static inline vf vf_odds_apart(vf a, vf b) { return vf_shuffle(a, b, EACH_LANE(ODD_APART)); }
static inline vf vf_in_order(vf a) { return vf_shuffle(a, a, EACH_LANE(IN_ORDER)); }
static inline vf vf_evens(vf a, vf b) { return vf_in_order(vf_evens_apart(a, b)); }

/* All bits set in the lanes first..end-1. */
#define LANE(i) (i)
static inline vf vf_lanes(int64_t first, int64_t end) {
    const vi lane = {EACH_LANE(LANE)};
    const int32_t low = first < SPARSE_LANES ? (int32_t)first : SPARSE_LANES, high = end < SPARSE_LANES ? (int32_t)end : SPARSE_LANES;
    return (vf)((lane >= low) & (lane < high));
}

/* The sum of all lanes: halves are added until one is left. Likewise the largest; where a lane is NaN, that is NaN or the largest of some. */
#define OTHER_8(i) ((i) ^ 8)
#define OTHER_4(i) ((i) ^ 4)
#define OTHER_2(i) ((i) ^ 2)
#define OTHER_1(i) ((i) ^ 1)
static inline float vf_total(vf a) {
#if SPARSE_LANES > 8
    a += vf_shuffle(a, a, EACH_LANE(OTHER_8));
#endif
#if SPARSE_LANES > 4
    a += vf_shuffle(a, a, EACH_LANE(OTHER_4));
#endif
    a += vf_shuffle(a, a, EACH_LANE(OTHER_2));
    a += vf_shuffle(a, a, EACH_LANE(OTHER_1));
    return a[0];
}
static inline float vf_largest(vf a) {
#if SPARSE_LANES > 8
    a = vf_max(a, vf_shuffle(a, a, EACH_LANE(OTHER_8)));
#endif
#if SPARSE_LANES > 4
    a = vf_max(a, vf_shuffle(a, a, EACH_LANE(OTHER_4)));
#endif
    a = vf_max(a, vf_shuffle(a, a, EACH_LANE(OTHER_2)));
    a = vf_max(a, vf_shuffle(a, a, EACH_LANE(OTHER_1)));
    return a[0];
}

/* a in the lanes of such a mask, b in the others. */
static inline vf vf_within(vf lanes, vf a, vf b) { return vf_pick((vi)lanes, a, b); }

/* x[k[i]] in lane i. Scalar loads: on Zen 3 1.3 to 1.8 times as fast as a gather instruction, and on Zen 5 where x is near. Four k come by
 * one load, because loads limit. */
static inline vf vf_gather(const float *x, const uint16_t *k) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    uint64_t fours[SPARSE_LANES / 4];
    memcpy(fours, k, sizeof fours);
#define AT_K(i) x[fours[(i) / 4] >> 16 * ((i) % 4) & 0xFFFF]
#else
#define AT_K(i) x[k[i]]
#endif
    return (vf){EACH_LANE(AT_K)};
}

/* y[row[i] * n + j] = few[i * n + j] for each lane i and j < n. As a loop: unrolled, its addresses take the registers of the accumulators,
 * and gcc 12 then keeps those in memory (8 pixels on AVX-512: 92 instead of 70 us for 768x768, half zeros). */
static inline void store_parts(float *y, const int32_t *row, const float *few, int n) {
#pragma GCC unroll 1
    for (int i = 0; i < SPARSE_LANES; i++) memcpy(y + (int64_t)n * row[i], few + n * i, n * sizeof(float));
}

/* The first n < SPARSE_LANES values of a row, zeros after them. */
static inline vf vf_load_part(const float *p, int64_t n) {
    vf a = vf_set(0);
    memcpy(&a, p, n * sizeof(float));
    return a;
}
static inline void vf_store_part(float *p, vf a, int64_t n) { memcpy(p, &a, n * sizeof(float)); }

#include "math.h"
#endif
