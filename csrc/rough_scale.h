// Vectors in whole numbers of 16 bits, with a bound on what products of them may be off by.
//
// An item's bias is one more dimension; a user's own bias is the same for all items, and left out. By the inequality of
// Cauchy and Schwarz, products are bounded by lengths: so no sum reaches 2**31, and so the error is bounded.
#pragma once

#include <cstdint>
#include <vector>

#include "score_tiles.h"

namespace spotfast {

// The scale of a user's rough scores.
struct RoughUser {
    // By how much a rough score may be wrong: an item whose rough score is higher than another's by more than twice
    // that has the higher exact score.
    int64_t error;
    double unit;  // what 1 stands for
    float bias;

    // The rough score that stands for an exact one. Those out of range become the highest, or the lowest but one.
    int32_t of_exact(float score) const;
};

// How vectors of users and items become integers.
class RoughScale {
  public:
    RoughScale(const VectorsView& items, int64_t dim);

    // How many integers a vector becomes: an even number.
    int64_t width() const { return width_; }

    // The few items whose vector or bias is far larger than those of others, ascending. Beside them all others would
    // become coarse, so they have no rough scores.
    const std::vector<int64_t>& outliers() const { return outliers_; }

    // What an item's vector is multiplied by, and its bias, before they are rounded; 0 where there are no biases.
    float item_factor() const { return static_cast<float>(1.0 / item_unit_); }
    double bias_factor() const { return has_biases_ ? 1.0 / bias_weight_ / item_unit_ : 0.0; }

    RoughUser round_user(const VectorsView& users, int64_t user, int16_t* out) const;

  private:
    int64_t dim_, width_;
    bool has_biases_;
    double bias_weight_;  // an item's bias is divided by it, and a user's vector goes on with it
    double item_unit_;    // what 1 stands for in an item's integers
    std::vector<int64_t> outliers_;
};

}  // namespace spotfast
