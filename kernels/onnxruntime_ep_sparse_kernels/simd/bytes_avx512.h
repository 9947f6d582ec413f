/* Byte primitives of AVX-512 (BW), with VNNI where the flags allow it. bytes.h says what each one must do. */
#if SPARSE_LANES != 16
#error "AVX-512 has 16 lanes"
#endif

static inline vi vi_dp4(vi acc, vi x, vi w) {
#ifdef __AVX512VNNI__
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)x, (__m512i)w);
#else
    return acc + (vi)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)x, (__m512i)w), _mm512_set1_epi16(1));
#endif
}
static inline vi vi_windows(const uint8_t *p) {
    const __m512i words = _mm512_setr_epi32(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6);
    const __m512i quarters = _mm512_permutexvar_epi32(words, _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)p)));
    return (vi)_mm512_shuffle_epi8(quarters, _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6)));
}
static inline vi vi_zip_low8(vi a, vi b) { return (vi)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b); }
static inline vi vi_zip_high8(vi a, vi b) { return (vi)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b); }
static inline vi vi_zip_low16(vi a, vi b) { return (vi)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
static inline vi vi_zip_high16(vi a, vi b) { return (vi)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
static inline vi vi_pack16(vi a, vi b) { return (vi)_mm512_packus_epi16((__m512i)a, (__m512i)b); }
static inline vi vi_round_bytes(vf a, vf b, vf c, vf d, vi zero) {
    const __m512i ab = _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)a), _mm512_cvtps_epi32((__m512)b));
    const __m512i cd = _mm512_packs_epi32(_mm512_cvtps_epi32((__m512)c), _mm512_cvtps_epi32((__m512)d));
    return (vi)_mm512_packus_epi16(_mm512_adds_epi16(ab, (__m512i)zero), _mm512_adds_epi16(cd, (__m512i)zero));
}
static inline vi vi_max8(vi a, vi b) { return (vi)_mm512_max_epu8((__m512i)a, (__m512i)b); }
static inline vi vi_min8(vi a, vi b) { return (vi)_mm512_min_epu8((__m512i)a, (__m512i)b); }
/* A shuffle gives 0 where bit 7 of its index is set: for rows after that of the byte, and for all rows of the other half. */
static inline void vi_look_up(uint8_t *y, const uint8_t *x, const uint8_t *table, const uint8_t *steps) {
    const vi a = vi_load(x);
    const __m512i row = _mm512_set1_epi8(16);
    __m512i below = (__m512i)a, above = (__m512i)(a ^ (int32_t)0x80808080), low = (__m512i){0}, high = low;
    for (int k = 0; k < 8; k++) {
        low ^= _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)steps + k)), below);
        high ^= _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)steps + 8 + k)), above);
        below = _mm512_subs_epi8(below, row);
        above = _mm512_subs_epi8(above, row);
    }
    vi_store(y, (vi)(low ^ high));
}
static inline vf vf_load_bytes(const uint8_t *p) {
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline vf vf_fma_once(vf a, vf b, vf c) { return vf_fma(a, b, c); }
