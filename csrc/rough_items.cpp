#include "rough_items.h"

#include <mutex>

#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kWordsInCache = 1 << 14;     // 64 KB
constexpr int64_t kPanelsPerThread = 1 << 10;  // at least: fewer are not worth a thread

}  // namespace

RoughItems::RoughItems(const VectorsView& items, int64_t dim, int threads, bool quads)
    : quads_(quads),
      scale_(by_products([&](auto of) { return RoughScale(items, dim, of.kMost, of.kPerWord, threads); })),
      words_(by_products([&](auto of) { return scale_.width() / of.kPerWord; })),
      num_items_(items.rows),
      panels_((items.rows + kPanel - 1) / kPanel),
      packed_(new int32_t[panels_ * kPanel * words_]) {
    std::mutex together;
    parallel_for(panels_, threads, kPanelsPerThread, [&](int64_t begin, int64_t end) {
        Rounded most{};
        by_products([&](auto of) { pack<decltype(of)>(begin, end, most); });
        const std::lock_guard<std::mutex> lock(together);
        most_ = {std::max(most_.square, most.square), std::max(most_.lost, most.lost)};
    });
}

int64_t RoughItems::panels_in_cache() const {
    return std::max<int64_t>(kWordsInCache / std::max<int64_t>(kPanel * words_, 1), 1);
}

// What is no item, or an outlier, becomes zeros.
template <class Products>
void RoughItems::pack(int64_t begin, int64_t end, Rounded& most) {
    const std::vector<int64_t>& all = outliers();
    auto outlier = std::lower_bound(all.begin(), all.end(), begin * kPanel);
    std::vector<int16_t> row(scale_.width());
    for (int64_t item = begin * kPanel; item < end * kPanel; ++item) {
        if (item < num_items_ && (outlier == all.end() || item < *outlier)) {
            const Rounded rounded = scale_.round_item(item, row.data());
            most = {std::max(most.square, rounded.square), std::max(most.lost, rounded.lost)};
        } else {
            outlier += outlier != all.end() && item == *outlier;
            std::fill(row.begin(), row.end(), int16_t{0});
        }
        int32_t* to = packed_.get() + item / kPanel * kPanel * words_ + item % kPanel;
        for (int64_t word = 0; word < words_; ++word) {
            to[word * kPanel] = Products::item_word(row.data() + word * Products::kPerWord);
        }
    }
}

RoughUser RoughItems::round_user(const VectorsView& users, int64_t user, int32_t* words) const {
    std::vector<int16_t> row(scale_.width());
    const RoughUser rough = scale_.round_user(users, user, most_, row.data());
    by_products([&](auto of) {
        for (int64_t word = 0; word < words_; ++word) words[word] = of.user_word(row.data() + word * of.kPerWord);
    });
    return rough;
}

uint32_t RoughItems::score(int64_t first, int64_t count, int64_t stride, const RoughGroup& users, const int32_t* cuts,
                           Leads& leads) const {
    return by_products([&](auto of) { return score_by<decltype(of)>(first, count, stride, users, cuts, leads); });
}

// What is found is looked at elsewhere: only in a loop that does nothing else do all sums stay in registers, and a
// branch that depends on what is found would most often be foretold wrongly.
template <class Products>
uint32_t RoughItems::score_by(int64_t first, int64_t count, int64_t stride, const RoughGroup& users,
                              const int32_t* cuts, Leads& leads) const {
    const int64_t words = words_;
    int32_t starts[kUsers];
    for (int u = 0; u < kUsers; ++u) starts[u] = Products::start(-cuts[u] - 1, users.sums[u]);
    uint32_t found = 0;
    for (int64_t panel = 0; panel < count; ++panel) {
        const int32_t* packed = packed_.get() + (first + panel * stride) * kPanel * words;
        IntegerLanes sums[kUsers][kParts];
        for (int u = 0; u < kUsers; ++u) {
            for (auto& sum : sums[u]) sum = IntegerLanes::all(starts[u]);
        }
#pragma GCC unroll 4
        for (int64_t word = 0; word < words; ++word) {
            IntegerLanes column[kParts];
            for (int part = 0; part < kParts; ++part) {
                column[part] = IntegerLanes::load(packed + word * kPanel + part * IntegerLanes::kSize).in_register();
            }
            for (int u = 0; u < kUsers; ++u) {
                const IntegerLanes of_user = IntegerLanes::all(users.words[u * words + word]);
                for (int part = 0; part < kParts; ++part) {
                    sums[u][part] = Products::add(of_user, column[part], sums[u][part]);
                }
            }
        }
        IntegerLanes all = sums[0][0];  // negative where all are: most often everywhere
        for (int u = 0; u < kUsers; ++u) {
            for (int part = 0; part < kParts; ++part) {
                all = all & sums[u][part];
                sums[u][part].store(leads[panel][u] + part * IntegerLanes::kSize);
            }
        }
        found |= static_cast<uint32_t>(all.negative() != kAllLanes) << panel;
    }
    return found;
}

}  // namespace spotfast
