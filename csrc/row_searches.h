// Bisection of several rows side by side, so that their cache misses overlap.
#pragma once

#include <algorithm>
#include <cstdint>

#include "philox.h"

namespace spotfast {

// How many of a row's values are <= x, for several rows side by side, so that their cache misses overlap. The j-th
// value of a row is row[j] - j; they ascend.
struct RowSearches {
    static constexpr int32_t kEmpty = INT32_MAX;  // stands for a row without values: one that is too large

    const int32_t* rows[kDraws];
    int32_t low[kDraws], length[kDraws], x[kDraws];

    int lanes = 0;

    void add(const int32_t* row, int64_t count, int32_t bound) {
        rows[lanes] = count == 0 ? &kEmpty : row;
        low[lanes] = 0;
        length[lanes] = std::max<int32_t>(static_cast<int32_t>(count), 1);
        x[lanes++] = bound;
    }

    void run() {
        while (lanes % kSide != 0) add(nullptr, 0, 0);
        int32_t longest = *std::max_element(length, length + lanes);
        for (; longest > 1; longest -= longest >> 1) step();
        for (int lane = 0; lane < lanes; ++lane) {
            low[lane] += rows[lane][low[lane]] - low[lane] <= x[lane];
        }
    }

  private:
    static constexpr int kSide = 8;  // lanes of a register
    static_assert(kDraws % kSide == 0);

    // One step of a bisection for every lane: where the middle value is <= x, the lane goes right. No step branches on
    // data; a lane whose row is down to one value stands still.
    void step() {
#if defined(__AVX2__)
        for (int lane = 0; lane < lanes; lane += kSide) {
            const auto load = [&](const int32_t* from) {
                return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + lane));
            };
            const auto store = [&](int32_t* to, __m256i value) {
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + lane), value);
            };
            const __m256i half = _mm256_srli_epi32(load(length), 1);
            const __m256i moves = _mm256_cmpgt_epi32(half, _mm256_setzero_si256());  // -1 or 0
            const __m256i probe = _mm256_add_epi32(_mm256_add_epi32(load(low), half), moves);
            const auto gather = [&](int first, __m128i index) {  // rows[first + k][index[k]] for four lanes
                const auto* pointers = reinterpret_cast<const __m256i*>(rows + lane + first);
                const __m256i offsets = _mm256_slli_epi64(_mm256_cvtepi32_epi64(index), 2);
                const __m256i addresses = _mm256_add_epi64(_mm256_loadu_si256(pointers), offsets);
                return _mm256_i64gather_epi32(static_cast<const int*>(nullptr), addresses, 1);
            };
            const __m256i values = _mm256_set_m128i(gather(4, _mm256_extracti128_si256(probe, 1)),
                                                    gather(0, _mm256_castsi256_si128(probe)));
            const __m256i left = _mm256_cmpgt_epi32(_mm256_sub_epi32(values, probe), load(x));
            store(low, _mm256_add_epi32(load(low), _mm256_andnot_si256(left, half)));
            store(length, _mm256_sub_epi32(load(length), half));
        }
#else
        for (int lane = 0; lane < lanes; ++lane) {
            const int32_t half = length[lane] >> 1, probe = low[lane] + half - (half != 0);
            low[lane] += rows[lane][probe] - probe <= x[lane] ? half : 0;
            length[lane] -= half;
        }
#endif
    }
};

}  // namespace spotfast
