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
static inline vf vf_fma_once(vf a, vf b, vf c) { return vf_fma(a, b, c); }
