#include "negatives.h"

#include <algorithm>

#include "parallel_for.h"
#include "philox.h"

namespace spotfast {

namespace {

constexpr int64_t kGrain = 1 << 14;  // draws per thread, at least

// Searches side by side, so that their cache misses overlap: how many of the values row[j] - j of a user's row are
// <= x. No step branches on data; lanes whose row is done stand still.
struct Searches {
    const int32_t* rows[kDraws];
    int32_t low[kDraws], length[kDraws], x[kDraws];

    void add(int lane, uint32_t word, int64_t user, int64_t num_items, const PositivesView& positives) {
        static const int32_t nothing = INT32_MAX;  // the row of users without positives
        const int64_t begin = positives.indptr[user], count = positives.indptr[user + 1] - begin;
        rows[lane] = count == 0 ? &nothing : positives.items + begin;
        low[lane] = 0;
        length[lane] = std::max<int32_t>(static_cast<int32_t>(count), 1);
        x[lane] = static_cast<int32_t>(below(word, num_items - count));
    }

    // Finds the items, one for each of the first `lanes`: the x-th that is left.
    void run(int lanes, int64_t* items) {
        int32_t longest = 1;
        for (int lane = 0; lane < lanes; ++lane) longest = std::max(longest, length[lane]);
        for (; longest > 1; longest -= longest >> 1) {
            for (int lane = 0; lane < lanes; ++lane) {
                const int32_t half = length[lane] >> 1, probe = low[lane] + half - (half != 0);
                low[lane] += rows[lane][probe] - probe <= x[lane] ? half : 0;
                length[lane] -= half;
            }
        }
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
            searches.add(i, words[i], users[sample], request.num_items, positives);
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
                    search.add(0, word, user, request.num_items, positives);
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
