/* Byte primitives for any CPU and any number of lanes; of SSE2 where vectors have 128 bits and the compiler may use it. bytes.h says what
 * each one must do. */
typedef int16_t v16 __attribute__((vector_size(4 * SPARSE_LANES)));
typedef uint16_t v16u __attribute__((vector_size(4 * SPARSE_LANES)));

static inline void vi_look_up(uint8_t *y, const uint8_t *x, const uint8_t *table, const uint8_t *steps) {
    for (int i = 0; i < 4 * SPARSE_LANES; i++) y[i] = table[x[i]];
}
static inline vf vf_fma_once(vf a, vf b, vf c) {
    typedef double vd __attribute__((vector_size(8 * SPARSE_LANES)));
    return __builtin_convertvector(__builtin_convertvector(a, vd) * __builtin_convertvector(b, vd) + __builtin_convertvector(c, vd), vf);
}

static inline vi vi_windows(const uint8_t *p) {
    vi y;
    for (int i = 0; i < SPARSE_LANES; i++) memcpy((char *)&y + 4 * i, p + i, 4);
    return y;
}
#if defined(__SSE2__) && SPARSE_LANES == 4
/* SSE2 lacks pmaddubsw: even and odd bytes are multiplied as 16 bits. */
static inline vi vi_dp4(vi acc, vi x, vi w) {
    v16 even = (v16)_mm_madd_epi16((__m128i)((v16)x & 0xff), (__m128i)((v16)w << 8 >> 8));
    return acc + (vi)even + (vi)_mm_madd_epi16((__m128i)((v16u)x >> 8), (__m128i)((v16)w >> 8));
}
static inline vi vi_zip_low8(vi a, vi b) { return (vi)_mm_unpacklo_epi8((__m128i)a, (__m128i)b); }
static inline vi vi_zip_high8(vi a, vi b) { return (vi)_mm_unpackhi_epi8((__m128i)a, (__m128i)b); }
static inline vi vi_zip_low16(vi a, vi b) { return (vi)_mm_unpacklo_epi16((__m128i)a, (__m128i)b); }
static inline vi vi_zip_high16(vi a, vi b) { return (vi)_mm_unpackhi_epi16((__m128i)a, (__m128i)b); }
static inline vi vi_pack16(vi a, vi b) { return (vi)_mm_packus_epi16((__m128i)a, (__m128i)b); }
static inline vi vi_round_bytes(vf a, vf b, vf c, vf d, vi zero) {
    const __m128i ab = _mm_packs_epi32(_mm_cvtps_epi32((__m128)a), _mm_cvtps_epi32((__m128)b));
    const __m128i cd = _mm_packs_epi32(_mm_cvtps_epi32((__m128)c), _mm_cvtps_epi32((__m128)d));
    return (vi)_mm_packus_epi16(_mm_adds_epi16(ab, (__m128i)zero), _mm_adds_epi16(cd, (__m128i)zero));
}
static inline vi vi_max8(vi a, vi b) { return (vi)_mm_max_epu8((__m128i)a, (__m128i)b); }
static inline vi vi_min8(vi a, vi b) { return (vi)_mm_min_epu8((__m128i)a, (__m128i)b); }
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
static inline vi vi_pack16(vi a, vi b) {
    vi y;
    for (int i = 0; i < 4 * SPARSE_LANES; i++) ((uint8_t *)&y)[i] = (uint8_t)((v16)(i % 16 < 8 ? a : b))[i / 16 * 8 + i % 8];
    return y;
}
/* The sum with 1.5 * 2^23 has the rounded integer in its low bits. */
static inline vi vi_round_bytes(vf a, vf b, vf c, vf d, vi zero) {
    const float magic = 12582912.0f, far = 65536.0f;
    const vf parts[4] = {a, b, c, d};
    uint8_t y[4 * SPARSE_LANES];
    for (int k = 0; k < 4; k++) {
        vf near = vf_min(vf_set(far), vf_max(vf_set(-far), parts[k]));
        vi whole = (vi)(near + vf_set(magic)) - (vi)vf_set(magic) + (zero << 16 >> 16);
        for (int i = 0; i < SPARSE_LANES; i++)
            y[i / 4 * 16 + 4 * k + i % 4] = (uint8_t)(whole[i] < 0 ? 0 : whole[i] > 255 ? 255 : whole[i]);
    }
    return vi_load(y);
}
typedef uint8_t v8u __attribute__((vector_size(4 * SPARSE_LANES)));
static inline vi vi_max8(vi a, vi b) {
    v8u larger = (v8u)((v8u)a > (v8u)b);
    return (vi)(((v8u)a & larger) | ((v8u)b & ~larger));
}
static inline vi vi_min8(vi a, vi b) {
    v8u smaller = (v8u)((v8u)a < (v8u)b);
    return (vi)(((v8u)a & smaller) | ((v8u)b & ~smaller));
}
#endif
static inline vf vf_load_bytes(const uint8_t *p) {
    vi a = vi_set(0);
    memcpy(&a, p, SPARSE_LANES);
#if SPARSE_LANES == 4
    a = vi_zip_low16(vi_zip_low8(a, vi_set(0)), vi_set(0));
#else
    for (int i = 0; i < SPARSE_LANES; i++) a[i] = p[i];
#endif
    return vf_from_int(a);
}
