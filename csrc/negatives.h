// Negative items for a range of samples. The draw of (position, slot) is number position * slots + slot of
// the stream, so it does not depend on batch size, threads or the order in which samples are visited.
#pragma once

#include <cstdint>

namespace spotfast {

// Sorted, distinct items per user, in compressed rows: those of user u are items[indptr[u] .. indptr[u + 1]).
struct PositivesView {
    const int64_t* indptr;
    const int32_t* items;
};

// The samples [start, stop) with `slots` negatives each, in the given epoch.
struct NegativesRequest {
    uint64_t seed;
    uint32_t epoch;
    int64_t start, stop;
    int64_t slots;
    int64_t num_items;
};

// Attempts of popularity sampling before the exact draw among the unseen items.
constexpr uint32_t kPopularityAttempts = 16;

// Uniform over [first, num_items).
void uniform_negatives(const NegativesRequest& request, int64_t first, int threads, int64_t* out);

// Uniform over the items that are not positives of the sample's user, exactly, with one draw: the x-th item
// left. users[i] is the user of position start + i. Every user must have an item left.
void unseen_negatives(const NegativesRequest& request, const int64_t* users, const PositivesView& positives,
                      int threads, int64_t* out);

// Item i with probability (thresholds[i] - thresholds[i - 1]) / 2^32, the last item up to 2^32; at most
// kPopularityAttempts draws against the user's positives, then an unseen draw at the next attempt number.
// thresholds has num_items - 1 ascending entries.
void popularity_negatives(const NegativesRequest& request, const uint32_t* thresholds, const int64_t* users,
                          const PositivesView& positives, int threads, int64_t* out);

}  // namespace spotfast
