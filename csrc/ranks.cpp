#include "ranks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel_for.h"
#include "score_keys.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int64_t kLeastUsers = 256, kMostUsers = 1024;  // share a packed tile, which then costs them little
constexpr int kTargetsAtOnce = 4;                        // share the loads of a tile's keys

// The targets of some users. Items are compared with them by key, and by score where a key is equal to the target's.
class Ranking {
  public:
    Ranking(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
            const RowsView& excluded, int64_t begin, int64_t end)
        : targets_(targets), excluded_(excluded), begin_(begin), end_(end), offset_(targets.indptr[begin]) {
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
        before_.resize(size);
        for (int64_t user = begin; user < end; ++user) set_keys(targets.indptr[user], targets.indptr[user + 1]);
    }

    // Counts a tile's items, from `first` on, above each target of a user, and those equal to it.
    void count(int64_t user, int64_t first, int64_t count, const float* row) {
        int64_t t = targets_.indptr[user] - offset_;
        const int64_t end = targets_.indptr[user + 1] - offset_;
        if (t == end) return;
        score_keys(row, count, scales_[user - begin_], row_keys_);
        for (; t < end; t += kTargetsAtOnce) {
            const int some = static_cast<int>(std::min<int64_t>(kTargetsAtOnce, end - t));
            count_targets<kTargetsAtOnce>(some, t, first, count, row);
        }
    }

    void write(int64_t num_items, const RankCounts& counts) const {
        for (int64_t user = begin_; user < end_; ++user) {
            const int64_t* out = excluded_.items + excluded_.indptr[user];
            const int64_t* out_end = excluded_.items + excluded_.indptr[user + 1];
            for (int64_t t = targets_.indptr[user] - offset_; t < targets_.indptr[user + 1] - offset_; ++t) {
                const int64_t target = targets_.items[offset_ + t];
                const int64_t* place = std::lower_bound(out, out_end, target);
                const bool is_excluded = place < out_end && *place == target;
                counts.above[offset_ + t] = is_excluded ? num_items - (out_end - out) : above_[t];
                counts.equal[offset_ + t] = is_excluded ? out_end - out : equal_[t];
                counts.before[offset_ + t] = is_excluded ? place - out : before_[t];
            }
        }
    }

  private:
    // Keys tell apart what lies between a user's lowest and highest target.
    void set_keys(int64_t begin, int64_t end) {
        const float *first = &scores_[begin - offset_], *last = first + (end - begin);
        const auto [low, high] = std::minmax_element(first, last);
        scales_.push_back(first == last ? KeyScale(0, 0) : KeyScale(*low, *high));
        const KeyScale& scale = scales_.back();
        std::transform(first, last, &keys_[begin - offset_], [&](float score) { return scale.key(score); });
    }

    // Of the targets t .. t + some - 1, at most kTargets.
    template <int kTargets>
    void count_targets(int some, int64_t t, int64_t first, int64_t count, const float* row) {
        if constexpr (kTargets > 1) {
            if (some < kTargets) return count_targets<kTargets - 1>(some, t, first, count, row);
        }
        uint32_t found = compare_keys<kTargets>(row_keys_, count, &keys_[t], &above_[t]);
        for (int j = 0; found != 0; ++j, found >>= 1) {
            if ((found & 1) != 0) count_by_score(t + j, first, count, row);
        }
    }

    // Counts the items whose keys are equal to a target's.
    void count_by_score(int64_t t, int64_t first, int64_t count, const float* row) {
        const float score = scores_[t];
        const int64_t target = targets_.items[offset_ + t] - first;
        int64_t above = 0, equal = 0, before = 0;
        find_key(row_keys_, count, keys_[t], [&](int64_t i) {
            above += row[i] > score;
            equal += row[i] == score;
            before += row[i] == score && i < target;
        });
        above_[t] += above;
        equal_[t] += equal;
        before_[t] += before;
    }

    RowsView targets_, excluded_;
    int64_t begin_, end_, offset_;  // the users, and the first position of their targets
    std::vector<KeyScale> scales_;
    std::vector<float> scores_;
    std::vector<int16_t> keys_;
    std::vector<int64_t> above_, equal_, before_;
    int16_t row_keys_[ItemTile::kMostItems];  // whole blocks
    static_assert(ItemTile::kMostItems % kKeyBlock == 0 && ItemTile::kMostItems <= INT16_MAX);
};

}  // namespace

void rank_counts(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
                 const RowsView& excluded, int threads, const RankCounts& counts) {
    parallel_chunks(users.rows, threads, kLeastUsers, kMostUsers, [&](int64_t begin, int64_t end) {
        Ranking ranking(users, items, dim, targets, excluded, begin, end);
        visit_score_rows(users, items, dim, excluded, begin, end,
                         [&](int64_t user, int64_t first_item, int64_t count, const float* row) {
                             ranking.count(user, first_item, count, row);
                         });
        ranking.write(items.rows, counts);
    });
}

}  // namespace spotfast
