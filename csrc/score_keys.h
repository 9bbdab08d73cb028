// 16-bit keys of scores: twice as many as scores fit in a register, and what is compared fits in bytes.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace spotfast {

// Maps scores to keys such that a higher key means a higher score, whereas equal keys do not mean equal scores.
struct KeyScale {
    static constexpr float kLevels = 65000.0f;   // between `low` and `high`; scores beyond share few keys
    static constexpr float kLowest = -32768.0f;  // also the key of NaN
    static constexpr float kHighest = 32767.0f;

    float low, levels_per_unit;

    KeyScale(float low, float high) : low(low), levels_per_unit(kLevels / std::max(high - low, 1e-30f)) {}

    int16_t key(float score) const {
        const float level = (score - low) * levels_per_unit + (kLowest + 1.0f);
        const float from_lowest = level > kLowest ? level : kLowest;  // NaN is not above it
        return static_cast<int16_t>(from_lowest < kHighest ? from_lowest : kHighest);
    }
};

// Keys are compared in blocks; the last one is filled up with the lowest key.
constexpr int64_t kKeyBlock = 32;

// keys[i] = scale.key(scores[i]), in whole blocks, for which there must be room.
inline void score_keys(const float* scores, int64_t count, const KeyScale& scale, int16_t* keys) {
    int64_t i = 0;
#if defined(__AVX2__)  // compilers do this with three times as many instructions
    const __m256 low = _mm256_set1_ps(scale.low), factor = _mm256_set1_ps(scale.levels_per_unit);
    const __m256 lowest = _mm256_set1_ps(KeyScale::kLowest + 1.0f), highest = _mm256_set1_ps(KeyScale::kHighest);
    const auto wide_keys = [&](const float* from) {
        const __m256 above_low = _mm256_sub_ps(_mm256_loadu_ps(from), low);
        const __m256 levels = _mm256_add_ps(_mm256_mul_ps(above_low, factor), lowest);
        // NaN, and what is too low, becomes the lowest number of 32 bits, and the lowest of 16 bits when packed.
        return _mm256_cvttps_epi32(_mm256_min_ps(highest, levels));
    };
    for (; i + 16 <= count; i += 16) {
        const __m256i packed = _mm256_packs_epi32(wide_keys(scores + i), wide_keys(scores + i + 8));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(keys + i), _mm256_permute4x64_epi64(packed, 0xD8));
    }
#endif
    for (; i < count; ++i) keys[i] = scale.key(scores[i]);
    for (; i % kKeyBlock != 0; ++i) keys[i] = static_cast<int16_t>(KeyScale::kLowest);
}

// above[j] += how many keys are above the j-th target. Returns a set bit for each target that is among the keys.
template <int kTargets>
uint32_t compare_keys(const int16_t* keys, int64_t count, const int16_t* targets, int64_t* above) {
    uint32_t found = 0;
#if defined(__AVX2__)
    // The saturated differences, as bytes, keep their sign and whether they are zero.
    __m256i target[kTargets], differences[kTargets];
    int64_t more[kTargets] = {};
    for (int j = 0; j < kTargets; ++j) {
        target[j] = _mm256_set1_epi16(targets[j]);
        differences[j] = _mm256_set1_epi8(-1);
    }
    for (int64_t i = 0; i < count; i += kKeyBlock) {
        const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i));
        const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i + 16));
        for (int j = 0; j < kTargets; ++j) {
            const __m256i bytes =
                _mm256_packs_epi16(_mm256_subs_epi16(target[j], first), _mm256_subs_epi16(target[j], second));
            differences[j] = _mm256_min_epu8(differences[j], bytes);
            more[j] += __builtin_popcount(static_cast<uint32_t>(_mm256_movemask_epi8(bytes)));
        }
    }
    const auto has_zero = [](__m256i bytes) {
        return _mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256())) != 0;
    };
    __m256i least = differences[0];
    for (int j = 0; j < kTargets; ++j) {
        above[j] += more[j];
        least = _mm256_min_epu8(least, differences[j]);
    }
    if (!has_zero(least)) return 0;  // as most often
    for (int j = 0; j < kTargets; ++j) found |= static_cast<uint32_t>(has_zero(differences[j])) << j;
#else
    // Sums as narrow as the keys are what makes SIMD worth it: there are at most INT16_MAX keys.
    int16_t target[kTargets], more[kTargets] = {}, same[kTargets] = {};
    for (int j = 0; j < kTargets; ++j) target[j] = targets[j];
    for (int64_t i = 0; i < count; ++i) {
        const int16_t key = keys[i];
        for (int j = 0; j < kTargets; ++j) {
            more[j] = static_cast<int16_t>(more[j] + (key > target[j]));
            same[j] = static_cast<int16_t>(same[j] | (key == target[j]));
        }
    }
    for (int j = 0; j < kTargets; ++j) {
        above[j] += more[j];
        found |= static_cast<uint32_t>(same[j]) << j;
    }
#endif
    return found;
}

// Calls visit(i) for the places of a key, in ascending order.
template <class Visit>
void find_key(const int16_t* keys, int64_t count, int16_t key, const Visit& visit) {
#if defined(__AVX2__)
    const __m256i wanted = _mm256_set1_epi16(key);
    const auto equal = [&](const int16_t* from) {
        return _mm256_cmpeq_epi16(wanted, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
    };
    for (int64_t i = 0; i < count; i += kKeyBlock) {
        const __m256i bytes = _mm256_packs_epi16(equal(keys + i), equal(keys + i + 16));
        auto bits = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_permute4x64_epi64(bytes, 0xD8)));
        for (; bits != 0; bits &= bits - 1) visit(i + __builtin_ctz(bits));
    }
#else
    for (int64_t i = 0; i < count; ++i) {
        if (keys[i] == key) visit(i);
    }
#endif
}

}  // namespace spotfast
