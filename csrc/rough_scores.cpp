#include "rough_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace spotfast {

namespace {

constexpr int64_t kTileIntegers = 1 << 15;  // 64 KB
constexpr double kLeast = 1e-30;            // vectors without a larger number become zeros
constexpr double kRounding = 0.51;          // error of an integer: a half, and what float arithmetic adds to that
constexpr double kEpsilon = 1.0 / (1 << 24);

// The largest magnitude. Of finite floats, magnitudes are in the order of their bits without the sign.
float largest(const float* values, int64_t count) {
    int32_t most = 0;
    for (int64_t i = 0; i < count; ++i) {
        int32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        most = std::max(most, bits & 0x7fffffff);
    }
    float magnitude;
    std::memcpy(&magnitude, &most, sizeof magnitude);
    return magnitude;
}

void round_all(const float* values, int64_t count, float per_unit, int16_t* out) {
    for (int64_t i = 0; i < count; ++i) {
        const float scaled = values[i] * per_unit;
        out[i] = static_cast<int16_t>(static_cast<int32_t>(scaled + (scaled < 0.0f ? -0.5f : 0.5f)));
    }
}

}  // namespace

RoughScale::RoughScale(const VectorsView& items, int64_t dim) : dim_(dim) {
    const double most_vector = std::max<double>(largest(items.vectors, items.rows * dim), kLeast);
    const double most_bias = items.biases == nullptr ? 0.0 : largest(items.biases, items.rows);
    has_biases_ = most_bias > 0.0;
    bias_weight_ = most_bias / most_vector;
    width_ = (dim + has_biases_ + 1) / 2 * 2;
    most_ = std::floor(std::min(32767.0, std::sqrt(2147483647.0 / std::max<double>(static_cast<double>(width_), 2.0))));
    item_unit_ = most_vector / most_;
}

void RoughScale::round_item(const VectorsView& items, int64_t item, int16_t* out) const {
    std::fill(out + dim_, out + width_, 0);
    round_all(items.vectors + item * dim_, dim_, static_cast<float>(1.0 / item_unit_), out);
    if (has_biases_) out[dim_] = static_cast<int16_t>(std::lrint(items.biases[item] / bias_weight_ / item_unit_));
}

int64_t RoughScale::round_user(const VectorsView& users, int64_t user, int16_t* out) const {
    const float* vector = users.vectors + user * dim_;
    const double unit = std::max({static_cast<double>(largest(vector, dim_)), bias_weight_, kLeast}) / most_;
    std::fill(out + dim_, out + width_, 0);
    round_all(vector, dim_, static_cast<float>(1.0 / unit), out);
    if (has_biases_) out[dim_] = static_cast<int16_t>(std::lrint(bias_weight_ / unit));
    double sum = 0.0;
    for (int64_t d = 0; d < width_; ++d) sum += std::abs(out[d]);
    // Of x y = (i + e) (j + f), where i and j are the integers and e and f at most kRounding: e y + f i is missing. The
    // exact score is not exact either: each of its roundings adds a share of the sum of magnitudes.
    const double most_sum = static_cast<double>(width_) * most_;
    const double bias = users.biases == nullptr ? 0.0 : std::fabs(users.biases[user]) / unit / item_unit_;
    const double magnitudes = (sum + kRounding * static_cast<double>(width_)) * most_ + bias;
    const double error = kRounding * (most_sum + sum) + static_cast<double>(dim_ + 4) * kEpsilon * magnitudes;
    return static_cast<int64_t>(std::min(std::ceil(error), 1e18));
}

RoughTile::RoughTile(const VectorsView& items, const RoughScale& scale, bool fused)
    : items_(items),
      scale_(scale),
      fused_(fused),
      capacity_(std::max<int64_t>(kTileIntegers / std::max<int64_t>(scale.width(), 2) / kPanel, 1) * kPanel),
      packed_(capacity_ * scale.width()),
      rounded_(scale.width()) {}

void RoughTile::pack(int64_t first, int64_t count, int64_t stride) {
    const int64_t width = scale_.width();
    first_ = first;
    count_ = count;
    stride_ = stride;
    for (int64_t i = 0; i < count; ++i) {
        scale_.round_item(items_, first + i * stride, rounded_.data());
        int16_t* packed = packed_.data() + i / kPanel * kPanel * width + i % kPanel * 2;
        for (int64_t d = 0; d < width; d += 2) std::memcpy(packed + d * kPanel, &rounded_[d], 2 * sizeof(int16_t));
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
