#include "ranks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel_for.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int64_t kUsersAtOnce = 1024;  // share a packed tile, which then costs them nothing
constexpr int64_t kFewTargets = 3;      // up to here scores are compared as they are
constexpr float kLevels = 65000.0f;

// Maps scores to 16 bits such that a higher key means a higher score, whereas equal keys do not mean equal scores.
// Twice as many keys as scores are compared at once. The levels lie between the user's lowest and highest target.
struct Quantiser {
    float low, scale;

    int16_t key(float score) const {
        // A NaN, an excluded item, gets the lowest key: below all targets.
        const float level = (score - low) * scale;
        const float from_below = level > -1.0f ? level : -1.0f;
        const float clamped = from_below < kLevels + 1.0f ? from_below : kLevels + 1.0f;
        return static_cast<int16_t>(static_cast<int32_t>(clamped + 1.0f) - 32768);
    }
};

// The counts of one user's targets.
struct UserTargets {
    int64_t begin, end;  // positions in the targets' items
    Quantiser quantiser;
    bool quantised;
};

class Ranking {
  public:
    Ranking(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
            const RowsView& excluded, int64_t begin, int64_t end)
        : targets_(targets), excluded_(excluded), begin_(begin), offset_(targets.indptr[begin]) {
        const int64_t size = targets.indptr[end] - offset_;
        std::vector<int64_t> user_index(size);
        for (int64_t user = begin; user < end; ++user) {
            for (int64_t t = targets.indptr[user]; t < targets.indptr[user + 1]; ++t) user_index[t - offset_] = user;
        }
        scores_.resize(size);
        pair_scores(users, items, dim, user_index.data(), targets.items + offset_, size, 1, scores_.data());
        keys_.resize(size);
        above_.resize(size);
        equal_.resize(size);
        for (int64_t user = begin; user < end; ++user) users_.push_back(prepare(user));
    }

    // Counts a tile's items above each target of a user, and those equal to it.
    void count(int64_t user, int64_t count, const float* row) {
        const UserTargets& own = users_[user - begin_];
        if (own.quantised) {
            for (int64_t i = 0; i < count; ++i) row_keys_[i] = own.quantiser.key(row[i]);
        }
        for (int64_t t = own.begin; t < own.end; ++t) {
            if (own.quantised) {
                const int16_t key = keys_[t];
                int16_t above = 0, equal = 0;
                for (int64_t i = 0; i < count; ++i) {
                    above = static_cast<int16_t>(above + (row_keys_[i] > key));
                    equal = static_cast<int16_t>(equal + (row_keys_[i] == key));
                }
                if (equal == 0) {
                    above_[t] += above;
                    continue;
                }
            }
            const float score = scores_[t];
            int32_t above = 0, equal = 0;
            for (int64_t i = 0; i < count; ++i) {
                above += row[i] > score;
                equal += row[i] == score;
            }
            above_[t] += above;
            equal_[t] += equal;
        }
    }

    void write(int64_t num_items, double* ranks) const {
        for (size_t u = 0; u < users_.size(); ++u) {
            const int64_t user = begin_ + static_cast<int64_t>(u);
            const int64_t* out = excluded_.items + excluded_.indptr[user];
            const int64_t* out_end = excluded_.items + excluded_.indptr[user + 1];
            for (int64_t t = users_[u].begin; t < users_[u].end; ++t) {
                const bool is_excluded = std::binary_search(out, out_end, targets_.items[offset_ + t]);
                const double last = static_cast<double>(num_items) - static_cast<double>(out_end - out - 1) / 2;
                const double rank = static_cast<double>(above_[t]) + static_cast<double>(equal_[t] + 1) / 2;
                ranks[offset_ + t] = is_excluded ? last : rank;
            }
        }
    }

  private:
    UserTargets prepare(int64_t user) {
        UserTargets own{targets_.indptr[user] - offset_, targets_.indptr[user + 1] - offset_, {}, false};
        if (own.end - own.begin <= kFewTargets) return own;
        const auto [low, high] = std::minmax_element(scores_.begin() + own.begin, scores_.begin() + own.end);
        const float range = *high - *low;
        own.quantised = range > 1e-30f;  // or the scale might overflow
        if (!own.quantised) return own;
        own.quantiser = {*low, kLevels / range};
        for (int64_t t = own.begin; t < own.end; ++t) keys_[t] = own.quantiser.key(scores_[t]);
        return own;
    }

    RowsView targets_, excluded_;
    int64_t begin_, offset_;
    std::vector<UserTargets> users_;
    std::vector<float> scores_;
    std::vector<int16_t> keys_;
    std::vector<int64_t> above_, equal_;
    int16_t row_keys_[ItemTile::kMostItems];
};

}  // namespace

void ranks(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
           const RowsView& excluded, int threads, double* ranks) {
    parallel_for(users.rows, threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t first = begin; first < end; first += kUsersAtOnce) {
            const int64_t last = std::min(first + kUsersAtOnce, end);
            Ranking ranking(users, items, dim, targets, excluded, first, last);
            visit_score_rows(
                users, items, dim, excluded, first, last,
                [&](int64_t user, int64_t, int64_t count, const float* row) { ranking.count(user, count, row); });
            ranking.write(items.rows, ranks);
        }
    });
}

}  // namespace spotfast
