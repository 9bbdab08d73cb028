#include "topk.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel_for.h"
#include "rough_scores.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int64_t kMostUsersAtOnce = 1024;   // share a packed tile, which then costs them nothing
constexpr int64_t kEntriesAtOnce = 1 << 21;  // 32 MB
constexpr int64_t kSpare = 32;               // entries beyond twice the list, so that short lists are not pruned often

// What all users share.
struct Search {
    VectorsView users, items;
    int64_t dim;
    RowsView excluded;
    int64_t k;

    // How many entries a user may hold.
    int64_t room() const { return k > items.rows / 2 - kSpare ? items.rows : 2 * k + kSpare; }
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
    void begin(const Search& search, int64_t user, int64_t error) {
        user_ = user;
        error_ = error;
        next_ = search.excluded.indptr[user];
        cut_ = INT32_MIN;
        entries_.clear();
    }

    // Items whose rough scores are not above it cannot be among the best.
    int32_t cut() const { return cut_; }

    // Takes in an item, unless it is excluded. Ids must ascend.
    void add(const Search& search, int64_t item, int32_t rough) {
        const int64_t end = search.excluded.indptr[user_ + 1];
        while (next_ < end && search.excluded.items[next_] < item) ++next_;
        if (next_ < end && search.excluded.items[next_] == item) return;
        if (static_cast<int64_t>(entries_.size()) == search.room()) {
            prune(search.k);
            // Near-ties in plenty: of those, the exact scores decide, or pruning would not leave room.
            if (2 * static_cast<int64_t>(entries_.size()) > search.room()) keep_best(search);
        }
        if (rough > cut_) entries_.push_back({rough, 0.0f, item});
    }

    void finish(const Search& search, int64_t* ids, float* scores) {
        prune(search.k);
        keep_best(search);
        std::sort(entries_.begin(), entries_.end(), better);
        const int64_t found = static_cast<int64_t>(entries_.size());
        for (int64_t j = 0; j < search.k; ++j) {
            ids[j] = j < found ? entries_[j].item : -1;
            scores[j] = j < found ? entries_[j].score : -INFINITY;
        }
    }

  private:
    // Raises the cut, and drops what is not above it.
    void prune(int64_t k) {
        if (static_cast<int64_t>(entries_.size()) <= k) return;
        std::nth_element(entries_.begin(), entries_.begin() + (k - 1), entries_.end(),
                         [](const Entry& a, const Entry& b) { return a.rough > b.rough; });
        cut_ = static_cast<int32_t>(std::max<int64_t>(entries_[k - 1].rough - 2 * error_ - 1, INT32_MIN));
        const auto dropped = [&](const Entry& entry) { return entry.rough <= cut_; };
        entries_.erase(std::remove_if(entries_.begin(), entries_.end(), dropped), entries_.end());
    }

    // Scores the entries exactly, and drops all but the best k.
    void keep_best(const Search& search) {
        const int64_t count = static_cast<int64_t>(entries_.size());
        const std::vector<int64_t> users(count, user_);
        std::vector<int64_t> items;
        for (const Entry& entry : entries_) items.push_back(entry.item);
        std::vector<float> scores(count);
        pair_scores(search.users, search.items, search.dim, users.data(), items.data(), count, 1, scores.data());
        for (int64_t i = 0; i < count; ++i) entries_[i].score = scores[i];
        if (count <= search.k) return;
        std::nth_element(entries_.begin(), entries_.begin() + (search.k - 1), entries_.end(), better);
        entries_.resize(search.k);
    }

    int64_t user_ = 0, error_ = 0, next_ = 0;  // next_: the first excluded item not yet passed
    int32_t cut_ = INT32_MAX;                  // nothing is above it: for a group's missing users
    std::vector<Entry> entries_;
};

// The users begin .. end - 1, tile by tile.
void search_users(const Search& search, const RoughScale& scale, RoughTile& tile, int64_t begin, int64_t end,
                  int64_t* ids, float* scores) {
    constexpr int kUsers = RoughTile::kUsers;
    const int64_t groups = (end - begin + kUsers - 1) / kUsers, width = scale.width();
    std::vector<int16_t> vectors(groups * kUsers * width);
    std::vector<Candidates> candidates(groups * kUsers);
    for (int64_t user = begin; user < end; ++user) {
        const int64_t error = scale.round_user(search.users, user, vectors.data() + (user - begin) * width);
        candidates[user - begin].begin(search, user, error);
    }
    for (int64_t first = 0; first < search.items.rows; first += tile.capacity()) {
        tile.pack(first, std::min(tile.capacity(), search.items.rows - first));
        for (int64_t group = 0; group < groups; ++group) {
            Candidates* of = &candidates[group * kUsers];
            int32_t cuts[kUsers];
            for (int u = 0; u < kUsers; ++u) cuts[u] = of[u].cut();
            tile.scan(vectors.data() + group * kUsers * width, cuts, [&](int u, int64_t item, int32_t rough) {
                of[u].add(search, item, rough);
                cuts[u] = of[u].cut();
            });
        }
    }
    for (int64_t user = begin; user < end; ++user) {
        candidates[user - begin].finish(search, ids + user * search.k, scores + user * search.k);
    }
}

}  // namespace

void topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
          int threads, int64_t* ids, float* scores) {
    const Search search{users, items, dim, excluded, k};
    const int64_t at_once =
        std::clamp<int64_t>(kEntriesAtOnce / std::max<int64_t>(search.room(), 1), RoughTile::kUsers, kMostUsersAtOnce);
    const RoughScale scale(items, dim);
    parallel_for(users.rows, threads, 1, [&](int64_t begin, int64_t end) {
        RoughTile tile(items, scale);
        for (int64_t first = begin; first < end; first += at_once) {
            search_users(search, scale, tile, first, std::min(first + at_once, end), ids, scores);
        }
    });
}

}  // namespace spotfast
