// Scores in whole numbers, with a bound on their error: they tell which few items are worth an exact score.
//
// Vectors are rounded to 16-bit integers: a SIMD register holds twice as many as floats, and adds their products in
// pairs.
#pragma once

#include <cstdint>
#include <vector>

#include "pair_lanes.h"
#include "pair_products.h"
#include "rough_scale.h"
#include "score_tiles.h"

namespace spotfast {

// The integers of consecutive items, arranged such that scores of several items are computed side by side.
class RoughTile {
  public:
    static constexpr int kUsers = 5;   // users that share the loads of a panel: as there are registers
    static constexpr int kPanel = 16;  // items side by side

    RoughTile(const VectorsView& items, int64_t dim, const RoughScale& scale,
              bool fused = FusedPairProducts::available());

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

    void pack_panel(const float* const* vectors, const int16_t* biases, int16_t* packed) const;

    // Of a panel: the scores of each user, and a bit for each of them that is above the user's cut.
    struct Found {
        int32_t scores[kUsers][kPanel];
        uint32_t hits[kUsers];
    };

    // The first panel, from the item `panel` on, with a score above its user's cut, and what was found there; or the
    // end of the tile. Visits are elsewhere, for only in a loop that does nothing else do all sums stay in registers.
    int64_t next_panel(int64_t panel, const int16_t* users, const int32_t* cuts, Found& found) const;
    template <class Products>
    int64_t next_panel_by(int64_t panel, const int16_t* users, const int32_t* cuts, Found& found) const;

    VectorsView items_;
    int64_t dim_;
    RoughScale scale_;
    bool fused_;
    int64_t capacity_, first_ = 0, count_ = 0, stride_ = 1;
    std::vector<int16_t> packed_;  // [panel][pair of dimensions][item][2]
    std::vector<float> zeros_;     // an item that has no rough scores
};

template <class Visit>
void RoughTile::scan(const int16_t* users, const int32_t* cuts, const Visit& visit) const {
    Found found;
    for (int64_t panel = 0; (panel = next_panel(panel, users, cuts, found)) < count_; panel += kPanel) {
        const int64_t items = count_ - panel;  // a last panel may hold fewer than kPanel
        for (int u = 0; u < kUsers; ++u) {
            for (uint32_t hits = found.hits[u]; hits != 0; hits &= hits - 1) {
                const int i = lowest_bit(hits);
                if (i < items) visit(u, first_ + (panel + i) * stride_, found.scores[u][i]);
            }
        }
    }
}

}  // namespace spotfast
