// A look at some items tells above which rough score a user's list begins, most often.
//
// The best of a short list's items are taken from few panels, and so is a bound that is never wrong. For long lists
// that is a share of the list, and a little more: the last of these is worse than the k-th best of all items, but for
// one user in some thousands where the order of items is random; and so few that not many items are better.
#pragma once

#include <cstdint>

#include "rough_items.h"
#include "score_tiles.h"

namespace spotfast {

// Panels spread over the catalogue.
class RoughSample {
  public:
    RoughSample(int64_t k, const RoughItems& items);

    // guesses[u] = the rough score above which all items of a user's list are likely to be. `count` users of a group,
    // with their scales, and the rows of what is excluded for them.
    void guess(const RoughGroup& group, const RoughUser* scales, const int64_t* users, int count,
               const RowsView& excluded, int32_t* guesses) const;

  private:
    static constexpr int kLeastShift = 3;          // at most one panel in eight
    static constexpr int64_t kPanelsOfShort = 48;  // at least, where that is no more than one in eight
    static constexpr int64_t kSlots = 4;           // maxima per wanted item: the best ones rarely share one

    void find_maxima(const RoughGroup& group, const int64_t* users, int count, const RowsView& excluded,
                     int32_t* maxima) const;

    const RoughItems& items_;
    int shift_ = kLeastShift;  // every panel whose number is a multiple of 1 << shift
    int64_t panels_ = 0;       // none: the catalogue is too small
    int64_t wanted_ = 0;       // the guess is below the last of so many
    int64_t rows_ = 0;         // of kPanel slots: one holds the maximum of the items that fall on it
};

}  // namespace spotfast
