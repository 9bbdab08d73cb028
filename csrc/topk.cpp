#include "topk.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "best_numbers.h"
#include "parallel_for.h"
#include "rough_scores.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int64_t kLeastUsersAtOnce = 250, kMostUsersAtOnce = 1000;  // share a packed tile: it costs them nothing
constexpr int64_t kEntriesAtOnce = 1 << 21;                          // 32 MB
constexpr int64_t kSampled = 8;                                      // one item in so many is in the sample
constexpr int64_t kLeastSampled = 32;                                // lists from this length on are worth a sample
constexpr int64_t kSpare = 32;  // entries beyond twice the list, so that short lists are not pruned often

// What all users share.
struct Search {
    VectorsView users, items;
    int64_t dim;
    RowsView excluded;
    int64_t k;
    RoughScale scale;
};

// How many entries a user may hold who looks for so many.
int64_t room(const Search& search, int64_t wanted) {
    return wanted > search.items.rows / 2 - kSpare ? search.items.rows : 2 * wanted + kSpare;
}

// Every stride-th item, of which the best `wanted` are found first. They are so many that the last of them is worse
// than the k-th best of all items, but for one user in some thousands where the order of items is random; and so few
// that not many items are better.
struct Sample {
    int64_t stride = 0, wanted = 0;

    Sample(int64_t k, int64_t num_items) {
        const int64_t count = num_items / kSampled;
        if (k < kLeastSampled || k * kSampled > num_items) return;  // short lists fill at once, long ones hold most
        const double expected = static_cast<double>(k) / kSampled;
        wanted = static_cast<int64_t>(std::ceil(expected + 3.0 * std::sqrt(expected) + 2.0));
        stride = 2 * wanted < count ? kSampled : 0;
    }
};

struct Entry {
    int32_t rough;
    float score;
    int64_t item;
};

bool better(const Entry& a, const Entry& b) { return a.score > b.score || (a.score == b.score && a.item < b.item); }

// The items that may be among a user's best: those whose rough score is at most twice its error below the k-th best.
class Candidates {
  public:
    // Looks for the `wanted` best items. Those whose rough scores are not above `guess` are left out: see `prune`.
    void begin(const Search& search, int64_t user, const RoughUser& scale, int64_t wanted, int32_t guess) {
        user_ = user;
        scale_ = scale;
        wanted_ = wanted;
        room_ = room(search, wanted);
        next_excluded_ = search.excluded.items + search.excluded.indptr[user];
        next_outlier_ = search.scale.outliers().data();
        find_next_skipped(search);
        cut_ = guess_ = guess;
        entries_.clear();
        if (is_short()) best_.begin(wanted);
    }

    // Items whose rough scores are not above it cannot be among the best, if the guess was right.
    int32_t cut() const { return cut_; }

    // Takes in an item found by its rough score, unless it is excluded, or an outlier. Ids must ascend.
    void add(const Search& search, int64_t item, int32_t rough) {
        while (next_skipped_ < item) {
            next_excluded_ += next_excluded_ < excluded_end(search) && *next_excluded_ == next_skipped_;
            next_outlier_ += next_outlier_ < outliers_end(search) && *next_outlier_ == next_skipped_;
            find_next_skipped(search);
        }
        if (next_skipped_ != item) take(search, item, rough);
    }

    // Takes in the outliers that are not excluded, by their exact scores.
    void add_outliers(const Search& search) {
        for (const int64_t item : search.scale.outliers()) {
            const int64_t* row = search.excluded.items + search.excluded.indptr[user_];
            if (std::binary_search(row, excluded_end(search), item)) continue;
            float score;
            pair_scores(search.users, search.items, search.dim, &user_, &item, 1, 1, &score);
            take(search, item, scale_.of_exact(score));
        }
    }

    // Drops what cannot be among the best. Returns whether all that can are there: the guess left none of them out.
    bool prune() {
        if (static_cast<int64_t>(entries_.size()) < wanted_) return guess_ == INT32_MIN;
        const int32_t cut = cut_below(is_short() ? best_.least() : last_wanted());
        cut_ = std::max(cut, guess_);
        const auto dropped = [&](const Entry& entry) { return entry.rough <= cut_; };
        entries_.erase(std::remove_if(entries_.begin(), entries_.end(), dropped), entries_.end());
        return cut >= guess_;
    }

    void write(const Search& search, int64_t* ids, float* scores) {
        keep_best(search);
        std::sort(entries_.begin(), entries_.end(), better);
        const int64_t found = static_cast<int64_t>(entries_.size());
        for (int64_t j = 0; j < wanted_; ++j) {
            ids[j] = j < found ? entries_[j].item : -1;
            scores[j] = j < found ? entries_[j].score : -INFINITY;
        }
    }

  private:
    const int64_t* excluded_end(const Search& search) const {
        return search.excluded.items + search.excluded.indptr[user_ + 1];
    }
    static const int64_t* outliers_end(const Search& search) {
        return search.scale.outliers().data() + search.scale.outliers().size();
    }

    void find_next_skipped(const Search& search) {
        next_skipped_ = next_excluded_ < excluded_end(search) ? *next_excluded_ : INT64_MAX;
        if (next_outlier_ < outliers_end(search)) next_skipped_ = std::min(next_skipped_, *next_outlier_);
    }

    void take(const Search& search, int64_t item, int32_t rough) {
        if (static_cast<int64_t>(entries_.size()) == room_) {
            prune();
            // Near-ties in plenty: of those, the exact scores decide, or pruning would not leave room.
            if (2 * static_cast<int64_t>(entries_.size()) > room_) keep_best(search);
        }
        if (rough <= cut_) return;  // raised since the panel was scored
        entries_.push_back({rough, 0.0f, item});
        if (is_short()) {
            best_.add(rough);
            if (best_.full()) cut_ = std::max(cut_below(best_.least()), guess_);
        }
    }

    // Short lists raise the cut with every item they take in; others when they run out of room.
    bool is_short() const { return wanted_ <= BestNumbers::kMost; }

    // The rough score of the last of the best `wanted_` entries.
    int32_t last_wanted() {
        std::nth_element(entries_.begin(), entries_.begin() + (wanted_ - 1), entries_.end(),
                         [](const Entry& a, const Entry& b) { return a.rough > b.rough; });
        return entries_[wanted_ - 1].rough;
    }

    // Items with this rough score, or lower ones, are worse than those with `rough`.
    int32_t cut_below(int32_t rough) const {
        return static_cast<int32_t>(std::max<int64_t>(rough - 2 * scale_.error - 1, INT32_MIN));
    }

    // Scores the entries exactly, and drops all but the best `wanted_`.
    void keep_best(const Search& search) {
        const int64_t count = static_cast<int64_t>(entries_.size());
        const std::vector<int64_t> users(count, user_);
        std::vector<int64_t> items;
        for (const Entry& entry : entries_) items.push_back(entry.item);
        std::vector<float> scores(count);
        pair_scores(search.users, search.items, search.dim, users.data(), items.data(), count, 1, scores.data());
        for (int64_t i = 0; i < count; ++i) entries_[i].score = scores[i];
        if (count <= wanted_) return;
        std::nth_element(entries_.begin(), entries_.begin() + (wanted_ - 1), entries_.end(), better);
        entries_.resize(wanted_);
    }

    int64_t user_ = 0, wanted_ = 0, room_ = 0;
    RoughUser scale_{};
    const int64_t *next_excluded_ = nullptr, *next_outlier_ = nullptr;  // the first of them not yet passed
    int64_t next_skipped_ = 0;                                          // the lower of the two
    int32_t cut_ = INT32_MAX, guess_ = INT32_MAX;  // nothing is above it: for a group's missing users
    std::vector<Entry> entries_;
    BestNumbers best_;  // rough scores of a short list
};

// Users in groups that share the loads of a tile.
class Searchers {
  public:
    Searchers(const Search& search, std::vector<int64_t> users)
        : search_(search), users_(std::move(users)), width_(search.scale.width()), scales_(users_.size()) {
        const size_t places = (users_.size() + kUsers - 1) / kUsers * kUsers;
        vectors_.resize(places * width_);
        candidates_.resize(places);
        for (size_t j = 0; j < users_.size(); ++j) {
            scales_[j] = search.scale.round_user(search.users, users_[j], &vectors_[j * width_]);
        }
    }

    // Rough scores above which all items of the users' lists are likely to be, from a sample of the items.
    std::vector<int32_t> guesses(RoughTile& tile, const Sample& sample) {
        std::vector<int32_t> guesses(users_.size(), INT32_MIN);
        if (sample.stride == 0) return guesses;
        begin(sample.wanted, guesses);
        scan(tile, sample.stride);
        for (size_t j = 0; j < users_.size(); ++j) {
            candidates_[j].prune();
            guesses[j] = candidates_[j].cut();
        }
        return guesses;
    }

    // Finds the lists of all users; returns those whose guess was wrong, and whose lists were not written.
    std::vector<int64_t> find(RoughTile& tile, const std::vector<int32_t>& guesses, int64_t* ids, float* scores) {
        std::vector<int64_t> wrong;
        begin(search_.k, guesses);
        for (size_t j = 0; j < users_.size(); ++j) candidates_[j].add_outliers(search_);
        scan(tile, 1);
        for (size_t j = 0; j < users_.size(); ++j) {
            if (candidates_[j].prune()) {
                candidates_[j].write(search_, ids + users_[j] * search_.k, scores + users_[j] * search_.k);
            } else {
                wrong.push_back(users_[j]);
            }
        }
        return wrong;
    }

  private:
    static constexpr int kUsers = RoughTile::kUsers;

    void begin(int64_t wanted, const std::vector<int32_t>& guesses) {
        for (size_t j = 0; j < users_.size(); ++j) {
            candidates_[j].begin(search_, users_[j], scales_[j], wanted, guesses[j]);
        }
    }

    // Collects the best of every stride-th item, tile by tile.
    void scan(RoughTile& tile, int64_t stride) {
        const int64_t count = (search_.items.rows + stride - 1) / stride;
        for (int64_t first = 0; first < count; first += tile.capacity()) {
            tile.pack(first * stride, std::min(tile.capacity(), count - first), stride);
            for (size_t group = 0; group < candidates_.size(); group += kUsers) {
                Candidates* of = &candidates_[group];
                int32_t cuts[kUsers];
                for (int u = 0; u < kUsers; ++u) cuts[u] = of[u].cut();
                tile.scan(&vectors_[group * width_], cuts, [&](int u, int64_t item, int32_t rough) {
                    of[u].add(search_, item, rough);
                    cuts[u] = of[u].cut();
                });
            }
        }
    }

    const Search& search_;
    std::vector<int64_t> users_;
    int64_t width_;
    std::vector<RoughUser> scales_;
    std::vector<int16_t> vectors_;
    std::vector<Candidates> candidates_;
};

}  // namespace

void topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
          int threads, int64_t* ids, float* scores) {
    const Search search{users, items, dim, excluded, k, RoughScale(items, dim)};
    const Sample sample(k, items.rows);
    const int64_t most = std::max<int64_t>(room(search, k), 1);
    const int64_t at_once = std::clamp<int64_t>(kEntriesAtOnce / most, RoughTile::kUsers, kMostUsersAtOnce);
    parallel_chunks(users.rows, threads, std::min(kLeastUsersAtOnce, at_once), at_once,
                    [&](int64_t begin, int64_t end) {
                        RoughTile tile(items, dim, search.scale);
                        std::vector<int64_t> some(end - begin);
                        std::iota(some.begin(), some.end(), begin);
                        std::vector<int64_t> wrong;
                        {
                            Searchers searchers(search, std::move(some));
                            wrong = searchers.find(tile, searchers.guesses(tile, sample), ids, scores);
                        }
                        if (wrong.empty()) return;
                        const std::vector<int32_t> none(wrong.size(), INT32_MIN);
                        Searchers(search, std::move(wrong)).find(tile, none, ids, scores);
                    });
}

}  // namespace spotfast
