// Vectors in whole numbers, with a bound on what products of them may be off by.
//
// An item's bias is one more dimension, several numbers wide, so that it is not coarser than the rest; a user's own
// bias is the same for all items, and left out. What rounding takes from a vector is known: so, by the inequality of
// Cauchy and Schwarz, is the most that it takes from a product.
#pragma once

#include <cstdint>
#include <vector>

#include "score_tiles.h"

namespace spotfast {

// What became of a vector that has been rounded, in units of its scale.
struct Rounded {
    float square;  // squared length of the vector of integers
    float lost;    // squared length of what rounding took away
};

// The scale of a user's rough scores.
struct RoughUser {
    double error;  // by how much a rough score may be wrong
    double unit;   // what 1 stands for
    float bias;
    int32_t sum;  // of its integers

    // Rough scores up to this one are of items that are worse than one with this exact score.
    int32_t cut_below_exact(float score) const;

    // Rough scores up to this one are of items that are worse than one with this rough score.
    int32_t cut_below(int32_t rough) const;
};

// How vectors of users and items become integers.
class RoughScale {
  public:
    // Of sums, and of cuts: no difference of the two leaves 32 bits.
    static constexpr int32_t kHighest = 1 << 30, kLowest = -kHighest;

    // Integers of vectors are at most `most`, in groups of `group`.
    RoughScale(const VectorsView& items, int64_t dim, int most, int group, int threads);

    // How many integers a vector becomes: a multiple of the group.
    int64_t width() const { return width_; }

    // The few items whose numbers or bias are far larger than those of others, ascending. Beside them all others would
    // become coarse, so they have no rough scores.
    const std::vector<int64_t>& outliers() const { return outliers_; }

    // Writes `width()` integers of an item that is no outlier.
    Rounded round_item(int64_t item, int16_t* out) const;

    // Writes `width()` integers of a user. No item is longer than `most`, and none has lost more.
    RoughUser round_user(const VectorsView& users, int64_t user, const Rounded& most, int16_t* out) const;

  private:
    double length(float square) const;
    double lost_length(const Rounded& vector) const;

    VectorsView items_;
    int64_t dim_, width_;
    int bias_places_;                         // 0 where there are no biases
    double most_;                             // the largest integer
    double bias_weight_ = 0.0;                // an item's bias is divided by it, and a user's vector goes on with it
    double item_unit_;                        // what 1 stands for in an item's integers
    float item_factor_, bias_factor_ = 0.0f;  // what an item's numbers and bias are multiplied by
    std::vector<int64_t> outliers_;
};

}  // namespace spotfast
