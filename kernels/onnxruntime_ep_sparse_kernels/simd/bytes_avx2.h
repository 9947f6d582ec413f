/* Byte primitives of AVX2, with AVX-VNNI where the flags allow it. bytes.h says what each one must do. */
#if SPARSE_LANES != 8
#error "AVX2 has 8 lanes"
#endif

static inline vi vi_dp4(vi acc, vi x, vi w) {
#ifdef __AVXVNNI__
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)x, (__m256i)w);
#else
    return acc + (vi)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)x, (__m256i)w), _mm256_set1_epi16(1));
#endif
}
static inline vi vi_windows(const uint8_t *p) {
    const __m256i from = _mm256_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6, 4, 5, 6, 7, 5, 6, 7, 8, 6, 7, 8, 9, 7, 8, 9, 10);
    return (vi)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)), from);
}
static inline vi vi_zip_low8(vi a, vi b) { return (vi)_mm256_unpacklo_epi8((__m256i)a, (__m256i)b); }
static inline vi vi_zip_high8(vi a, vi b) { return (vi)_mm256_unpackhi_epi8((__m256i)a, (__m256i)b); }
static inline vi vi_zip_low16(vi a, vi b) { return (vi)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
static inline vi vi_zip_high16(vi a, vi b) { return (vi)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
static inline vi vi_pack16(vi a, vi b) { return (vi)_mm256_packus_epi16((__m256i)a, (__m256i)b); }
static inline vi vi_round_bytes(vf a, vf b, vf c, vf d, vi zero) {
    const __m256i ab = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)a), _mm256_cvtps_epi32((__m256)b));
    const __m256i cd = _mm256_packs_epi32(_mm256_cvtps_epi32((__m256)c), _mm256_cvtps_epi32((__m256)d));
    return (vi)_mm256_packus_epi16(_mm256_adds_epi16(ab, (__m256i)zero), _mm256_adds_epi16(cd, (__m256i)zero));
}
static inline vi vi_max8(vi a, vi b) { return (vi)_mm256_max_epu8((__m256i)a, (__m256i)b); }
static inline vi vi_min8(vi a, vi b) { return (vi)_mm256_min_epu8((__m256i)a, (__m256i)b); }
/* A shuffle gives 0 where bit 7 of its index is set: for rows after that of the byte, and for all rows of the other half. */
static inline void vi_look_up(uint8_t *y, const uint8_t *x, const uint8_t *table, const uint8_t *steps) {
    const vi a = vi_load(x);
    const __m256i row = _mm256_set1_epi8(16);
    __m256i below = (__m256i)a, above = (__m256i)(a ^ (int32_t)0x80808080), low = (__m256i){0}, high = low;
    for (int k = 0; k < 8; k++) {
        low ^= _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)steps + k)), below);
        high ^= _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)steps + 8 + k)), above);
        below = _mm256_subs_epi8(below, row);
        above = _mm256_subs_epi8(above, row);
    }
    vi_store(y, (vi)(low ^ high));
}
static inline vf vf_load_bytes(const uint8_t *p) {
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
static inline vf vf_fma_once(vf a, vf b, vf c) { return vf_fma(a, b, c); }
