// What an epoch trains on, in its order: users, the items they are scored with, ratings, weights.
#pragma once

#include <cstdint>
#include <vector>

#include "negatives.h"
#include "permutation.h"

namespace spotfast {

struct InteractionsView {
    const int32_t* pairs;  // (count, 2): user and item
    const float* ratings;  // (count), or null
    const float* weights;  // (count), or null
    int64_t count;
};

enum class Sampler { none, uniform, unseen, popularity };

struct SamplingSettings {
    Sampler sampler;
    int64_t slots;  // negatives per positive, 0 for `none`
    int64_t num_items;
    int64_t first_item;          // uniform: those below are padding
    PositivesView positives;     // unseen, popularity
    const uint32_t* thresholds;  // popularity
};

// The samples of a range of positions. Within a batch, those whose users have the same owner are next to each other.
class EpochSamples {
  public:
    // Room for `capacity` positions, whole batches.
    EpochSamples(const InteractionsView& interactions, const SamplingSettings& sampling, uint64_t seed, uint32_t epoch,
                 int64_t batch_size, int64_t capacity);

    int64_t candidates() const { return candidates_; }

    // Sets the start of the range, that of a batch; then `fill` must be called for all members.
    void begin(int64_t start) { start_ = start; }
    // Fills in a member's share of the next `count` positions, at most `capacity`. May be called on several threads.
    void fill(int member, int members, int64_t count);

    // The rest is counted from the start of the range.
    const int32_t* users(int64_t position) const { return users_.data() + position; }
    const int32_t* items(int64_t position) const { return items_.data() + position * candidates_; }
    const float* ratings(int64_t position) const { return at(ratings_, position); }
    const float* weights(int64_t position) const { return at(weights_, position); }

  private:
    static const float* at(const std::vector<float>& values, int64_t position) {
        return values.empty() ? nullptr : values.data() + position;
    }
    void fill_block(int64_t begin, int64_t count);
    void choose_places(const int32_t (*pairs)[2], int64_t count, int32_t* places) const;
    void draw(int64_t begin, int64_t count, const int64_t* users, int64_t* negatives) const;

    InteractionsView interactions_;
    SamplingSettings sampling_;
    uint64_t seed_;
    uint32_t epoch_;
    bool sorted_;
    int64_t block_;  // positions that are filled in together, part of one batch if they are sorted
    Permutation order_;
    int64_t candidates_, start_ = 0;
    std::vector<int32_t> users_, items_;
    std::vector<float> ratings_, weights_;
};

}  // namespace spotfast
