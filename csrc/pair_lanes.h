// Sums of products of 16-bit integers, several side by side: one SIMD register of 32-bit sums.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "lanes.h"

namespace spotfast {

#if defined(__AVX2__)

struct PairLanes {
    static constexpr int kSize = 8;
    __m256i value;

    static PairLanes zero() { return {_mm256_setzero_si256()}; }
    // One pair of numbers in every lane.
    static PairLanes all(const int16_t* pair) {
        int32_t bits;
        std::memcpy(&bits, pair, sizeof bits);
        return {_mm256_set1_epi32(bits)};
    }
    static PairLanes load(const int16_t* from) { return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))}; }
    // The nearest integers of consecutive floats, which must have 16 bits.
    static PairLanes rounded(Lanes first, Lanes second) {
        const __m256i mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(first.value), _mm256_cvtps_epi32(second.value));
        return {_mm256_permute4x64_epi64(mixed, 0xD8)};
    }
    void store(int16_t* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
    void store(int32_t* to) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
    // The same, but loaded once: compilers like to read it from memory again at each use.
    PairLanes in_register() const {
        PairLanes copy = *this;
#if defined(__GNUC__)
        asm("" : "+x"(copy.value));
#endif
        return copy;
    }
    // sums + the product of the first numbers + that of the second, in each lane; `this` and `other` hold pairs.
    PairLanes add_products(PairLanes other, PairLanes sums) const {
        return {_mm256_add_epi32(sums.value, _mm256_madd_epi16(value, other.value))};
    }
    // All bits of a lane where its sum is above the bound, else none.
    PairLanes above(int32_t bound) const { return {_mm256_cmpgt_epi32(value, _mm256_set1_epi32(bound))}; }
    friend PairLanes operator|(PairLanes a, PairLanes b) { return {_mm256_or_si256(a.value, b.value)}; }
    // One bit for each lane: its highest.
    uint32_t bits() const { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(value))); }
};

// Makes rows of columns: pair j of rows[i] and pair i of rows[j] change places.
inline void transpose(PairLanes (&rows)[PairLanes::kSize]) {
    Lanes same_bits[PairLanes::kSize];
    for (int i = 0; i < PairLanes::kSize; ++i) same_bits[i].value = _mm256_castsi256_ps(rows[i].value);
    transpose(same_bits);
    for (int i = 0; i < PairLanes::kSize; ++i) rows[i].value = _mm256_castps_si256(same_bits[i].value);
}

#else

// Left to the compiler: SSE2 on x86-64, NEON on aarch64.
struct PairLanes {
    static constexpr int kSize = 4;
    int32_t value[kSize];

    static PairLanes zero() { return {{0, 0, 0, 0}}; }
    // One pair of numbers in every lane.
    static PairLanes all(const int16_t* pair) {
        const int16_t pairs[2 * kSize] = {pair[0], pair[1], pair[0], pair[1], pair[0], pair[1], pair[0], pair[1]};
        return load(pairs);
    }
    static PairLanes load(const int16_t* from) {
        PairLanes lanes;
        std::memcpy(lanes.value, from, sizeof lanes.value);
        return lanes;
    }
    // The nearest integers of consecutive floats, which must have 16 bits.
    static PairLanes rounded(Lanes first, Lanes second) {
        int16_t numbers[2 * kSize];
        for (int i = 0; i < kSize; ++i) {
            numbers[i] = static_cast<int16_t>(std::lrint(first.value[i]));
            numbers[kSize + i] = static_cast<int16_t>(std::lrint(second.value[i]));
        }
        return load(numbers);
    }
    void store(int16_t* to) const { std::memcpy(to, value, sizeof value); }
    void store(int32_t* to) const { std::memcpy(to, value, sizeof value); }
    PairLanes in_register() const { return *this; }
    // sums + the product of the first numbers + that of the second, in each lane; `this` and `other` hold pairs.
    PairLanes add_products(PairLanes other, PairLanes sums) const {
        int16_t a[2 * kSize], b[2 * kSize];
        std::memcpy(a, value, sizeof a);
        std::memcpy(b, other.value, sizeof b);
        for (int i = 0; i < kSize; ++i) sums.value[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
        return sums;
    }
    // All bits of a lane where its sum is above the bound, else none.
    PairLanes above(int32_t bound) const {
        PairLanes lanes;
        for (int i = 0; i < kSize; ++i) lanes.value[i] = value[i] > bound ? -1 : 0;
        return lanes;
    }
    friend PairLanes operator|(PairLanes a, PairLanes b) {
        for (int i = 0; i < kSize; ++i) a.value[i] |= b.value[i];
        return a;
    }
    // One bit for each lane: its highest.
    uint32_t bits() const {
        uint32_t bits = 0;
        for (int i = 0; i < kSize; ++i) bits |= static_cast<uint32_t>(value[i] < 0) << i;
        return bits;
    }
};

// Makes rows of columns: pair j of rows[i] and pair i of rows[j] change places.
inline void transpose(PairLanes (&rows)[PairLanes::kSize]) {
    for (int i = 0; i < PairLanes::kSize; ++i) {
        for (int j = 0; j < i; ++j) std::swap(rows[i].value[j], rows[j].value[i]);
    }
}

#endif

// The place of the lowest bit that is set; there must be one.
inline int lowest_bit(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int place = 0;
    for (; (bits & 1) == 0; bits >>= 1) ++place;
    return place;
#endif
}

}  // namespace spotfast
