#include "rough_scores.h"

#include <algorithm>
#include <cmath>

namespace spotfast {

namespace {

constexpr int64_t kTileIntegers = 1 << 15;  // 64 KB

}  // namespace

RoughTile::RoughTile(const VectorsView& items, int64_t dim, const RoughScale& scale, bool fused)
    : items_(items),
      dim_(dim),
      scale_(scale),
      fused_(fused),
      capacity_(std::max<int64_t>(kTileIntegers / std::max<int64_t>(scale.width(), 2) / kPanel, 1) * kPanel),
      packed_(capacity_ * scale.width()),
      zeros_(dim) {}

void RoughTile::pack(int64_t first, int64_t count, int64_t stride) {
    first_ = first;
    count_ = count;
    stride_ = stride;
    const double bias_factor = scale_.bias_factor();
    const std::vector<int64_t>& outliers = scale_.outliers();
    auto outlier = std::lower_bound(outliers.begin(), outliers.end(), first);
    for (int64_t panel = 0; panel < count; panel += kPanel) {
        const float* vectors[kPanel];
        int16_t biases[kPanel] = {};
        for (int lane = 0; lane < kPanel; ++lane) {
            vectors[lane] = zeros_.data();
            const int64_t item = first + (panel + lane) * stride;
            while (outlier != outliers.end() && *outlier < item) ++outlier;
            if (panel + lane >= count || (outlier != outliers.end() && *outlier == item)) continue;
            vectors[lane] = items_.vectors + item * dim_;
            if (bias_factor > 0.0) biases[lane] = static_cast<int16_t>(std::lrint(items_.biases[item] * bias_factor));
        }
        pack_panel(vectors, biases, &packed_[panel * scale_.width()]);
    }
}

void RoughTile::pack_panel(const float* const* vectors, const int16_t* biases, int16_t* packed) const {
    constexpr int kSize = PairLanes::kSize;
    const float factor = scale_.item_factor();
    const int64_t together = dim_ / (2 * kSize) * (2 * kSize);
    for (int64_t d = 0; d < together; d += 2 * kSize) {
        for (int lane = 0; lane < kPanel; lane += kSize) {
            PairLanes block[kSize];
            for (int i = 0; i < kSize; ++i) {
                const float* from = vectors[lane + i] + d;
                const Lanes all = Lanes::all(factor);
                block[i] = PairLanes::rounded(Lanes::load(from) * all, Lanes::load(from + kSize) * all);
            }
            transpose(block);
            for (int i = 0; i < kSize; ++i) block[i].store(packed + (d + 2 * i) * kPanel + 2 * lane);
        }
    }
    std::fill(packed + together * kPanel, packed + scale_.width() * kPanel, int16_t{0});
    for (int lane = 0; lane < kPanel; ++lane) {
        const auto place = [&](int64_t d) { return d / 2 * 2 * kPanel + 2 * lane + d % 2; };
        for (int64_t d = together; d < dim_; ++d) {
            packed[place(d)] = static_cast<int16_t>(std::lrint(vectors[lane][d] * factor));
        }
        if (scale_.bias_factor() > 0.0) packed[place(dim_)] = biases[lane];
    }
}

int64_t RoughTile::next_panel(int64_t panel, const int16_t* users, const int32_t* cuts, Found& found) const {
    return fused_ ? next_panel_by<FusedPairProducts>(panel, users, cuts, found)
                  : next_panel_by<PairProducts>(panel, users, cuts, found);
}

template <class Products>
int64_t RoughTile::next_panel_by(int64_t panel, const int16_t* users, const int32_t* cuts, Found& found) const {
    const int64_t width = scale_.width();
    for (; panel < count_; panel += kPanel) {
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
                    sums[u][part] = Products::add(weight, column[part], sums[u][part]);
                }
            }
        }
        PairLanes worth = PairLanes::zero();  // a look, by any of the users
        for (int u = 0; u < kUsers; ++u) {
            for (const auto& sum : sums[u]) worth = worth | sum.above(cuts[u]);
        }
        if (worth.bits() == 0) continue;
        for (int u = 0; u < kUsers; ++u) {
            found.hits[u] = 0;
            for (int part = 0; part < kParts; ++part) {
                const int lane = part * PairLanes::kSize;
                found.hits[u] |= sums[u][part].above(cuts[u]).bits() << lane;
                sums[u][part].store(found.scores[u] + lane);
            }
        }
        break;
    }
    return panel;
}

}  // namespace spotfast
