// How many items of a sorted row come before the x-th one that is not in it.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace spotfast {

// How many of a row's values are <= x. The j-th value is row[j] - j, how many items that are not in the row are below
// row[j]; values ascend. Halves the row until what is left is worth counting; no step branches on values.
inline int32_t positives_before(const int32_t* row, int64_t count, int32_t x) {
    constexpr int32_t kCounted = 32;
    int32_t low = 0, length = static_cast<int32_t>(count);
    while (length > kCounted) {
        const int32_t half = length >> 1, probe = low + half - 1;
        low += half & -static_cast<int32_t>(row[probe] - probe <= x);
        length -= half;
    }
#if defined(__AVX2__)
    const __m256i eight = _mm256_set1_epi32(8), bound = _mm256_set1_epi32(x);
    __m256i place = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), before = _mm256_setzero_si256();
    const __m256i size = _mm256_set1_epi32(length), start = _mm256_set1_epi32(low);
    for (int32_t i = 0; i < kCounted; i += 8) {  // always as many, since how many there are cannot be predicted
        const __m256i exists = _mm256_cmpgt_epi32(size, place);
        const __m256i items = _mm256_maskload_epi32(row + low + i, exists);
        const __m256i values = _mm256_sub_epi32(items, _mm256_add_epi32(start, place));
        before = _mm256_sub_epi32(before, _mm256_andnot_si256(_mm256_cmpgt_epi32(values, bound), exists));
        place = _mm256_add_epi32(place, eight);
    }
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(before), _mm256_extracti128_si256(before, 1));
    const __m128i two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4E));
    return low + _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0xB1)));
#else
    int32_t before = 0;
    for (int32_t i = low; i < low + length; ++i) before += row[i] - i <= x;
    return low + before;
#endif
}

// The same for several bounds: before[i] belongs to x[i]. A long row is halved for all of them at once.
inline void positives_before(const int32_t* row, int64_t count, const int32_t* x, int bounds, int32_t* before) {
    std::fill_n(before, bounds, 0);
    if (count == 0) return;
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
