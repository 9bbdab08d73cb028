// Scores in whole numbers, with a bound on their error: they tell which few items are worth an exact score.
//
// Vectors are rounded to 16-bit integers: a SIMD register holds twice as many as floats, and adds their products in
// pairs. An item's bias is one more dimension; a user's own bias is the same for all items, and left out.
#pragma once

#include <cstdint>
#include <vector>

#include "pair_lanes.h"
#include "score_tiles.h"

namespace spotfast {

// How vectors of users and items become integers whose products add up to less than 2**31.
class RoughScale {
  public:
    RoughScale(const VectorsView& items, int64_t dim);

    // How many integers a vector becomes: an even number.
    int64_t width() const { return width_; }

    void round_item(const VectorsView& items, int64_t item, int16_t* out) const;

    // Returns by how much a rough score of the user may be wrong, in its own unit: an item whose rough score is higher
    // than another's by more than twice that has the higher exact score.
    int64_t round_user(const VectorsView& users, int64_t user, int16_t* out) const;

  private:
    int64_t dim_, width_;
    bool has_biases_;
    double bias_weight_;  // an item's bias is divided by it, and a user's vector goes on with it
    double most_;         // the largest integer
    double item_unit_;    // what 1 stands for in an item's integers
};

// The integers of consecutive items, arranged such that scores of several items are computed side by side.
class RoughTile {
  public:
    static constexpr int kUsers = 4;   // users that share the loads of a panel
    static constexpr int kPanel = 16;  // items side by side

    RoughTile(const VectorsView& items, const RoughScale& scale);

    // How many items a tile holds: 64 KB, which stay in the second-level cache, or one panel.
    int64_t capacity() const { return capacity_; }

    // Takes in `count` items, at most `capacity()`: first, first + stride and so on.
    void pack(int64_t first, int64_t count, int64_t stride = 1);

    // Calls visit(u, item, rough score) for the items of the tile whose rough score for user u is above cuts[u], a
    // user's items in ascending order. `users` holds `scale.width()` integers for each of kUsers users. Visits may
    // raise cuts.
    template <class Visit>
    void scan(const int16_t* users, const int32_t* cuts, const Visit& visit) const;

  private:
    static constexpr int kParts = kPanel / PairLanes::kSize;

    VectorsView items_;
    RoughScale scale_;
    int64_t capacity_, first_ = 0, count_ = 0, stride_ = 1;
    std::vector<int16_t> packed_;  // [panel][pair of dimensions][item][2]
    std::vector<int16_t> rounded_;
};

template <class Visit>
void RoughTile::scan(const int16_t* users, const int32_t* cuts, const Visit& visit) const {
    const int64_t width = scale_.width();
    for (int64_t panel = 0; panel < count_; panel += kPanel) {
        const int16_t* packed = packed_.data() + panel * width;
        PairLanes sums[kUsers][kParts];
        for (auto& row : sums) {
            for (auto& sum : row) sum = PairLanes::zero();
        }
#pragma GCC unroll 4
        for (int64_t d = 0; d < width; d += 2) {
            PairLanes column[kParts];
            for (int part = 0; part < kParts; ++part) {
                column[part] = PairLanes::load(packed + d * kPanel + part * 2 * PairLanes::kSize).in_register();
            }
            for (int u = 0; u < kUsers; ++u) {
                const PairLanes weight = PairLanes::all(users + u * width + d);
                for (int part = 0; part < kParts; ++part) {
                    sums[u][part] = weight.add_products(column[part], sums[u][part]).in_register();
                }
            }
        }
        PairLanes worth = PairLanes::zero();  // a look, by any of the users
        for (int u = 0; u < kUsers; ++u) {
            for (const auto& sum : sums[u]) worth = worth | sum.above(cuts[u]);
        }
        if (worth.bits() == 0) continue;
        const int64_t items = count_ - panel;  // a last panel may hold fewer than kPanel
        for (int u = 0; u < kUsers; ++u) {
            int32_t scores[kPanel];
            uint32_t hits = 0;
            for (int part = 0; part < kParts; ++part) {
                const int lane = part * PairLanes::kSize;
                hits |= sums[u][part].above(cuts[u]).bits() << lane;
                sums[u][part].store(scores + lane);
            }
            for (; hits != 0; hits &= hits - 1) {
                const int i = lowest_bit(hits);
                if (i < items) visit(u, first_ + (panel + i) * stride_, scores[i]);
            }
        }
    }
}

}  // namespace spotfast
