#include "rough_topk.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <utility>
#include <vector>

#include "best_items.h"
#include "lanes.h"
#include "parallel_for.h"
#include "rough_items.h"
#include "rough_sample.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int kUsers = RoughItems::kUsers;
constexpr int64_t kLeastUsersAtOnce = 100, kMostUsersAtOnce = 400;  // of a thread, who share what is in its cache
constexpr int64_t kEntriesAtOnce = 1 << 21;                         // 16 MB

// What all users share.
struct Search {
    VectorsView users, items;
    int64_t dim;
    RowsView excluded;
    int64_t k;
    RoughItems rough;
};

// The items that may be among a user's best: those whose rough scores do not tell that they cannot.
class Candidates {
  public:
    // Items with rough scores up to `guess` are left out.
    void begin(const Search& search, int64_t user, const RoughUser& scale, int32_t guess) {
        user_ = user;
        scale_ = scale;
        excluded_ = search.excluded.begin(user);
        outlier_ = search.rough.outliers().data();
        cut_ = guess_ = guess;
        waiting_ = 0;
        best_ = BestItems(search.k, search.items.rows);
        add_outliers(search);
    }

    // Items whose rough scores are not above it cannot be among the best, if the guess was right.
    int32_t cut() const { return cut_; }

    // Takes in an item found by its rough score. Ids must ascend.
    void add(const Search& search, int64_t item, int32_t rough) {
        if (rough <= cut_) return;
        prefetch(search.items.vectors + item * search.dim, search.dim * static_cast<int64_t>(sizeof(float)));
        items_[waiting_++] = item;
        if (waiting_ == kTogether) score(search);
    }

    // Writes the list, unless the guess left out what may be in it. Returns whether it did.
    bool write(const Search& search, int64_t* ids, float* scores) {
        score(search);
        best_.settle();
        if (guess_ > RoughScale::kLowest && cut_below_least() < guess_) return false;
        best_.write(ids, scores);
        return true;
    }

  private:
    static constexpr int kTogether = 8;  // are scored side by side

    // Takes in the outliers that are not excluded.
    void add_outliers(const Search& search) {
        for (const int64_t item : search.rough.outliers()) {
            if (search.excluded.has(user_, item)) continue;
            float score;
            item_scores(search.users, user_, search.items, search.dim, &item, 1, &score);
            if (const ScoredItem scored(score, item); best_.accepts(scored)) best_.add(scored);
        }
    }

    void score(const Search& search) {
        float scores[kTogether];
        item_scores(search.users, user_, search.items, search.dim, items_, waiting_, scores);
        for (int i = 0; i < waiting_; ++i) {
            const ScoredItem item(scores[i], items_[i]);
            if (best_.accepts(item) && !is_skipped(search, items_[i])) best_.add(item);
        }
        waiting_ = 0;
        cut_ = std::max(cut_, cut_below_least());
    }

    int32_t cut_below_least() const { return scale_.cut_below_exact(best_.least()); }  // the lowest for -infinity

    // Whether an item found by its rough score does not belong there: it is excluded, or an outlier.
    bool is_skipped(const Search& search, int64_t item) {
        const std::vector<int64_t>& outliers = search.rough.outliers();
        return comes_to(excluded_, search.excluded.end(user_), item) ||
               comes_to(outlier_, outliers.data() + outliers.size(), item);
    }

    // Goes on in a list of ascending ids, and tells whether it has this one.
    static bool comes_to(const int64_t*& next, const int64_t* end, int64_t item) {
        while (next < end && *next < item) ++next;
        return next < end && *next == item;
    }

    int64_t user_ = 0;
    RoughUser scale_{};
    const int64_t *excluded_ = nullptr, *outlier_ = nullptr;             // the first of them that have not been passed
    int32_t cut_ = RoughScale::kHighest, guess_ = RoughScale::kHighest;  // for a group's missing users
    int waiting_ = 0;
    int64_t items_[kTogether];
    BestItems best_;
};

// Users in groups that share the loads of a tile.
class Searchers {
  public:
    Searchers(const Search& search, std::vector<int64_t> users)
        : search_(search), users_(std::move(users)), scales_(users_.size()) {
        const size_t groups = (users_.size() + kUsers - 1) / kUsers;
        const int64_t words = search.rough.words();
        words_.resize(groups * kUsers * words);
        candidates_.resize(groups * kUsers);
        groups_.resize(groups);
        for (size_t j = 0; j < users_.size(); ++j) {
            scales_[j] = search.rough.round_user(search.users, users_[j], words_.data() + j * words);
            groups_[j / kUsers].sums[j % kUsers] = scales_[j].sum;
        }
        for (size_t group = 0; group < groups; ++group) groups_[group].words = words_.data() + group * kUsers * words;
    }

    // Rough scores above which all items of the users' lists are likely to be.
    std::vector<int32_t> guesses(const RoughSample& sample) const {
        std::vector<int32_t> guesses(users_.size());
        for (size_t first = 0; first < users_.size(); first += kUsers) {
            const int count = static_cast<int>(std::min<size_t>(kUsers, users_.size() - first));
            sample.guess(groups_[first / kUsers], &scales_[first], &users_[first], count, search_.excluded,
                         &guesses[first]);
        }
        return guesses;
    }

    // Finds the lists of all users; returns those whose guess was wrong, and whose lists were not written.
    std::vector<int64_t> find(const std::vector<int32_t>& guesses, int64_t* ids, float* scores) {
        for (size_t j = 0; j < users_.size(); ++j) {
            candidates_[j].begin(search_, users_[j], scales_[j], guesses[j]);
        }
        scan();
        std::vector<int64_t> wrong;
        for (size_t j = 0; j < users_.size(); ++j) {
            const int64_t place = users_[j] * search_.k;
            if (!candidates_[j].write(search_, ids + place, scores + place)) wrong.push_back(users_[j]);
        }
        return wrong;
    }

  private:
    // Collects the candidates, tile by tile.
    void scan() {
        const RoughItems& items = search_.rough;
        for (int64_t begin = 0; begin < items.panels(); begin += items.panels_in_cache()) {
            const int64_t end = std::min(begin + items.panels_in_cache(), items.panels());
            for (size_t group = 0; group < groups_.size(); ++group) {
                Candidates* of = &candidates_[group * kUsers];
                int32_t cuts[kUsers];
                for (int u = 0; u < kUsers; ++u) cuts[u] = of[u].cut();
                items.scan(begin, end, groups_[group], cuts, [&](int u, int64_t item, int32_t rough) {
                    of[u].add(search_, item, rough);
                    cuts[u] = of[u].cut();
                });
            }
        }
    }

    const Search& search_;
    std::vector<int64_t> users_;
    std::vector<RoughUser> scales_;
    std::vector<int32_t> words_;
    std::vector<RoughGroup> groups_;
    std::vector<Candidates> candidates_;
};

}  // namespace

int64_t rough_topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
                   int threads, int64_t* ids, float* scores, bool quads) {
    const Search search{users, items, dim, excluded, k, RoughItems(items, dim, threads, quads)};
    const RoughSample sample(k, search.rough);
    const int64_t most = std::max<int64_t>(BestItems::room(k, items.rows), 1);
    const int64_t at_once = std::clamp<int64_t>(kEntriesAtOnce / most, kUsers, kMostUsersAtOnce);
    std::atomic<int64_t> again{0};
    parallel_chunks(users.rows, threads, std::min(kLeastUsersAtOnce, at_once), at_once,
                    [&](int64_t begin, int64_t end) {
                        std::vector<int64_t> some(end - begin), wrong;
                        std::iota(some.begin(), some.end(), begin);
                        {
                            Searchers searchers(search, std::move(some));
                            wrong = searchers.find(searchers.guesses(sample), ids, scores);
                        }
                        if (wrong.empty()) return;
                        again += static_cast<int64_t>(wrong.size());
                        const std::vector<int32_t> none(wrong.size(), RoughScale::kLowest);
                        Searchers(search, std::move(wrong)).find(none, ids, scores);
                    });
    return again;
}

}  // namespace spotfast
