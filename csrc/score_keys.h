// 16-bit keys of scores: twice as many as scores fit in a register, and what is compared fits in bytes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "lanes.h"

namespace spotfast {

// Maps scores to keys such that a higher key means a higher score, whereas equal keys do not mean equal scores.
struct KeyScale {
    static constexpr float kLevels = 65000.0f;   // between `low` and `high`; scores beyond share few keys
    static constexpr float kLowest = -32768.0f;  // also the key of NaN
    static constexpr float kHighest = 32767.0f;
    static constexpr float kSpare = 200.0f;  // levels below `low`, and about as many above `high`
    static constexpr float kLeastShare = 1.0f / 512;

    static constexpr int16_t kNone = -32768;  // below all others

    float levels_per_unit, level_of_zero;

    // The span is never so small beside the numbers that rounding moves the levels by more than a few.
    KeyScale(float low, float high) {
        const float span = std::max({high - low, std::fabs(low) * kLeastShare, std::fabs(high) * kLeastShare, 1e-30f});
        levels_per_unit = kLevels / span;
        level_of_zero = kLowest + kSpare - low * levels_per_unit;
    }

    int16_t key(float score) const {
        const float level = multiply_add(Single{score}, Single{levels_per_unit}, Single{level_of_zero}).value;
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
    const Lanes factor = Lanes::all(scale.levels_per_unit), of_zero = Lanes::all(scale.level_of_zero);
    const __m256 highest = _mm256_set1_ps(KeyScale::kHighest);
    const auto wide_keys = [&](const float* from) {
        const Lanes levels = multiply_add(Lanes::load(from), factor, of_zero);
        // NaN, and what is too low, becomes the lowest number of 32 bits, and the lowest of 16 bits when packed.
        return _mm256_cvttps_epi32(_mm256_min_ps(highest, levels.value));
    };
    for (; i + 16 <= count; i += 16) {
        const __m256i packed = _mm256_packs_epi32(wide_keys(scores + i), wide_keys(scores + i + 8));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(keys + i), _mm256_permute4x64_epi64(packed, 0xD8));
    }
#endif
    for (; i < count; ++i) keys[i] = scale.key(scores[i]);
    for (; i % kKeyBlock != 0; ++i) keys[i] = KeyScale::kNone;
}

// above[j] += how many keys are above the j-th of kTargets targets. Calls visit(j, i) for every key i that is equal to
// it.
template <int kTargets, class Visit>
void compare_keys(const int16_t* keys, int64_t count, const int16_t* targets, int64_t* above, const Visit& visit) {
#if defined(__AVX2__)
    static_assert(kTargets <= 8, "as many as fit in half a register");
    // The saturated differences, as bytes, keep their sign and whether they are zero.
    __m256i target[kTargets], least = _mm256_set1_epi8(-1);
    int64_t more[kTargets] = {};
    for (int j = 0; j < kTargets; ++j) target[j] = _mm256_set1_epi16(targets[j]);
    for (int64_t i = 0; i < count; i += kKeyBlock) {
        const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i));
        const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(keys + i + 16));
        for (int j = 0; j < kTargets; ++j) {
            const __m256i bytes =
                _mm256_packs_epi16(_mm256_subs_epi16(target[j], first), _mm256_subs_epi16(target[j], second));
            least = _mm256_min_epu8(least, bytes);
            more[j] += __builtin_popcount(static_cast<uint32_t>(_mm256_movemask_epi8(bytes)));
        }
    }
    for (int j = 0; j < kTargets; ++j) above[j] += more[j];
    // Which places, of some block, hold a key that is equal to some target: most often none.
    auto zeros = static_cast<uint32_t>(_mm256_movemask_epi8(_mm256_cmpeq_epi8(least, _mm256_setzero_si256())));
    if (zeros == 0) return;
    int16_t wanted[8] = {};
    std::copy_n(targets, kTargets, wanted);
    const __m128i all = _mm_loadu_si128(reinterpret_cast<const __m128i*>(wanted));
    for (; zeros != 0; zeros &= zeros - 1) {
        const int byte = __builtin_ctz(zeros), place = (byte & 7) | (byte & 8) << 1 | (byte & 16) >> 1;  // packs swaps
        for (int64_t i = place; i < count; i += kKeyBlock) {
            const __m128i equal = _mm_cmpeq_epi16(all, _mm_set1_epi16(keys[i]));
            auto which = static_cast<uint32_t>(_mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128())));
            for (which &= (1u << kTargets) - 1; which != 0; which &= which - 1) visit(__builtin_ctz(which), i);
        }
    }
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
        if (same[j] == 0) continue;
        for (int64_t i = 0; i < count; ++i) {
            if (keys[i] == target[j]) visit(j, i);
        }
    }
#endif
}

}  // namespace spotfast
