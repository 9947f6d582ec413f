/* Byte primitives for any CPU and any number of lanes; of SSE2 where vectors have 128 bits and the compiler may use it. bytes.h says what
 * each one must do. */
typedef int16_t v16 __attribute__((vector_size(4 * SPARSE_LANES)));
typedef uint16_t v16u __attribute__((vector_size(4 * SPARSE_LANES)));

#if defined(__SSE2__) && SPARSE_LANES == 4
#include <emmintrin.h>

/* SSE2 lacks pmaddubsw: even and odd bytes are multiplied as 16 bits. */
static inline vi vi_dp4(vi acc, vi x, vi w) {
    v16 even = (v16)_mm_madd_epi16((__m128i)((v16)x & 0xff), (__m128i)((v16)w << 8 >> 8));
    return acc + (vi)even + (vi)_mm_madd_epi16((__m128i)((v16u)x >> 8), (__m128i)((v16)w >> 8));
}
static inline vi vi_zip_low8(vi a, vi b) { return (vi)_mm_unpacklo_epi8((__m128i)a, (__m128i)b); }
static inline vi vi_zip_high8(vi a, vi b) { return (vi)_mm_unpackhi_epi8((__m128i)a, (__m128i)b); }
static inline vi vi_zip_low16(vi a, vi b) { return (vi)_mm_unpacklo_epi16((__m128i)a, (__m128i)b); }
static inline vi vi_zip_high16(vi a, vi b) { return (vi)_mm_unpackhi_epi16((__m128i)a, (__m128i)b); }
static inline vi vi_pack_bytes(vi a, vi b, vi c, vi d) {
    return (vi)_mm_packus_epi16(_mm_packs_epi32((__m128i)a, (__m128i)b), _mm_packs_epi32((__m128i)c, (__m128i)d));
}
#else
static inline vi vi_dp4(vi acc, vi x, vi w) {
    v16 pairs = ((v16)x & 0xff) * ((v16)w << 8 >> 8) + (v16)((v16u)x >> 8) * ((v16)w >> 8);
    return acc + ((vi)pairs << 16 >> 16) + ((vi)pairs >> 16);
}
/* Elements of `size` bytes from byte `first` of each 128 bits on, of a and b in turn. */
static inline vi vi_zip(vi a, vi b, int first, int size) {
    vi y;
    for (int i = 0; i < 4 * SPARSE_LANES; i += 2 * size) {
        int from = i / 16 * 16 + first + i % 16 / 2;
        memcpy((char *)&y + i, (const char *)&a + from, size);
        memcpy((char *)&y + i + size, (const char *)&b + from, size);
    }
    return y;
}
static inline vi vi_zip_low8(vi a, vi b) { return vi_zip(a, b, 0, 1); }
static inline vi vi_zip_high8(vi a, vi b) { return vi_zip(a, b, 8, 1); }
static inline vi vi_zip_low16(vi a, vi b) { return vi_zip(a, b, 0, 2); }
static inline vi vi_zip_high16(vi a, vi b) { return vi_zip(a, b, 8, 2); }
static inline vi vi_pack_bytes(vi a, vi b, vi c, vi d) {
    const vi parts[4] = {a, b, c, d};
    uint8_t y[4 * SPARSE_LANES];
    for (int i = 0; i < 4 * SPARSE_LANES; i++) y[i] = (uint8_t)parts[i % 16 / 4][i / 16 * 4 + i % 4];
    return vi_load(y);
}
#endif
