// 16-bit keys of scores: twice as many as scores are compared at once.
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

// keys[i] = scale.key(scores[i]).
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
}

}  // namespace spotfast
