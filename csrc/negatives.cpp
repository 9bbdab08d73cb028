#include "negatives.h"

#include <algorithm>

#include "parallel_for.h"
#include "philox.h"

namespace spotfast {

namespace {

constexpr int64_t kGrain = 1 << 14;  // draws per thread, at least

// A search for x among the values items[j] - j of one user's row: how many are <= x.
struct Search {
    const int32_t* low;
    const int32_t* row;
    int64_t length;
    int64_t x;

    bool step() {
        if (length == 0) return false;
        const int64_t half = length >> 1;
        const int32_t* middle = low + half;
        const bool right = *middle - (middle - row) <= x;
        low = right ? middle + 1 : low;
        length = right ? length - half - 1 : half;
        return true;
    }

    int64_t item() const { return x + (low - row); }
};

Search unseen_search(uint32_t word, int64_t user, int64_t num_items, const PositivesView& positives) {
    const int32_t* row = positives.items + positives.indptr[user];
    const int64_t count = positives.indptr[user + 1] - positives.indptr[user];
    return {row, row, count, below(word, num_items - count)};
}

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
        Search searches[kDraws];  // side by side, so that their cache misses overlap
        int64_t sample = first / request.slots, slot = first % request.slots;
        for (int i = 0; i < size; ++i) {
            searches[i] = unseen_search(words[i], users[sample], request.num_items, positives);
            if (++slot == request.slots) {
                slot = 0;
                ++sample;
            }
        }
        for (bool searching = true; searching;) {
            searching = false;
            for (int i = 0; i < size; ++i) searching |= searches[i].step();
        }
        for (int i = 0; i < size; ++i) out[first + i] = searches[i].item();
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
                    Search search = unseen_search(word, user, request.num_items, positives);
                    while (search.step()) {
                    }
                    item = search.item();
                    break;
                }
                item = std::upper_bound(thresholds, last, word) - thresholds;
            }
            out[first + i] = item;
        }
    });
}

}  // namespace spotfast
