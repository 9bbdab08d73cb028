// A few floats computed side by side: one SIMD register of the instruction set that the file is compiled for.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace spotfast {

#if defined(__AVX2__)

struct Lanes {
    static constexpr int kSize = 8;
    __m256 value;

    static Lanes all(float x) { return {_mm256_set1_ps(x)}; }
    static Lanes load(const float* from) { return {_mm256_loadu_ps(from)}; }
    void store(float* to) const { _mm256_storeu_ps(to, value); }
    // Whole numbers that have 16 bits.
    void store(int16_t* to) const {
        const __m256i whole = _mm256_cvtps_epi32(value);
        const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to), packed);
    }
    // The same, but loaded once: compilers like to read it from memory again at each use, and loads are what binds.
    Lanes in_register() const {
        Lanes copy = *this;
#if defined(__GNUC__)
        asm("" : "+x"(copy.value));
#endif
        return copy;
    }
    friend Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.value, b.value)}; }
    friend Lanes operator-(Lanes a, Lanes b) { return {_mm256_sub_ps(a.value, b.value)}; }
    friend Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.value, b.value)}; }
    friend Lanes operator/(Lanes a, Lanes b) { return {_mm256_div_ps(a.value, b.value)}; }
    // a * b + c, and c - a * b: one rounding where the instruction set has it.
    friend Lanes multiply_add(Lanes a, Lanes b, Lanes c) { return {_mm256_fmadd_ps(a.value, b.value, c.value)}; }
    friend Lanes subtract_product(Lanes c, Lanes a, Lanes b) { return {_mm256_fnmadd_ps(a.value, b.value, c.value)}; }
    friend Lanes square_root(Lanes a) { return {_mm256_sqrt_ps(a.value)}; }
    // The same, with zero where the magnitude is below the limit. A NaN stays.
    friend Lanes zero_below(Lanes a, Lanes limit) {
        const __m256 magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.value);
        return {_mm256_and_ps(a.value, _mm256_cmp_ps(magnitude, limit.value, _CMP_NLT_UQ))};
    }
    friend Lanes magnitude(Lanes a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.0f), a.value)}; }
    // Whether a <= b in all lanes; not where one is NaN.
    friend bool all_at_most(Lanes a, Lanes b) {
        return _mm256_movemask_ps(_mm256_cmp_ps(a.value, b.value, _CMP_LE_OQ)) == 0xFF;
    }
    // The sum of all lanes, always in the same order.
    float sum() const {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
};

// Makes rows of columns: rows[i][j] and rows[j][i] change places.
inline void transpose(Lanes (&rows)[Lanes::kSize]) {
    __m256 pairs[8], fours[8];
    for (int i = 0; i < 8; i += 2) {  // of each half: numbers of two rows by turns
        pairs[i] = _mm256_unpacklo_ps(rows[i].value, rows[i + 1].value);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i].value, rows[i + 1].value);
    }
    for (int i = 0; i < 8; i += 4) {  // of four rows
        fours[i] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0x44);
        fours[i + 1] = _mm256_shuffle_ps(pairs[i], pairs[i + 2], 0xEE);
        fours[i + 2] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0x44);
        fours[i + 3] = _mm256_shuffle_ps(pairs[i + 1], pairs[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
        rows[i].value = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20);
        rows[i + 4].value = _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31);
    }
}

#else

// Left to the compiler: SSE2 on x86-64, NEON on aarch64.
struct Lanes {
    static constexpr int kSize = 4;
    float value[kSize];

    template <class Function>
    static Lanes each(const Function& function) {
        Lanes result;
        for (int i = 0; i < kSize; ++i) result.value[i] = function(i);
        return result;
    }
    static Lanes all(float x) { return {{x, x, x, x}}; }
    static Lanes load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
    void store(float* to) const {
        for (int i = 0; i < kSize; ++i) to[i] = value[i];
    }
    // Whole numbers that have 16 bits.
    void store(int16_t* to) const {
        for (int i = 0; i < kSize; ++i) to[i] = static_cast<int16_t>(value[i]);
    }
    Lanes in_register() const { return *this; }
    friend Lanes operator+(Lanes a, Lanes b) {
        return each([&](int i) { return a.value[i] + b.value[i]; });
    }
    friend Lanes operator-(Lanes a, Lanes b) {
        return each([&](int i) { return a.value[i] - b.value[i]; });
    }
    friend Lanes operator*(Lanes a, Lanes b) {
        return each([&](int i) { return a.value[i] * b.value[i]; });
    }
    friend Lanes operator/(Lanes a, Lanes b) {
        return each([&](int i) { return a.value[i] / b.value[i]; });
    }
    // a * b + c, and c - a * b: one rounding where the instruction set has it.
    friend Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
        return each([&](int i) { return a.value[i] * b.value[i] + c.value[i]; });
    }
    friend Lanes subtract_product(Lanes c, Lanes a, Lanes b) {
        return each([&](int i) { return c.value[i] - a.value[i] * b.value[i]; });
    }
    friend Lanes square_root(Lanes a) {
        return each([&](int i) { return std::sqrt(a.value[i]); });
    }
    // The same, with zero where the magnitude is below the limit. A NaN stays.
    friend Lanes zero_below(Lanes a, Lanes limit) {
        return each([&](int i) { return std::fabs(a.value[i]) < limit.value[i] ? 0.0f : a.value[i]; });
    }
    friend Lanes magnitude(Lanes a) {
        return each([&](int i) { return std::fabs(a.value[i]); });
    }
    // Whether a <= b in all lanes; not where one is NaN.
    friend bool all_at_most(Lanes a, Lanes b) {
        return a.value[0] <= b.value[0] && a.value[1] <= b.value[1] && a.value[2] <= b.value[2] &&
               a.value[3] <= b.value[3];
    }
    // The sum of all lanes, always in the same order.
    float sum() const { return (value[0] + value[2]) + (value[1] + value[3]); }
};

// Makes rows of columns: rows[i][j] and rows[j][i] change places.
inline void transpose(Lanes (&rows)[Lanes::kSize]) {
    for (int i = 0; i < Lanes::kSize; ++i) {
        for (int j = 0; j < i; ++j) std::swap(rows[i].value[j], rows[j].value[i]);
    }
}

#endif

// One float with the same operations and the same roundings: for what is left of a row, and for biases.
struct Single {
    static constexpr int kSize = 1;
    float value;

    static Single all(float x) { return {x}; }
    static Single load(const float* from) { return {*from}; }
    void store(float* to) const { *to = value; }
    void store(int16_t* to) const { *to = static_cast<int16_t>(value); }
    friend Single operator+(Single a, Single b) { return {a.value + b.value}; }
    friend Single operator-(Single a, Single b) { return {a.value - b.value}; }
    friend Single operator*(Single a, Single b) { return {a.value * b.value}; }
    friend Single operator/(Single a, Single b) { return {a.value / b.value}; }
#if defined(__FMA__)
    friend Single multiply_add(Single a, Single b, Single c) { return {std::fma(a.value, b.value, c.value)}; }
    friend Single subtract_product(Single c, Single a, Single b) { return {std::fma(-a.value, b.value, c.value)}; }
#else
    friend Single multiply_add(Single a, Single b, Single c) { return {a.value * b.value + c.value}; }
    friend Single subtract_product(Single c, Single a, Single b) { return {c.value - a.value * b.value}; }
#endif
    friend Single square_root(Single a) { return {std::sqrt(a.value)}; }
    friend Single zero_below(Single a, Single limit) { return {std::fabs(a.value) < limit.value ? 0.0f : a.value}; }
    float sum() const { return value; }
};

// Asks for the cache lines of `bytes` from here on; it does nothing where the compiler has no such instruction. Those
// that will be written are asked for as this core's own.
enum class Prefetch { read, write, second_level };
template <Prefetch kind = Prefetch::read>
inline void prefetch(const void* from, int64_t bytes) {
#if defined(__GNUC__)
    constexpr int kWrite = kind == Prefetch::write, kLocality = kind == Prefetch::second_level ? 2 : 3;
    for (int64_t offset = 0; offset < bytes; offset += 64) {
        __builtin_prefetch(static_cast<const char*>(from) + offset, kWrite, kLocality);
    }
#else
    (void)from;
    (void)bytes;
#endif
}

}  // namespace spotfast
