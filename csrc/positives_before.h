// How many items of a sorted row come before the x-th one that is not in it, for several x: before[i] belongs to x[i].
//
// These are the row's values that are <= x, where the j-th value is row[j] - j, how many items that are not in the row
// are below row[j]; values ascend. No step branches on values.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace spotfast {

constexpr int kBounds = 16;  // compared with a value side by side

// Compares all bounds with all values, which is best for a short row. `x` and `before` have room for kBounds - 1 more:
// whole groups are read and written.
inline void count_positives_before(const int32_t* row, int64_t count, const int32_t* x, int bounds, int32_t* before) {
    for (const int32_t* end = x + bounds; x < end; x += kBounds, before += kBounds) {
#if defined(__AVX2__)
        const auto load = [](const int32_t* from) {
            return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
        };
        const auto store = [](int32_t* to, __m256i value) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value);
        };
        const __m256i one = _mm256_set1_epi32(1), all = _mm256_set1_epi32(static_cast<int32_t>(count));
        __m256i low = load(x), high = load(x + 8);  // plus j
        __m256i below_low = all, below_high = all;  // but for the values that are seen to be larger
        for (int64_t j = 0; j < count; ++j) {
            const __m256i item = _mm256_set1_epi32(row[j]);
            below_low = _mm256_add_epi32(below_low, _mm256_cmpgt_epi32(item, low));
            below_high = _mm256_add_epi32(below_high, _mm256_cmpgt_epi32(item, high));
            low = _mm256_add_epi32(low, one);
            high = _mm256_add_epi32(high, one);
        }
        store(before, below_low);
        store(before + 8, below_high);
#else
        std::fill_n(before, kBounds, 0);
        for (int64_t j = 0; j < count; ++j) {
            for (int i = 0; i < kBounds; ++i) before[i] += row[j] - j <= x[i];
        }
#endif
    }
}

// Halves the row, which is not empty, for all bounds at once: best for a long one that is in cache.
inline void positives_before(const int32_t* row, int64_t count, const int32_t* x, int bounds, int32_t* before) {
    std::fill_n(before, bounds, 0);
    auto length = static_cast<int32_t>(count);
    for (; length > 1; length -= length >> 1) {
        const int32_t half = length >> 1;
        for (int i = 0; i < bounds; ++i) {
            const int32_t probe = before[i] + half - 1;
            before[i] += row[probe] - probe <= x[i] ? half : 0;
        }
    }
    for (int i = 0; i < bounds; ++i) before[i] += row[before[i]] - before[i] <= x[i];
}

}  // namespace spotfast
