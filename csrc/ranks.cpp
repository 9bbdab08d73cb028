#include "ranks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel_for.h"
#include "score_keys.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int64_t kLeastUsers = 64, kMostUsers = 512;  // share a packed tile, which then costs them little
constexpr int kTargetsAtOnce = 8;                      // share the loads of a tile's keys

// The targets of some users, but for the excluded ones. They are compared with each other at once, and with all other
// items tile by tile: by key, and by score where a key is equal to the target's.
class Ranking {
  public:
    // Writes the counts of excluded targets.
    Ranking(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
            const RowsView& excluded, int64_t begin, int64_t end, const RankCounts& counts)
        : begin_(begin), counts_(counts) {
        for (int64_t user = begin; user < end; ++user) add_user(user, targets, excluded, items.rows);
        next_ = starts_;
        starts_.push_back(static_cast<int64_t>(items_.size()));
        std::vector<int64_t> user_index(items_.size());
        for (int64_t user = begin; user < end; ++user) {
            std::fill(user_index.data() + starts_[user - begin], user_index.data() + starts_[user - begin + 1], user);
        }
        scores_.resize(items_.size());
        keys_.resize(items_.size());
        above_.resize(items_.size());
        const auto pairs = static_cast<int64_t>(items_.size());
        pair_scores(users, items, dim, user_index.data(), items_.data(), pairs, 1, scores_.data());
        for (int64_t user = 0; user < end - begin; ++user) compare_targets(starts_[user], starts_[user + 1]);
    }

    // Counts a tile's items, from `first` on, above each target of a user, and those equal to it.
    void count(int64_t user, int64_t first, int64_t count, const float* row) {
        int64_t t = starts_[user - begin_];
        const int64_t end = starts_[user - begin_ + 1];
        if (t == end) return;
        score_keys(row, count, scales_[user - begin_], row_keys_);
        int64_t& next = next_[user - begin_];
        for (; next < end && items_[next] < first + count; ++next) row_keys_[items_[next] - first] = KeyScale::kNone;
        for (; t < end; t += kTargetsAtOnce) {
            const int some = static_cast<int>(std::min<int64_t>(kTargetsAtOnce, end - t));
            count_targets<kTargetsAtOnce>(some, t, first, count, row);
        }
    }

    // Writes the counts of all other targets. Of equal items there are few: they have been counted in place.
    void write() const {
        for (size_t t = 0; t < places_.size(); ++t) counts_.above[places_[t]] = above_[t];
    }

  private:
    void add_user(int64_t user, const RowsView& targets, const RowsView& excluded, int64_t num_items) {
        starts_.push_back(static_cast<int64_t>(items_.size()));
        const int64_t first = excluded.indptr[user], last = excluded.indptr[user + 1];
        int64_t out = first;
        for (int64_t t = targets.indptr[user]; t < targets.indptr[user + 1]; ++t) {
            const int64_t item = targets.items[t];
            while (out < last && excluded.items[out] < item) ++out;
            if (out < last && excluded.items[out] == item) {
                counts_.above[t] = num_items - (last - first);
                counts_.equal[t] = last - first;
                counts_.before[t] = out - first;
            } else {
                items_.push_back(item);
                places_.push_back(t);
            }
        }
    }

    // The targets of one user; their keys tell apart what lies between the lowest and the highest.
    void compare_targets(int64_t begin, int64_t end) {
        const float* scores = scores_.data();
        const auto [low, high] = std::minmax_element(scores + begin, scores + end);
        scales_.push_back(begin == end ? KeyScale(0, 0) : KeyScale(*low, *high));
        for (int64_t t = begin; t < end; ++t) {
            const float score = scores[t];
            int32_t above = 0, equal = 0;  // as narrow as the scores: SIMD
            for (int64_t other = begin; other < end; ++other) {
                above += scores[other] > score;
                equal += scores[other] == score;
            }
            keys_[t] = scales_.back().key(score);
            above_[t] = above;
            counts_.equal[places_[t]] = equal;
            counts_.before[places_[t]] = equal == 1 ? 0 : std::count(scores + begin, scores + t, score);
        }
    }

    // Of the targets t .. t + some - 1, at most kTargets.
    template <int kTargets>
    void count_targets(int some, int64_t t, int64_t first, int64_t count, const float* row) {
        if constexpr (kTargets > 1) {
            if (some < kTargets) return count_targets<kTargets - 1>(some, t, first, count, row);
        }
        compare_keys<kTargets>(row_keys_, count, &keys_[t], &above_[t], [&](int j, int64_t i) {
            const int64_t target = t + j;
            above_[target] += row[i] > scores_[target];
            if (row[i] == scores_[target]) {
                counts_.equal[places_[target]] += 1;
                counts_.before[places_[target]] += first + i < items_[target];
            }
        });
    }

    int64_t begin_;  // the first user
    RankCounts counts_;
    std::vector<int64_t> starts_, next_;   // of each user's targets: the first, and the first in a tile to come
    std::vector<int64_t> items_, places_;  // of each target: its item, and its place among all targets
    std::vector<float> scores_;
    std::vector<KeyScale> scales_;
    std::vector<int16_t> keys_;
    std::vector<int64_t> above_;
    int16_t row_keys_[ItemTile::kMostItems];  // whole blocks
    static_assert(ItemTile::kMostItems % kKeyBlock == 0 && ItemTile::kMostItems <= INT16_MAX);
};

}  // namespace

void rank_counts(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
                 const RowsView& excluded, int threads, const RankCounts& counts) {
    parallel_chunks(users.rows, threads, kLeastUsers, kMostUsers, [&](int64_t begin, int64_t end) {
        Ranking ranking(users, items, dim, targets, excluded, begin, end, counts);
        visit_score_rows(users, items, dim, excluded, begin, end,
                         [&](int64_t user, int64_t first_item, int64_t count, const float* row) {
                             ranking.count(user, first_item, count, row);
                         });
        ranking.write();
    });
}

}  // namespace spotfast
