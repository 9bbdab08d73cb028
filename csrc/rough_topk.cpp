#include "rough_topk.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <numeric>
#include <utility>
#include <vector>

#include "best_items.h"
#include "lanes.h"
#include "parallel_for.h"
#include "rough_items.h"
#include "scores.h"

namespace spotfast {

namespace {

constexpr int kUsers = RoughItems::kUsers, kPanel = RoughItems::kPanel;
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

// The items that are not in a user's list, whatever their rough scores: those excluded, and outliers. Ascending.
struct Skipped {
    const int64_t *begin, *end;
};

// Panels spread over the catalogue: a look at them tells above which rough score a user's list begins, most often.
//
// The best of a short list's items are taken from few panels, and so is a bound that is never wrong. For long lists
// that is a share of the list, and a little more: the last of these is worse than the k-th best of all items, but for
// one user in some thousands where the order of items is random; and so few that not many items are better.
struct Sample {
    static constexpr int kLeastShift = 3;          // at most one panel in eight
    static constexpr int64_t kPanelsOfShort = 48;  // at least, if the catalogue has so many
    static constexpr int64_t kSlots = 4;           // maxima per wanted item: the best ones rarely share one

    int shift = kLeastShift;  // every panel whose number is a multiple of 1 << shift
    int64_t panels = 0;
    int64_t wanted = 0;
    int64_t slots = 0;  // in panels: a slot holds the maximum of the items that fall on it

    Sample(int64_t k, const RoughItems& items) {
        if (k <= BestItems::kShort) {
            wanted = k;
            while (items.panels() >> (shift + 1) >= kPanelsOfShort) ++shift;
        } else {
            const double expected = static_cast<double>(k) / (1 << shift);
            wanted = static_cast<int64_t>(std::ceil(expected + 3.0 * std::sqrt(expected) + 2.0));
        }
        slots = (kSlots * wanted + kPanel - 1) / kPanel;
        const int64_t some = items.panels() >> shift;  // never the last panel, which may not be full
        if (some >= slots) panels = some;
    }

    int64_t stride() const { return int64_t{1} << shift; }
};

// The items that may be among a user's best: those whose rough scores do not tell that they cannot.
class Candidates {
  public:
    // Items with rough scores up to `guess` are left out.
    void begin(const Search& search, int64_t user, const RoughUser& scale, const Skipped& skipped, int32_t guess) {
        user_ = user;
        scale_ = scale;
        skipped_ = skipped;
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
            if (best_.accepts(item) && !is_skipped(items_[i])) best_.add(item);
        }
        waiting_ = 0;
        cut_ = std::max(cut_, cut_below_least());
    }

    int32_t cut_below_least() const {
        return best_.full() ? scale_.cut_below_exact(best_.least()) : RoughScale::kLowest;
    }

    bool is_skipped(int64_t item) {
        while (skipped_.begin < skipped_.end && *skipped_.begin < item) ++skipped_.begin;
        return skipped_.begin < skipped_.end && *skipped_.begin == item;
    }

    int64_t user_ = 0;
    RoughUser scale_{};
    Skipped skipped_{};
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
            scales_[j] = search.rough.round_user(search.users, users_[j], &words_[j * words]);
            groups_[j / kUsers].sums[j % kUsers] = scales_[j].sum;
        }
        for (size_t group = 0; group < groups; ++group) groups_[group].words = &words_[group * kUsers * words];
        skip();
    }

    // Rough scores above which all items of the users' lists are, or are likely to be.
    std::vector<int32_t> guesses(const Sample& sample) const {
        std::vector<int32_t> guesses(users_.size(), RoughScale::kLowest);
        const int64_t slots = sample.slots * kPanel;
        std::vector<int32_t> maxima(kUsers * slots);
        for (size_t first = 0; first < users_.size() && sample.panels > 0; first += kUsers) {
            std::fill(maxima.begin(), maxima.end(), INT32_MIN);
            const int here = static_cast<int>(std::min<size_t>(kUsers, users_.size() - first));
            find_maxima(sample, first, here, maxima.data());
            for (int u = 0; u < here; ++u) {
                int32_t* of = &maxima[u * slots];
                std::nth_element(of, of + (sample.wanted - 1), of + slots, std::greater<>());
                const int32_t last = of[sample.wanted - 1];
                if (last > INT32_MIN) guesses[first + u] = scales_[first + u].cut_below(last);
            }
        }
        return guesses;
    }

    // Finds the lists of all users; returns those whose guess was wrong, and whose lists were not written.
    std::vector<int64_t> find(const std::vector<int32_t>& guesses, int64_t* ids, float* scores) {
        for (size_t j = 0; j < users_.size(); ++j) {
            candidates_[j].begin(search_, users_[j], scales_[j], skipped_[j], guesses[j]);
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
    // Finds out which items are skipped; there are lists of our own only if there are outliers.
    void skip() {
        const RowsView& excluded = search_.excluded;
        for (const int64_t user : users_) skipped_.push_back({excluded.begin(user), excluded.end(user)});
        const std::vector<int64_t>& outliers = search_.rough.outliers();
        if (outliers.empty()) return;
        std::vector<size_t> ends;
        for (const Skipped& of : skipped_) {
            std::set_union(of.begin, of.end, outliers.begin(), outliers.end(), std::back_inserter(united_));
            ends.push_back(united_.size());
        }
        for (size_t j = 0; j < users_.size(); ++j) {
            skipped_[j] = {united_.data() + (j == 0 ? 0 : ends[j - 1]), united_.data() + ends[j]};
        }
    }

    // Of each user of a group, the maximum of each slot; INT32_MIN where all that fall on it are skipped.
    void find_maxima(const Sample& sample, size_t first, int here, int32_t* maxima) const {
        constexpr int32_t kCuts[kUsers] = {-1, -1, -1, -1, -1};  // leads are scores then
        const int64_t* next[kUsers];
        for (int u = 0; u < here; ++u) next[u] = skipped_[first + u].begin;
        for (int64_t begin = 0; begin < sample.panels; begin += RoughItems::kPanels) {
            RoughItems::Leads scores;
            const int64_t count = std::min<int64_t>(RoughItems::kPanels, sample.panels - begin);
            const int64_t stride = sample.stride(), end = (begin + count) * stride * kPanel;
            search_.rough.score(begin * stride, count, stride, groups_[first / kUsers], kCuts, scores);
            for (int u = 0; u < here; ++u) {
                for (; next[u] < skipped_[first + u].end && *next[u] < end; ++next[u]) {
                    const int64_t panel = *next[u] / kPanel;
                    if ((panel & (stride - 1)) != 0) continue;
                    scores[(panel >> sample.shift) - begin][u][*next[u] % kPanel] = INT32_MIN;
                }
                for (int64_t panel = 0; panel < count; ++panel) {
                    int32_t* slots = &maxima[(u * sample.slots + (begin + panel) % sample.slots) * kPanel];
                    for (int i = 0; i < kPanel; ++i) slots[i] = std::max(slots[i], scores[panel][u][i]);
                }
            }
        }
    }

    // Collects the candidates, tile by tile.
    void scan() {
        const RoughItems& items = search_.rough;
        for (int64_t begin = 0; begin < items.panels(); begin += items.panels_at_once()) {
            const int64_t end = std::min(begin + items.panels_at_once(), items.panels());
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
    std::vector<Skipped> skipped_;
    std::vector<int64_t> united_;  // what is skipped, if there are outliers
    std::vector<int32_t> words_;
    std::vector<RoughGroup> groups_;
    std::vector<Candidates> candidates_;
};

}  // namespace

void rough_topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
                int threads, int64_t* ids, float* scores) {
    const Search search{users, items, dim, excluded, k, RoughItems(items, dim, threads)};
    const Sample sample(k, search.rough);
    const int64_t most = std::max<int64_t>(BestItems::room(k, items.rows), 1);
    const int64_t at_once = std::clamp<int64_t>(kEntriesAtOnce / most, kUsers, kMostUsersAtOnce);
    parallel_chunks(users.rows, threads, std::min(kLeastUsersAtOnce, at_once), at_once,
                    [&](int64_t begin, int64_t end) {
                        std::vector<int64_t> some(end - begin);
                        std::iota(some.begin(), some.end(), begin);
                        Searchers searchers(search, std::move(some));
                        std::vector<int64_t> wrong = searchers.find(searchers.guesses(sample), ids, scores);
                        if (wrong.empty()) return;
                        const std::vector<int32_t> none(wrong.size(), RoughScale::kLowest);
                        Searchers(search, std::move(wrong)).find(none, ids, scores);
                    });
}

}  // namespace spotfast
