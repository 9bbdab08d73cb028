#include "score_tiles.h"

namespace spotfast {

namespace {

constexpr int kPanel = 16;                // items side by side
constexpr int64_t kTileFloats = 1 << 15;  // 128 KB
constexpr int kParts = kPanel / Lanes::kSize;

}  // namespace

ItemTile::ItemTile(const VectorsView& items, int64_t dim)
    : items_(items),
      dim_(dim),
      capacity_(std::clamp<int64_t>(kTileFloats / std::max<int64_t>(dim, 1) / kPanel * kPanel, kPanel, kMostItems)),
      packed_(capacity_ * dim),
      biases_(items.biases == nullptr ? 0 : capacity_) {}

// packed_[panel * kPanel * dim + d * kPanel + lane]; lanes beyond the last item hold zeros.
void ItemTile::pack(int64_t first, int64_t count) {
    count_ = count;
    if (items_.biases != nullptr) std::copy_n(items_.biases + first, count, biases_.begin());
    for (int64_t panel = 0; panel < count; panel += kPanel) {
        float* packed = packed_.data() + panel * dim_;
        const float* vectors = items_.vectors + (first + panel) * dim_;
        const int64_t lanes = std::min<int64_t>(kPanel, count - panel);
        const int64_t together = lanes == kPanel ? dim_ / Lanes::kSize * Lanes::kSize : 0;
        for (int64_t d = 0; d < together; d += Lanes::kSize) {
            for (int lane = 0; lane < kPanel; lane += Lanes::kSize) {
                Lanes block[Lanes::kSize];
                for (int i = 0; i < Lanes::kSize; ++i) block[i] = Lanes::load(vectors + (lane + i) * dim_ + d);
                transpose(block);
                for (int i = 0; i < Lanes::kSize; ++i) block[i].store(packed + (d + i) * kPanel + lane);
            }
        }
        for (int64_t d = together; d < dim_; ++d) {
            for (int lane = 0; lane < kPanel; ++lane) {
                packed[d * kPanel + lane] = lane < lanes ? vectors[lane * dim_ + d] : 0.0f;
            }
        }
    }
}

void ItemTile::score(const VectorsView& users, int64_t user, int count, float* out, int64_t stride) const {
    score_some<kUsers>(users, user, count, out, stride);
}

template <int kMost>
void ItemTile::score_some(const VectorsView& users, int64_t user, int count, float* out, int64_t stride) const {
    if constexpr (kMost > 1) {
        if (count < kMost) return score_some<kMost - 1>(users, user, count, out, stride);
    }
    score_users<kMost>(users, user, out, stride);
}

template <int kCount>
void ItemTile::score_users(const VectorsView& users, int64_t user, float* out, int64_t stride) const {
    const int64_t dim = dim_;
    const float* vectors[kCount];
    for (int u = 0; u < kCount; ++u) vectors[u] = users.vectors + (user + u) * dim;
    for (int64_t panel = 0; panel < count_; panel += kPanel) {
        const float* packed = packed_.data() + panel * dim;
        Lanes sums[kCount][kParts];
        for (auto& row : sums) {
            for (auto& sum : row) sum = Lanes::all(0.0f);
        }
        for (int64_t d = 0; d < dim; ++d) {
            Lanes column[kParts];
            for (int part = 0; part < kParts; ++part) {
                column[part] = Lanes::load(packed + d * kPanel + part * Lanes::kSize).in_register();
            }
            for (int u = 0; u < kCount; ++u) {
                const Lanes weight = Lanes::all(vectors[u][d]);
                for (int part = 0; part < kParts; ++part) sums[u][part] = sums[u][part] + weight * column[part];
            }
        }
        if (users.biases != nullptr) {
            for (int u = 0; u < kCount; ++u) {
                const Lanes bias = Lanes::all(users.biases[user + u]);
                for (auto& sum : sums[u]) sum = sum + bias;
            }
        }
        if (items_.biases != nullptr) {
            for (int part = 0; part < kParts; ++part) {
                const Lanes bias = Lanes::load(&biases_[panel + part * Lanes::kSize]);
                for (auto& row : sums) row[part] = row[part] + bias;
            }
        }
        const int64_t lanes = std::min<int64_t>(kPanel, count_ - panel);
        for (int u = 0; u < kCount; ++u) {
            float* row = out + u * stride + panel;
            float line[kPanel];
            float* to = lanes == kPanel ? row : line;  // never beyond the row's end
            for (int part = 0; part < kParts; ++part) sums[u][part].store(to + part * Lanes::kSize);
            if (to == line) std::copy_n(line, lanes, row);
        }
    }
}

}  // namespace spotfast
