/* Functions of vectors, built on simd.h alone: one copy for all instruction sets. */
#ifndef SPARSE_MATH_H
#define SPARSE_MATH_H

/* One step of Horner's rule for a polynomial in x: one FMA per coefficient. */
static inline vf vf_horner(vf p, vf x, float c) { return vf_fma(p, x, vf_set(c)); }

/* Splits x in [-87.3, 88.9] into n log 2 + r with |r| <= log(2) / 2 (Cody and Waite) and returns r: e^x = e^r 2^n. The low bits of
 * `shifted`, moved to the position of an exponent, are 2^n. NaN stays in r. */
static inline vf vf_reduced(vf x, vi *shifted) {
    const float magic = 12582912.0f + 127; /* 1.5 * 2^23 rounds to an integer in the low bits, 127 is the bias of exponents */
    vf s = vf_fma(x, vf_set(1.44269504088896341f), vf_set(magic)), minus_n = vf_set(magic) - s;
    *shifted = (vi)s;
    return vf_fma(minus_n, vf_set(-2.12194440e-4f), vf_fma(minus_n, vf_set(0.693359375f), x));
}
/* (e^r - 1) / r, off by less than 0.1 ulp of e^r (of least maximum error, by iterated least squares, as those that follow) */
static inline vf vf_expm1_over(vf r) {
    vf q = vf_set(1.381453942e-3f);
    q = vf_horner(q, r, 8.368745446e-3f);
    q = vf_horner(q, r, 4.166838899e-2f);
    q = vf_horner(q, r, 1.666652113e-1f);
    q = vf_horner(q, r, 4.999999404e-1f);
    return vf_horner(q, r, 1.0f);
}
/* e^x: 0 below -86.6, where results near the denormals begin, Inf above 88.7. NaN stays. */
static inline vf vf_exp(vf x) {
    vi shifted;
    vf r = vf_reduced(vf_max(vf_set(-86.64f), vf_min(vf_set(88.72283f), x)), &shifted);
    /* 2^(n - 1) * 2, so that n = 128 does not overflow the exponent on the way */
    vf y = vf_horner(vf_expm1_over(r), r, 1.0f) * (vf)((shifted - 1) << 23) * vf_set(2.0f);
    y = vf_pick(x < vf_set(-86.64f), vf_set(0), y);
    y = vf_pick(x > vf_set(88.72283f), vf_set(__builtin_inff()), y);
    return vf_pick(x != x, x, y);
}
/* The same for x <= 0. */
static inline vf vf_exp_below(vf x) {
    vi shifted;
    vf r = vf_reduced(vf_max(vf_set(-86.64f), x), &shifted);
    return vf_pick(x < vf_set(-86.64f), vf_set(0), vf_horner(vf_expm1_over(r), r, 1.0f) * (vf)(shifted << 23));
}
/* e^x - 1 for x <= 0, without cancellation near 0. NaN stays. */
static inline vf vf_expm1_below(vf x) {
    vi shifted;
    vf r = vf_reduced(vf_max(vf_set(-87.0f), vf_min(vf_set(0), x)), &shifted), power = (vf)(shifted << 23);
    return vf_fma(r * vf_expm1_over(r), power, power - vf_set(1.0f));
}
/* 1 + e^x. e^x stops at e^-87, becomes Inf from 88.4 on, where the exponent ends, and is off by up to 0.9 ulp: its polynomial has one term
 * less than above, which saves a tenth of SiLU's time. */
static inline vf vf_one_plus_exp(vf x) {
    vi shifted;
    vf r = vf_reduced(vf_max(vf_set(-87.0f), vf_min(vf_set(88.9f), x)), &shifted);
    vf p = vf_set(8.312501013e-3f);
    p = vf_horner(p, r, 4.189033061e-2f);
    p = vf_horner(p, r, 1.666711569e-1f);
    p = vf_horner(p, r, 4.999923110e-1f);
    p = vf_horner(p, r, 1.0f);
    p = vf_horner(p, r, 1.0f);
    return vf_fma(p, (vf)(shifted << 23), vf_set(1.0f));
}
/* log(1 + x) for x in [0, 1]: the series of 2 atanh(s) with s = x / (2 + x) <= 1/3; its term of (s^2)^9 is below float32's precision. */
static inline vf vf_log1p(vf x) {
    vf s = x / (x + vf_set(2.0f)), z = s * s;
    vf p = vf_set(1.0f / 15.0f);
    p = vf_horner(p, z, 1.0f / 13.0f);
    p = vf_horner(p, z, 1.0f / 11.0f);
    p = vf_horner(p, z, 1.0f / 9.0f);
    p = vf_horner(p, z, 1.0f / 7.0f);
    p = vf_horner(p, z, 1.0f / 5.0f);
    p = vf_horner(p, z, 1.0f / 3.0f);
    s = s + s;
    return vf_fma(p * z, s, s);
}
static inline vf vf_sigmoid(vf x) { return vf_set(1.0f) / vf_one_plus_exp(vf_neg(x)); }
/* x / (1 + e^(-alpha x)). Where alpha is 1 the sign of x is in the coefficients, and one constant is enough for log 2: what its product with
 * n loses is relative to x, while the result is off by as much of x / 2 for every ulp of x. That takes 0.18 instead of 0.22 ns on AVX2. */
static inline vf vf_silu(vf x, vf alpha) {
    if (alpha[0] != 1.0f) return x / vf_one_plus_exp(vf_neg(alpha) * x);
    const float magic = 12582912.0f + 127; /* as in vf_reduced */
    vf t = vf_max(vf_set(-88.9f), vf_min(vf_set(87.0f), x));
    vf s = vf_fma(t, vf_set(-1.44269504088896341f), vf_set(magic)), r = vf_fma(vf_set(magic) - s, vf_set(-0.69314718056f), t);
    vf p = vf_set(-8.312501013e-3f);
    p = vf_horner(p, r, 4.189033061e-2f);
    p = vf_horner(p, r, -1.666711569e-1f);
    p = vf_horner(p, r, 4.999923110e-1f);
    p = vf_horner(p, r, -1.0f);
    p = vf_horner(p, r, 1.0f);
    return x / vf_fma(p, (vf)((vi)s << 23), vf_set(1.0f));
}
static inline vf vf_tanh(vf x) {
    /* odd polynomial below 0.625 (Cephes tanhf), where 1 - 2/(e^2x + 1) would cancel */
    vf s = x * x, p = vf_set(-5.70498872745e-3f);
    p = vf_horner(p, s, 2.06390887954e-2f);
    p = vf_horner(p, s, -5.37397155531e-2f);
    p = vf_horner(p, s, 1.33314422036e-1f);
    p = vf_horner(p, s, -3.33332819422e-1f);
    p = vf_fma(p * s, x, x);
    vf q = vf_set(1.0f) - vf_set(2.0f) / vf_one_plus_exp(x + x);
    return vf_pick(s < vf_set(0.390625f), p, q);
}
static inline vf vf_erf(vf x) {
    /* x + x P(x^2) for t < 0.93; else 1 - erfc(t) with log erfc(t) = t Q(t), whose leading coefficient takes it to -Inf. Both polynomials
     * have least maximum error, by iterated least squares; about 1 ulp. */
    vf t = vf_abs(x), s = x * x;
    vf p = vf_set(-5.953781074e-4f);
    p = vf_horner(p, s, 4.985949956e-3f);
    p = vf_horner(p, s, -2.676172741e-2f);
    p = vf_horner(p, s, 1.128168255e-1f);
    p = vf_horner(p, s, -3.761247993e-1f);
    p = vf_horner(p, s, 1.283791512e-1f);
    p = vf_fma(p, x, x);
    vf q = vf_set(-1.142329256e-5f);
    q = vf_horner(q, t, 3.247260174e-4f);
    q = vf_horner(q, t, -3.650276922e-3f);
    q = vf_horner(q, t, 2.377860248e-2f);
    q = vf_horner(q, t, -1.062560901e-1f);
    q = vf_horner(q, t, -6.351397038e-1f);
    q = vf_horner(q, t, -1.128651381e+00f);
    q = vf_neg(vf_expm1_below(q * t));
    q = vf_pick(x < vf_set(0), vf_neg(q), q);
    return vf_pick(t < vf_set(0.93f), p, q);
}
static inline vf vf_sqrt(vf x) {
    for (int i = 0; i < SPARSE_LANES; i++) x[i] = __builtin_sqrtf(x[i]);
    return x;
}
/* What nets compute of few numbers, such as positions: lane by lane, by the C library, which is as exact for large angles. */
static inline vf vf_log(vf x) {
    for (int i = 0; i < SPARSE_LANES; i++) x[i] = __builtin_logf(x[i]);
    return x;
}
static inline vf vf_sin(vf x) {
    for (int i = 0; i < SPARSE_LANES; i++) x[i] = __builtin_sinf(x[i]);
    return x;
}
static inline vf vf_cos(vf x) {
    for (int i = 0; i < SPARSE_LANES; i++) x[i] = __builtin_cosf(x[i]);
    return x;
}
static inline vf vf_elu(vf x, vf alpha, vf beta) { return vf_pick(x < vf_set(0), alpha * vf_expm1_below(x), beta * x); }
static inline vf vf_celu(vf x, vf alpha, vf beta) { return vf_pick(x < vf_set(0), alpha * vf_expm1_below(x * beta), x); }
/* x tanh(log(1 + e^x)), which is x n / (n + 2) with n = e^x (e^x + 2): 1 in float32 from e^20 on. */
static inline vf vf_mish(vf x) {
    vf e = vf_exp(vf_min(vf_set(20.0f), x)), n = e * (e + vf_set(2.0f));
    return x * (n / (n + vf_set(2.0f)));
}
/* x to the power of an integer, the same in all lanes, by squaring. */
static inline vf vf_power(vf x, vf exponent) {
    int n = (int)exponent[0];
    vf y = vf_set(1.0f);
    for (int k = n < 0 ? -n : n; k; k >>= 1) {
        if (k & 1) y = y * x;
        x = x * x;
    }
    return n < 0 ? vf_set(1.0f) / y : y;
}
static inline vf vf_softplus(vf x) { return vf_max(vf_set(0), x) + vf_log1p(vf_exp(vf_neg(vf_abs(x)))); }
static inline vf vf_softsign(vf x) { return x / (vf_set(1.0f) + vf_abs(x)); }
/* x above the threshold, else 0. NaN is not above. */
static inline vf vf_above(vf x, vf threshold) { return vf_pick(x > threshold, x, vf_set(0)); }
static inline vf vf_leaky(vf x, vf alpha) { return vf_pick(x < vf_set(0), alpha * x, x); }
/* x / scale clamped to the 256 numbers from `low` on, half to even; `low` of NaN. */
static inline vf vf_quantized(vf x, vf scale, vf low) {
    vf a = x / scale;
    return vf_rint(vf_min(low + vf_set(255.0f), vf_max(low, vf_pick(a == a, a, low))));
}
static inline vf vf_unit(vf x) { return vf_min(vf_set(1.0f), vf_max(vf_set(0), x)); }
static inline vf vf_gelu_erf(vf x) {
    /* x / 2 + x E with E = erf(x / sqrt 2) / 2 = t P(u). t is x up to 5.42, where t P has just passed 1/2; u = t^2 is scaled to [-1, 1],
     * where P has small coefficients. P has least maximum error up to 5.4, by iterated least squares. The result is off by 1.2 ulp of the
     * larger of x and y, 1.4 without FMA. */
    vf t = vf_max(vf_set(-5.42f), vf_min(vf_set(5.42f), x)), u = vf_fma(t * t, vf_set(6.8587106e-2f), vf_set(-1.0f));
    vf p = vf_set(3.928472579e-04f);
    p = vf_horner(p, u, -1.028365572e-03f);
    p = vf_horner(p, u, 8.749716217e-04f);
    p = vf_horner(p, u, -1.186420093e-03f);
    p = vf_horner(p, u, 3.658873728e-03f);
    p = vf_horner(p, u, -6.715327036e-03f);
    p = vf_horner(p, u, 9.651226923e-03f);
    p = vf_horner(p, u, -1.396332588e-02f);
    p = vf_horner(p, u, 1.964513399e-02f);
    p = vf_horner(p, u, -2.574645542e-02f);
    p = vf_horner(p, u, 3.211659566e-02f);
    p = vf_horner(p, u, -3.920681402e-02f);
    p = vf_horner(p, u, 4.849959165e-02f);
    p = vf_horner(p, u, -6.532805413e-02f);
    p = vf_horner(p, u, 1.309281141e-01f);
    return vf_fma(x, vf_max(vf_set(-0.5f), vf_min(vf_set(0.5f), p * t)), vf_set(0.5f) * x);
}
static inline vf vf_gelu_tanh(vf x) {
    return vf_set(0.5f) * x * (vf_set(1.0f) + vf_tanh(vf_set(0.79788456080286536f) * vf_fma(vf_set(0.044715f) * x * x, x, x)));
}
#endif
