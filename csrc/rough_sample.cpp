#include "rough_sample.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "best_items.h"

namespace spotfast {

namespace {

constexpr int kUsers = RoughItems::kUsers, kPanel = RoughItems::kPanel, kBlock = RoughItems::kBlock;

}  // namespace

RoughSample::RoughSample(int64_t k, const RoughItems& items) : items_(items) {
    if (k <= BestItems::kShort) {
        wanted_ = k;
        while (items.panels() >> (shift_ + 1) >= kPanelsOfShort) ++shift_;
    } else {
        const double expected = static_cast<double>(k) / (1 << shift_);
        wanted_ = static_cast<int64_t>(std::ceil(expected + 3.0 * std::sqrt(expected) + 2.0));
    }
    rows_ = (kSlots * wanted_ + kPanel - 1) / kPanel;
    const int64_t some = items.panels() >> shift_;  // never the last panel, which may not be full
    if (some >= rows_) panels_ = some;
}

void RoughSample::guess(const RoughGroup& group, const RoughUser* scales, const int64_t* users, int count,
                        const RowsView& excluded, int32_t* guesses) const {
    std::fill_n(guesses, count, RoughScale::kLowest);
    if (panels_ == 0) return;
    const int64_t slots = rows_ * kPanel;
    std::vector<int32_t> maxima(count * slots, INT32_MIN);
    find_maxima(group, users, count, excluded, maxima.data());
    for (int u = 0; u < count; ++u) {
        int32_t* of = maxima.data() + u * slots;
        std::nth_element(of, of + (wanted_ - 1), of + slots, std::greater<>());
        if (of[wanted_ - 1] > INT32_MIN) guesses[u] = scales[u].cut_below(of[wanted_ - 1]);
    }
}

// Of each user, the maximum of each slot; INT32_MIN where all items that fall on it are excluded, or outliers.
void RoughSample::find_maxima(const RoughGroup& group, const int64_t* users, int count, const RowsView& excluded,
                              int32_t* maxima) const {
    constexpr int32_t kCuts[kUsers] = {-1, -1, -1, -1, -1};  // leads are scores then
    const int64_t stride = int64_t{1} << shift_;
    const int64_t *skipped[kUsers], *outliers[kUsers];
    for (int u = 0; u < count; ++u) {
        skipped[u] = excluded.begin(users[u]);
        outliers[u] = items_.outliers().data();
    }
    for (int64_t begin = 0; begin < panels_; begin += kBlock) {
        RoughItems::Leads scores;
        const int64_t some = std::min<int64_t>(kBlock, panels_ - begin), end = (begin + some) * stride * kPanel;
        items_.score(begin * stride, some, stride, group, kCuts, scores);
        for (int u = 0; u < count; ++u) {
            const auto skip = [&](const int64_t*& next, const int64_t* last) {
                for (; next < last && *next < end; ++next) {
                    const int64_t panel = *next / kPanel;
                    if ((panel & (stride - 1)) != 0) continue;
                    scores[(panel >> shift_) - begin][u][*next % kPanel] = INT32_MIN;
                }
            };
            skip(skipped[u], excluded.end(users[u]));
            skip(outliers[u], items_.outliers().data() + items_.outliers().size());
            for (int64_t panel = 0; panel < some; ++panel) {
                int32_t* slots = maxima + (u * rows_ + (begin + panel) % rows_) * kPanel;
                for (int i = 0; i < kPanel; ++i) slots[i] = std::max(slots[i], scores[panel][u][i]);
            }
        }
    }
}

}  // namespace spotfast
