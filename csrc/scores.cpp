#include "scores.h"

#include <algorithm>
#include <vector>

#include "lanes.h"
#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int kPanel = 16;          // items side by side
constexpr int kUsers = 4;           // users that share a panel's loads
constexpr int kPanelsPerPack = 32;  // packed together: with 32 dimensions 64 KB, which stay in L2
constexpr int kPairs = 8;           // independent sums in flight

// packed[d * kPanel + lane] = dimension d of item `first + lane`; lanes beyond the last item hold zeros.
void pack_panel(const VectorsView& items, int64_t first, int64_t dim, float* packed) {
    const int lanes = static_cast<int>(std::min<int64_t>(kPanel, items.rows - first));
    for (int lane = 0; lane < kPanel; ++lane) {
        const float* vector = lane < lanes ? items.vectors + (first + lane) * dim : nullptr;
        for (int64_t d = 0; d < dim; ++d) packed[d * kPanel + lane] = vector == nullptr ? 0.0f : vector[d];
    }
}

// Scores of kCount users, the first of them `user`, for the items of one panel.
template <int kCount>
void score_panel(const VectorsView& users, int64_t user, const VectorsView& items, int64_t first, const float* packed,
                 int64_t dim, float* out) {
    Lanes sums[kCount][kPanel / Lanes::kSize];
    for (auto& row : sums) {
        for (auto& sum : row) sum = Lanes::all(0.0f);
    }
    const float* vectors = users.vectors + user * dim;
    for (int64_t d = 0; d < dim; ++d) {
        for (int part = 0; part < kPanel / Lanes::kSize; ++part) {
            const Lanes column = Lanes::load(packed + d * kPanel + part * Lanes::kSize);
            for (int u = 0; u < kCount; ++u) {
                sums[u][part] = sums[u][part] + Lanes::all(vectors[u * dim + d]) * column;
            }
        }
    }
    const int lanes = static_cast<int>(std::min<int64_t>(kPanel, items.rows - first));
    for (int u = 0; u < kCount; ++u) {
        float* row = out + (user + u) * items.rows + first;
        float line[kPanel];
        for (int part = 0; part < kPanel / Lanes::kSize; ++part) sums[u][part].store(line + part * Lanes::kSize);
        if (users.biases != nullptr) {
            for (float& score : line) score += users.biases[user + u];
        }
        for (int lane = 0; lane < lanes; ++lane) {
            row[lane] = items.biases == nullptr ? line[lane] : line[lane] + items.biases[first + lane];
        }
    }
}

}  // namespace

void scores(const VectorsView& users, const VectorsView& items, int64_t dim, int threads, float* out) {
    const int64_t panels = (items.rows + kPanel - 1) / kPanel;
    parallel_for(panels, threads, 8, [&](int64_t begin, int64_t end) {
        std::vector<float> packed(kPanelsPerPack * kPanel * dim);
        for (int64_t pack = begin; pack < end; pack += kPanelsPerPack) {
            const int count = static_cast<int>(std::min<int64_t>(kPanelsPerPack, end - pack));
            for (int i = 0; i < count; ++i) pack_panel(items, (pack + i) * kPanel, dim, &packed[i * kPanel * dim]);
            int64_t user = 0;
            for (; user + kUsers <= users.rows; user += kUsers) {
                for (int i = 0; i < count; ++i) {
                    score_panel<kUsers>(users, user, items, (pack + i) * kPanel, &packed[i * kPanel * dim], dim, out);
                }
            }
            for (; user < users.rows; ++user) {
                for (int i = 0; i < count; ++i) {
                    score_panel<1>(users, user, items, (pack + i) * kPanel, &packed[i * kPanel * dim], dim, out);
                }
            }
        }
    });
}

void pair_scores(const VectorsView& users, const VectorsView& items, int64_t dim, const int64_t* user_index,
                 const int64_t* item_index, int64_t pairs, int threads, float* out) {
    parallel_for(pairs, threads, 1 << 12, [&](int64_t begin, int64_t end) {
        for (int64_t first = begin; first < end; first += kPairs) {
            const int count = static_cast<int>(std::min<int64_t>(kPairs, end - first));
            const float* user[kPairs];
            const float* item[kPairs];
            float sums[kPairs] = {};
            for (int p = 0; p < kPairs; ++p) {  // a short last group repeats its first pair
                const int64_t pair = first + (p < count ? p : 0);
                user[p] = users.vectors + user_index[pair] * dim;
                item[p] = items.vectors + item_index[pair] * dim;
            }
            for (int64_t d = 0; d < dim; ++d) {
                for (int p = 0; p < kPairs; ++p) sums[p] += user[p][d] * item[p][d];
            }
            for (int p = 0; p < count; ++p) {
                float score = sums[p];
                if (users.biases != nullptr) score += users.biases[user_index[first + p]];
                if (items.biases != nullptr) score += items.biases[item_index[first + p]];
                out[first + p] = score;
            }
        }
    });
}

}  // namespace spotfast
