// A few 32-bit integers computed side by side: one SIMD register of the instruction set that the file is compiled for.
//
// They are sums, or each is a word: two numbers of 16 bits, or four of 8 bits, which are multiplied with those of
// another word.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define SPOTFAST_SSE2
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#define SPOTFAST_NEON
#endif

namespace spotfast {

#if defined(__AVX2__)

struct IntegerLanes {
    static constexpr int kSize = 8;
    __m256i value;

    static IntegerLanes all(int32_t x) { return {_mm256_set1_epi32(x)}; }
    static IntegerLanes load(const int32_t* from) {
        return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
    }
    void store(int32_t* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
    // The same, but loaded once: compilers like to read it from memory again at each use.
    IntegerLanes in_register() const {
        IntegerLanes copy = *this;
#if defined(__GNUC__)
        asm("" : "+x"(copy.value));
#endif
        return copy;
    }
    friend IntegerLanes operator&(IntegerLanes a, IntegerLanes b) { return {_mm256_and_si256(a.value, b.value)}; }
    // A bit for each lane: whether it is negative.
    uint32_t negative() const { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(value))); }
    // sums + the product of the first numbers + that of the second, in each lane, of words of two numbers.
    friend IntegerLanes add_products(IntegerLanes a, IntegerLanes b, IntegerLanes sums) {
        return {_mm256_add_epi32(sums.value, _mm256_madd_epi16(a.value, b.value))};
    }
};

#elif defined(SPOTFAST_SSE2)

struct IntegerLanes {
    static constexpr int kSize = 4;
    __m128i value;

    static IntegerLanes all(int32_t x) { return {_mm_set1_epi32(x)}; }
    static IntegerLanes load(const int32_t* from) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))}; }
    void store(int32_t* to) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value); }
    IntegerLanes in_register() const { return *this; }
    friend IntegerLanes operator&(IntegerLanes a, IntegerLanes b) { return {_mm_and_si128(a.value, b.value)}; }
    uint32_t negative() const { return static_cast<uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(value))); }
    friend IntegerLanes add_products(IntegerLanes a, IntegerLanes b, IntegerLanes sums) {
        return {_mm_add_epi32(sums.value, _mm_madd_epi16(a.value, b.value))};
    }
};

#elif defined(SPOTFAST_NEON)

struct IntegerLanes {
    static constexpr int kSize = 4;
    int32x4_t value;

    static IntegerLanes all(int32_t x) { return {vdupq_n_s32(x)}; }
    static IntegerLanes load(const int32_t* from) { return {vld1q_s32(from)}; }
    void store(int32_t* to) const { vst1q_s32(to, value); }
    IntegerLanes in_register() const { return *this; }
    friend IntegerLanes operator&(IntegerLanes a, IntegerLanes b) { return {vandq_s32(a.value, b.value)}; }
    uint32_t negative() const {
        constexpr int32_t kPlaces[kSize] = {0, 1, 2, 3};
        const uint32x4_t signs = vshrq_n_u32(vreinterpretq_u32_s32(value), 31);
        return vaddvq_u32(vshlq_u32(signs, vld1q_s32(kPlaces)));
    }
    friend IntegerLanes add_products(IntegerLanes a, IntegerLanes b, IntegerLanes sums) {
        const int16x8_t x = vreinterpretq_s16_s32(a.value), y = vreinterpretq_s16_s32(b.value);
        const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y)), high = vmull_high_s16(x, y);
        return {vaddq_s32(sums.value, vpaddq_s32(low, high))};
    }
};

#else

struct IntegerLanes {
    static constexpr int kSize = 4;
    int32_t value[kSize];

    static IntegerLanes all(int32_t x) { return {{x, x, x, x}}; }
    static IntegerLanes load(const int32_t* from) { return {{from[0], from[1], from[2], from[3]}}; }
    void store(int32_t* to) const { std::memcpy(to, value, sizeof value); }
    IntegerLanes in_register() const { return *this; }
    friend IntegerLanes operator&(IntegerLanes a, IntegerLanes b) {
        for (int i = 0; i < kSize; ++i) a.value[i] &= b.value[i];
        return a;
    }
    uint32_t negative() const {
        uint32_t bits = 0;
        for (int i = 0; i < kSize; ++i) bits |= static_cast<uint32_t>(value[i] < 0) << i;
        return bits;
    }
    friend IntegerLanes add_products(IntegerLanes a, IntegerLanes b, IntegerLanes sums) {
        int16_t x[2 * kSize], y[2 * kSize];
        std::memcpy(x, a.value, sizeof x);
        std::memcpy(y, b.value, sizeof y);
        for (int i = 0; i < kSize; ++i) sums.value[i] += x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
        return sums;
    }
};

#endif

}  // namespace spotfast
