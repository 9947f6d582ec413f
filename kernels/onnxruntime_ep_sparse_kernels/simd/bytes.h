/* Vectors of bytes for the kernels of quantised products, carried as `vi`: SPARSE_LANES times four bytes, or so many int32.
 *
 * The compiler flags of a row of isa.py define SPARSE_BYTE_PRIMITIVES, the header in this folder with the primitives.
 *
 * A header of byte primitives defines these functions and no others (tests/kernels/test_isas.py compares them):
 *   vi_dp4(acc, x, w)        in each lane acc + the sum of four products of an unsigned byte of x and a signed byte of w. The two products of
 *                            bytes 0 and 1, and of bytes 2 and 3, must add up to what 16 bits hold: the packing sees to that
 *                            (quantised.pyx), and then all instruction sets give equal bits.
 *   vi_windows(p)            in lane i the four bytes from p + i on. Nothing is read from p + 4 * SPARSE_LANES on, or from p + 16 on.
 *   vi_zip_low8(a, b)        within each 128 bits, the lower bytes of a and b in turn. Likewise vi_zip_high8(a, b), and vi_zip_low16(a, b)
 *                            and vi_zip_high16(a, b) of 16 bits.
 *   vi_pack16(a, b)          16-bit numbers up to 255 as bytes: within each 128 bits those of a, then b.
 *   vi_round_bytes(a, b, c, d, zero)  floats up to 2^30 as bytes: rounded half to even, plus the int16 in every half of `zero`, at least 0
 *                            and at most 255. Within each 128 bits those of a, then b, c, d.
 *   vi_max8(a, b), vi_min8(a, b)  the larger and the smaller of unsigned bytes.
 *   vi_look_up(y, x, table, steps)  stores for each byte of a vector at x its entry of the 256 in `table`, of which look_up_steps has made
 *                            `steps`.
 *   vf_load_bytes(p)         unsigned bytes from p on as floats.
 *   vf_fma_once(a, b, c)     a * b + c with one rounding, on every instruction set: where double holds the exact result. */
#ifndef SPARSE_BYTES_H
#define SPARSE_BYTES_H

#include "simd.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#ifndef SPARSE_BYTE_PRIMITIVES
#error "SPARSE_BYTE_PRIMITIVES comes from isa.py through the compiler flags"
#endif

/* Pixels of a unit: one byte each fills a vector, one int32 each fills four. */
enum { UNIT = 4 * SPARSE_LANES, QUARTERS = SPARSE_LANES / 4 };

typedef int32_t vi_unaligned __attribute__((vector_size(4 * SPARSE_LANES), aligned(1), may_alias));

static inline vi vi_load(const void *p) { return *(const vi_unaligned *)p; }
static inline void vi_store(void *p, vi a) { *(vi_unaligned *)p = a; }
static inline vi vi_set(int32_t a) { return a - (vi){0}; }
static inline vi vi_set8(int32_t a) { return vi_set((int32_t)(0x1010101u * (uint8_t)a)); }
static inline vi vi_and(vi a, vi b) { return a & b; }
static inline vi vi_xor(vi a, vi b) { return a ^ b; }
static inline vf vf_from_int(vi a) { return __builtin_convertvector(a, vf); }

#include SPARSE_BYTE_PRIMITIVES

/* Unsigned bytes as floats less `origin` - 2^23, exactly: those of vi_round_bytes(a, b, c, d). A byte is the last one of 2^23 + byte. */
static inline void vf_from_bytes(vi bytes, vf origin, vf *a, vf *b, vf *c, vf *d) {
    const vi none = vi_set(0), above = vi_set(0x4b004b00);
    vi low = vi_zip_low8(bytes, none), high = vi_zip_high8(bytes, none);
    *a = (vf)vi_zip_low16(low, above) - origin;
    *b = (vf)vi_zip_high16(low, above) - origin;
    *c = (vf)vi_zip_low16(high, above) - origin;
    *d = (vf)vi_zip_high16(high, above) - origin;
}

/* Rows of 16 entries of a table of 256, each XOR the row before it, within either half: the entry of a byte x is the XOR of those entries of
 * its half's rows, up to the row of x, that stand where x is in its row. */
static inline void look_up_steps(uint8_t *steps, const uint8_t *table) {
    typedef uint8_t v8x16 __attribute__((vector_size(16)));
    v8x16 before = {0}, row;
    for (int k = 0; k < 16; k++) {
        memcpy(&row, table + 16 * k, 16);
        if (k == 8) before = before ^ before;
        before ^= row;
        memcpy(steps + 16 * k, &before, 16);
        before = row;
    }
}

/* The scaled sums of a unit as bytes, divided by `divisor` before they are rounded.
 * Beyond 2^30 a float would not fit int32; far below 0 it becomes the least int32, which is right. */
static inline vi vi_quantised(vi a, vi b, vi c, vi d, vf scale, float divisor, vi zero) {
    const vf most = vf_set(1073741824.0f), by = vf_set(divisor);
    vf p = vf_from_int(a) * scale, q = vf_from_int(b) * scale, r = vf_from_int(c) * scale, s = vf_from_int(d) * scale;
    if (divisor != 1.0f) p /= by, q /= by, r /= by, s /= by;
    return vi_round_bytes(vf_min(most, p), vf_min(most, q), vf_min(most, r), vf_min(most, s), zero);
}

/* The bytes of vi_round_bytes(a, b, c, d) in the order of all of a, then b, c, d. */
#define PACKED_FROM(i) (4 * ((i) % QUARTERS) + (i) / QUARTERS)
static inline vi vi_packed_in_order(vi a) { return (vi)vf_shuffle((vf)a, (vf)a, EACH_LANE(PACKED_FROM)); }

/* Four vectors of bytes, each of another channel, as int32 with a byte of each: within 128 bits pixels 0..3 in `a`, 4..7 in `b` .... */
static inline void vi_zip4(vi *a, vi *b, vi *c, vi *d) {
    vi low01 = vi_zip_low8(*a, *b), high01 = vi_zip_high8(*a, *b), low23 = vi_zip_low8(*c, *d), high23 = vi_zip_high8(*c, *d);
    *a = vi_zip_low16(low01, low23);
    *b = vi_zip_high16(low01, low23);
    *c = vi_zip_low16(high01, high23);
    *d = vi_zip_high16(high01, high23);
}
/* All bits of the last n bytes, n <= UNIT. */
static inline vi vi_last_bytes(int64_t n) {
    static const uint8_t bytes[128] = {[64 ... 127] = 255};
    return vi_load(bytes + 64 - UNIT + n);
}
/* Every other byte of two vectors, from the first one on. */
static inline vi vi_evens8(vi a, vi b) { return (vi)vf_in_order((vf)vi_pack16(a & 0xff00ff, b & 0xff00ff)); }
/* Stores one of these four in the order of pixels; `v` says which. */
static inline void vi_store_zipped(int32_t *y, vi a, int v) {
    for (int q = 0; q < QUARTERS; q++) memcpy(y + 16 * q + 4 * v, (const char *)&a + 16 * q, 16);
}
static inline void vf_store_zipped(float *y, vf a, int v) { vi_store_zipped((int32_t *)y, (vi)a, v); }

/* Stores two vectors of which each 128 bits of `low`, then those of `high`, hold the next four int32. */
static inline void vi_store_pairs(int32_t *y, vi low, vi high) {
    for (int q = 0; q < QUARTERS; q++) {
        memcpy(y + 8 * q, (const char *)&low + 16 * q, 16);
        memcpy(y + 8 * q + 4, (const char *)&high + 16 * q, 16);
    }
}
/* Copies rows, of each those of 16 bytes that `kept` has bits of, and writes those of `padding` in the place of the others. */
static inline void copy_rows_below16(uint8_t *y, int64_t y_step, const uint8_t *x, int64_t x_step, int64_t rows, const uint8_t *kept,
                                     const uint8_t *padding) {
    typedef uint64_t v64x2 __attribute__((vector_size(16)));
    v64x2 a, k, p;
    memcpy(&k, kept, 16);
    memcpy(&p, padding, 16);
    for (int64_t r = 0; r < rows; r++) {
        memcpy(&a, x + r * x_step, 16);
        a = (a & k) | p;
        memcpy(y + r * y_step, &a, 16);
    }
}
/* Copies rows of n < 16 bytes, which follow each other in y. All but the last ones are copied with what follows them; the next row
 * overwrites that. Returns how many are copied. */
static inline int64_t copy_rows_together(uint8_t *y, const uint8_t *x, int64_t x_step, int64_t rows, int64_t n) {
    int64_t r = 0;
    if (n <= 8) for (; r < rows && (rows - r) * n >= 8; r++) memcpy(y + r * n, x + r * x_step, 8);
    else for (; r < rows && (rows - r) * n >= 16; r++) memcpy(y + r * n, x + r * x_step, 16);
    return r;
}

/* Copies the first and the last k of n bytes, which may overlap; all are read before any is written. */
static inline void copy_both_ends(uint8_t *y, const uint8_t *x, int64_t n, int k) {
    uint8_t first[8], last[8];
    memcpy(first, x, k);
    memcpy(last, x + n - k, k);
    memcpy(y, first, k);
    memcpy(y + n - k, last, k);
}
/* Copies n bytes, and touches no others. */
static inline void copy_bytes(uint8_t *y, const uint8_t *x, int64_t n) {
    int64_t i = 0;
    if (n >= UNIT) {
        for (; i + UNIT <= n; i += UNIT) vi_store(y + i, vi_load(x + i));
        if (i < n) vi_store(y + n - UNIT, vi_load(x + n - UNIT));
    } else if (n >= 16) {
        for (; i + 16 <= n; i += 16) memcpy(y + i, x + i, 16);
        memcpy(y + n - 16, x + n - 16, 16);
    } else if (n >= 8) {
        copy_both_ends(y, x, n, 8);
    } else if (n >= 4) {
        copy_both_ends(y, x, n, 4);
    } else {
        for (; i < n; i++) y[i] = x[i];
    }
}
/* Every other byte of 2n from x on, n = 8 or 16, from the first or the second one. */
static inline void copy_every_other(uint8_t *y, const uint8_t *x, int n, int first) {
    typedef uint16_t v16x8 __attribute__((vector_size(16)));
    typedef uint8_t v8x16 __attribute__((vector_size(16)));
    v16x8 a = {0}, b = {0};
    v8x16 even;
    memcpy(&a, x, 16);
    if (n == 16) memcpy(&b, x + 16, 16);
    a = first ? a >> 8 : a & 0xff;
    b = first ? b >> 8 : b & 0xff;
#ifdef __SSE2__
    even = (v8x16)_mm_packus_epi16((__m128i)a, (__m128i)b);
#else
    for (int i = 0; i < 8; i++) {
        even[i] = (uint8_t)a[i];
        even[i + 8] = (uint8_t)b[i];
    }
#endif
    memcpy(y, &even, n);
}
/* Copies every `stride`-th byte of x; n are written, and none is read before the first or after the last one. */
static inline void copy_strided(uint8_t *restrict y, const uint8_t *restrict x, int64_t n, int64_t stride) {
    int64_t i = 0;
    /* the last vector ends where x ends: it has the odd bytes from one before its first pixel on */
    if (stride == 2 && n > 16) {
        for (; i + 16 < n; i += 16) copy_every_other(y + i, x + 2 * i, 16, 0);
        copy_every_other(y + n - 16, x + 2 * (n - 16) - 1, 16, 1);
        return;
    }
    if (stride == 2 && n > 8) {
        copy_every_other(y, x, 8, 0);
        copy_every_other(y + n - 8, x + 2 * (n - 8) - 1, 8, 1);
        return;
    }
    for (; i < n; i++) y[i] = x[stride * i];
}
/* The transposed square of 16 x 16 bytes, one in each 128 bits. */
static inline void vi_transpose16(vi *restrict v) {
    vi u[16];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 8; i++) {
            u[2 * i] = vi_zip_low8(v[i], v[i + 8]);
            u[2 * i + 1] = vi_zip_high8(v[i], v[i + 8]);
        }
        for (int i = 0; i < 8; i++) {
            v[2 * i] = vi_zip_low8(u[i], u[i + 8]);
            v[2 * i + 1] = vi_zip_high8(u[i], u[i + 8]);
        }
    }
}
/* The vector with n bytes of rows `first`, first + 16, ... < rows, 16 bytes of a vector each; the last row for those beyond. */
static inline vi vi_load_rows(const uint8_t *x, int64_t stride, int64_t first, int64_t rows, int64_t n) {
    vi a = vi_set(0);
    for (int q = 0; q < QUARTERS; q++) {
        int64_t row = first + 16 * q < rows ? first + 16 * q : rows - 1;
        if (n >= 16) memcpy((char *)&a + 16 * q, x + row * stride, 16);
        else memcpy((char *)&a + 16 * q, x + row * stride, n);
    }
    return a;
}
static inline void vi_store_rows(uint8_t *y, int64_t stride, vi a, int64_t first, int64_t rows, int64_t n) {
    for (int q = 0; q < QUARTERS; q++) {
        int64_t row = first + 16 * q;
        if (row >= rows) return;
        if (n >= 16) memcpy(y + row * stride, (const char *)&a + 16 * q, 16);
        else memcpy(y + row * stride, (const char *)&a + 16 * q, n);
    }
}
#endif
