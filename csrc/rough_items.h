// Scores in whole numbers, with a bound on their error: they tell which few items are worth an exact score.
//
// Numbers are rounded to 8 bits where a SIMD register adds their products by fours, or else to what fits in 16 bits: it
// holds four times, or twice, as many of them as floats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "integer_lanes.h"
#include "lowest_bit.h"
#include "rough_products.h"
#include "rough_scale.h"

namespace spotfast {

// A few users who share the loads of items.
struct RoughGroup {
    static constexpr int kUsers = 5;  // as there are registers

    const int32_t* words;  // of their integers, one user behind the other
    int32_t sums[kUsers];  // of the integers
};

// The integers of all items, in panels: scores of several items are computed side by side.
class RoughItems {
  public:
    static constexpr int kUsers = RoughGroup::kUsers;
    static constexpr int kPanel = 16;  // items side by side
    static constexpr int kBlock = 16;  // panels that are scored before their scores are looked at

    // By how much the rough scores of a block are above the lowest that a user asks for.
    using Leads = int32_t[kBlock][kUsers][kPanel];

    RoughItems(const VectorsView& items, int64_t dim, int threads, bool quads = QuadProducts::available());

    // How many words a vector becomes.
    int64_t words() const { return words_; }

    // Items without a rough score, ascending.
    const std::vector<int64_t>& outliers() const { return scale_.outliers(); }

    int64_t panels() const { return panels_; }
    int64_t panels_in_cache() const;  // as many as stay in the second-level cache

    // Writes `words()` words.
    RoughUser round_user(const VectorsView& users, int64_t user, int32_t* words) const;

    // Scores `count` panels, at most kBlock: first, first + stride and so on. cuts[u] + 1 is the lowest rough score
    // that user u asks for. Returns a bit for each panel with such a score for any of the users.
    uint32_t score(int64_t first, int64_t count, int64_t stride, const RoughGroup& users, const int32_t* cuts,
                   Leads& leads) const;

    // Calls visit(u, item, rough score) for the items of the panels [begin, end) whose rough score for user u is above
    // cuts[u], and for few others; a user's items in ascending order. Visits may raise cuts.
    template <class Visit>
    void scan(int64_t begin, int64_t end, const RoughGroup& users, const int32_t* cuts, const Visit& visit) const {
        Leads leads;
        for (int64_t first = begin; first < end; first += kBlock) {
            int32_t lowest[kUsers];
            for (int u = 0; u < kUsers; ++u) lowest[u] = cuts[u] + 1;
            uint32_t panels = score(first, std::min<int64_t>(kBlock, end - first), 1, users, cuts, leads);
            for (; panels != 0; panels &= panels - 1) {
                const int panel = lowest_bit(panels);
                for (int u = 0; u < kUsers; ++u) {
                    const int32_t* row = leads[panel][u];
                    for (uint32_t hits = not_negative(row); hits != 0; hits &= hits - 1) {
                        const int i = lowest_bit(hits);
                        const int64_t item = (first + panel) * kPanel + i;
                        if (item < num_items_) visit(u, item, lowest[u] + row[i]);
                    }
                }
            }
        }
    }

  private:
    static constexpr int kParts = kPanel / IntegerLanes::kSize;
    static constexpr uint32_t kAllLanes = (1u << IntegerLanes::kSize) - 1;

    // A bit for each item of a panel.
    static uint32_t not_negative(const int32_t* leads) {
        uint32_t bits = 0;
        for (int part = 0; part < kParts; ++part) {
            const int lane = part * IntegerLanes::kSize;
            bits |= (IntegerLanes::load(leads + lane).negative() ^ kAllLanes) << lane;
        }
        return bits;
    }

    // Calls function(Products).
    template <class Function>
    auto by_products(const Function& function) const {
        return quads_ ? function(QuadProducts()) : function(PairProducts());
    }

    template <class Products>
    void pack(int64_t begin, int64_t end, Rounded& most);
    template <class Products>
    uint32_t score_by(int64_t first, int64_t count, int64_t stride, const RoughGroup& users, const int32_t* cuts,
                      Leads& leads) const;

    bool quads_;
    RoughScale scale_;
    int64_t words_, num_items_, panels_;
    std::unique_ptr<int32_t[]> packed_;  // of word w of an item: place (panel * words + w) * kPanel + lane
    Rounded most_{};                     // what no item is longer than, and what none has lost more than
};

}  // namespace spotfast
