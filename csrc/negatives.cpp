#include "negatives.h"

#include <algorithm>

#include "parallel_for.h"
#include "philox.h"

namespace spotfast {

namespace {

constexpr int64_t kGrain = 1 << 14;  // draws per thread, at least

const int32_t kNoPositives = INT32_MAX;  // stands for the row of users without positives

// One step of a bisection for every lane: where a row's middle value row[j] - j is <= x, the lane goes right. No step
// branches on data; a lane whose row is down to one value stands still.
inline void bisect(const int32_t* const* rows, int32_t* low, int32_t* length, const int32_t* x) {
#if defined(__AVX2__)
    for (int lane = 0; lane < kDraws; lane += 8) {
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
        const __m256i values =
            _mm256_set_m128i(gather(4, _mm256_extracti128_si256(probe, 1)), gather(0, _mm256_castsi256_si128(probe)));
        const __m256i left = _mm256_cmpgt_epi32(_mm256_sub_epi32(values, probe), load(x));
        store(low, _mm256_add_epi32(load(low), _mm256_andnot_si256(left, half)));
        store(length, _mm256_sub_epi32(load(length), half));
    }
#else
    for (int lane = 0; lane < kDraws; ++lane) {
        const int32_t half = length[lane] >> 1, probe = low[lane] + half - (half != 0);
        low[lane] += rows[lane][probe] - probe <= x[lane] ? half : 0;
        length[lane] -= half;
    }
#endif
}

// Searches side by side, so that their cache misses overlap: how many of the values row[j] - j of a user's row are <=
// x.
struct Searches {
    const int32_t* rows[kDraws];
    int32_t low[kDraws], length[kDraws], x[kDraws];

    Searches() {  // lanes that are not used must be readable all the same
        std::fill(rows, rows + kDraws, &kNoPositives);
        std::fill(low, low + kDraws, 0);
        std::fill(length, length + kDraws, 1);
        std::fill(x, x + kDraws, 0);
    }

    void set(int lane, uint32_t word, int64_t user, int64_t num_items, const PositivesView& positives) {
        const int64_t begin = positives.indptr[user], count = positives.indptr[user + 1] - begin;
        rows[lane] = count == 0 ? &kNoPositives : positives.items + begin;
        length[lane] = std::max<int32_t>(static_cast<int32_t>(count), 1);
        x[lane] = static_cast<int32_t>(below(word, num_items - count));
    }

    // Finds the items, one for each of the first `lanes`: the x-th that is left.
    void run(int lanes, int64_t* items) {
        int32_t longest = *std::max_element(length, length + kDraws);
        for (; longest > 1; longest -= longest >> 1) bisect(rows, low, length, x);
        for (int lane = 0; lane < lanes; ++lane) {
            const int32_t last = rows[lane][low[lane]] - low[lane] <= x[lane];
            items[lane] = int64_t{x[lane]} + low[lane] + last;
        }
    }
};

bool is_positive(int64_t item, int64_t user, const PositivesView& positives) {
    return std::binary_search(positives.items + positives.indptr[user], positives.items + positives.indptr[user + 1],
                              static_cast<int32_t>(item));
}

// Calls visit(first, words, count) for the draws of the request in groups, on several threads; `first` counts
// from the request's first draw.
template <class Visit>
void for_request(const NegativesRequest& request, int threads, const Visit& visit) {
    const DrawKey key{request.seed, request.epoch, Stream::negatives};
    const uint64_t origin = static_cast<uint64_t>(request.start) * request.slots;
    const int64_t count = (request.stop - request.start) * request.slots;
    parallel_for(count, threads, kGrain,
                 [&](int64_t begin, int64_t end) { for_draws(key, origin, begin, end, visit); });
}

}  // namespace

void uniform_negatives(const NegativesRequest& request, int64_t first_item, int threads, int64_t* out) {
    const uint64_t range = request.num_items - first_item;
    for_request(request, threads, [&](int64_t first, const uint32_t* words, int size) {
        for (int i = 0; i < size; ++i) out[first + i] = first_item + below(words[i], range);
    });
}

void unseen_negatives(const NegativesRequest& request, const int64_t* users, const PositivesView& positives,
                      int threads, int64_t* out) {
    for_request(request, threads, [&](int64_t first, const uint32_t* words, int size) {
        Searches searches;
        int64_t sample = first / request.slots, slot = first % request.slots;
        for (int i = 0; i < size; ++i) {
            searches.set(i, words[i], users[sample], request.num_items, positives);
            if (++slot == request.slots) {
                slot = 0;
                ++sample;
            }
        }
        searches.run(size, out + first);
    });
}

void popularity_negatives(const NegativesRequest& request, const uint32_t* thresholds, const int64_t* users,
                          const PositivesView& positives, int threads, int64_t* out) {
    const uint32_t* last = thresholds + request.num_items - 1;
    const uint64_t origin = static_cast<uint64_t>(request.start) * request.slots;
    DrawKey base{request.seed, request.epoch, Stream::negatives};
    for_request(request, threads, [&](int64_t first, const uint32_t* words, int size) {
        for (int i = 0; i < size; ++i) {
            const int64_t user = users[(first + i) / request.slots];
            DrawKey key = base;
            uint32_t word = words[i];
            int64_t item = std::upper_bound(thresholds, last, word) - thresholds;
            while (is_positive(item, user, positives)) {
                ++key.attempt;
                word = draw(key, origin + first + i);
                if (key.attempt == kPopularityAttempts) {
                    Searches search;
                    search.set(0, word, user, request.num_items, positives);
                    search.run(1, &item);
                    break;
                }
                item = std::upper_bound(thresholds, last, word) - thresholds;
            }
            out[first + i] = item;
        }
    });
}

}  // namespace spotfast
