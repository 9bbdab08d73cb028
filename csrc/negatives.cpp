#include "negatives.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "lanes.h"
#include "parallel_for.h"
#include "philox.h"
#include "positives_before.h"
#include "row_searches.h"

namespace spotfast {

namespace {

constexpr int64_t kGrain = 1 << 14;  // draws per thread, at least
constexpr int kCounted = 4;          // draws of a user that are worth being counted in its row, if that is short
constexpr int kShared = 12;          // draws of a user that are worth a search of their own
constexpr int64_t kShortRow = 64;    // items

// items[i] = the item of words[i] that users[i] has not: the x-th one, and x + how many of the user's row come before
// it. Neighbouring draws of a user share a look at its row; others, and those that are too few for a long row, wait for
// memory together.
void find_unseen(const int64_t* users, const uint32_t* words, int size, int64_t num_items,
                 const PositivesView& positives, int64_t* items) {
    const auto row = [&](int i) { return positives.items + positives.indptr[users[i]]; };
    const auto count = [&](int i) { return positives.indptr[users[i] + 1] - positives.indptr[users[i]]; };
    int32_t x[kDraws + kBounds], before[kDraws + kBounds];
    int others[kDraws], lanes = 0;
    for (int first = 0, end; first < size; first = end) {
        const uint64_t left = num_items - count(first);
        for (end = first; end < size && users[end] == users[first]; ++end) {
            x[end] = static_cast<int32_t>(below(words[end], left));
        }
        const bool is_short = count(first) <= kShortRow;
        if (end - first < (is_short ? kCounted : kShared)) {
            for (int i = first; i < end; ++i) others[lanes++] = i;
        } else if (is_short) {
            count_positives_before(row(first), count(first), x + first, end - first, before + first);
        } else {
            positives_before(row(first), count(first), x + first, end - first, before + first);
        }
    }
    if (lanes > 0) {
        RowSearches searches;
        for (int lane = 0; lane < lanes; ++lane) {
            const int i = others[lane];
            searches.add(row(i), count(i), x[i]);
        }
        searches.run();
        for (int lane = 0; lane < lanes; ++lane) before[others[lane]] = searches.low[lane];
    }
    for (int i = 0; i < size; ++i) items[i] = int64_t{x[i]} + before[i];
}

bool is_positive(int64_t item, int64_t user, const PositivesView& positives) {
    return std::binary_search(positives.items + positives.indptr[user], positives.items + positives.indptr[user + 1],
                              static_cast<int32_t>(item));
}

// The draws of a request; the first of them is number `origin` of the stream.
struct RequestDraws {
    DrawKey key;
    uint64_t origin;
    int64_t count;

    explicit RequestDraws(const NegativesRequest& request)
        : key{request.seed, request.epoch, Stream::negatives},
          origin(static_cast<uint64_t>(request.start) * request.slots),
          count((request.stop - request.start) * request.slots) {}
};

// Calls visit(first, words, count) for the draws of the request in groups, on several threads; `first` counts
// from the request's first draw.
template <class Visit>
void for_request(const NegativesRequest& request, int threads, const Visit& visit) {
    const RequestDraws draws(request);
    parallel_for(draws.count, threads, kGrain,
                 [&](int64_t begin, int64_t end) { for_draws(draws.key, draws.origin, begin, end, visit); });
}

// The users of consecutive draws, without a division for each.
class DrawUsers {
  public:
    DrawUsers(const int64_t* users, int64_t slots, int64_t draw)
        : user_(users + draw / slots), slots_(slots), slot_(draw % slots) {}
    int64_t next() {
        const int64_t user = *user_;
        if (++slot_ == slots_) {
            slot_ = 0;
            ++user_;
        }
        return user;
    }

  private:
    const int64_t* user_;
    int64_t slots_, slot_;
};

// Asks for what the draws of the next users read, which is far apart in memory where users are in no order.
class UsersAhead {
  public:
    UsersAhead(const int64_t* users, const int64_t* end, int64_t slots, const PositivesView& positives)
        : starts_(users), rows_(slots < kCounted ? end : users), end_(end), positives_(positives) {}

    // Told which user's draws are next.
    void reach(const int64_t* user) {
        for (const int64_t* last = std::min(user + 2 * kUsers, end_); starts_ < last; ++starts_) {
            prefetch(positives_.indptr + *starts_, 2 * sizeof(int64_t));
        }
        for (const int64_t* last = std::min(user + kUsers, end_); rows_ < last; ++rows_) ask_for_row(*rows_);
    }

  private:
    static constexpr int64_t kUsers = 64;  // more than have draws in a group
    static constexpr int64_t kLine = 16, kLines = 8;

    // All of a short row, and where the first steps of a bisection of a long one look.
    void ask_for_row(int64_t user) const {
        const int32_t* row = positives_.items + positives_.indptr[user];
        const int64_t count = positives_.indptr[user + 1] - positives_.indptr[user];
        for (int64_t i = 0; i < count; i += std::max(kLine, count / kLines)) prefetch(row + i, 1);
        if (count > 0) prefetch(row + count - 1, 1);
    }

    // The next users to ask for: where their rows start, and the rows, unless their draws wait for them together.
    const int64_t *starts_, *rows_, *end_;
    const PositivesView& positives_;
};

// Draws for users in any order, put in order of user: rows are searched while they are in cache, and for several draws
// at once. First coarsely, by buckets of neighbouring users; then each bucket, which is small enough for the cache.
class SortedDraws {
  public:
    static constexpr int64_t kLeast = 1 << 18;  // draws that are worth it
    static constexpr int64_t kMost = 1 << 22;   // 48 MB

    // Room for so many draws, which is not used before there are some to sort.
    explicit SortedDraws(int64_t capacity) : capacity_(std::min(capacity, kMost)) {}

    // Takes in the draws [begin, end), at most as many as there is room for.
    void sort(const RequestDraws& draws, const int64_t* users, int64_t slots, int64_t begin, int64_t end) {
        begin_ = begin;
        if (draws_ == nullptr) draws_.reset(new Draw[capacity_]);  // uninitialised
        const int64_t first = begin / slots, last = (end - 1) / slots;
        const int64_t most = *std::max_element(users + first, users + last + 1);
        for (shift_ = 0; most >> shift_ >= kBuckets;) ++shift_;
        std::fill_n(ends_, kBuckets + 1, 0);
        DrawUsers counted(users, slots, begin), placed(users, slots, begin);
        for (int64_t i = begin; i < end; ++i) ++ends_[(counted.next() >> shift_) + 1];
        std::partial_sum(ends_, ends_ + kBuckets + 1, ends_);
        for_draws(draws.key, draws.origin, begin, end, [&](int64_t offset, const uint32_t* words, int size) {
            for (int i = 0; i < size; ++i) {
                const int64_t user = placed.next();
                draws_[ends_[user >> shift_]++] = {static_cast<int32_t>(user), words[i],
                                                   static_cast<uint32_t>(offset + i - begin)};
            }
        });
    }

    void find_unseen(int64_t num_items, const PositivesView& positives, int64_t* out) {
        for (int64_t bucket = 0, begin = 0; bucket < kBuckets; begin = ends_[bucket++]) {
            const int64_t count = ends_[bucket] - begin;
            const Draw* draws = sorted(&draws_[begin], count);
            int64_t users[kDraws], items[kDraws];
            uint32_t words[kDraws];
            for (int64_t first = 0; first < count; first += kDraws) {
                const int size = static_cast<int>(std::min<int64_t>(kDraws, count - first));
                for (int i = 0; i < size; ++i) {
                    users[i] = draws[first + i].user;
                    words[i] = draws[first + i].word;
                    prefetch<Prefetch::write>(&out[begin_ + draws[first + i].place], sizeof(int64_t));
                }
                spotfast::find_unseen(users, words, size, num_items, positives, items);
                for (int i = 0; i < size; ++i) out[begin_ + draws[first + i].place] = items[i];
            }
        }
    }

  private:
    static constexpr int64_t kBuckets = 1024;
    struct Draw {
        int32_t user;
        uint32_t word, place;
    };

    // The draws of a bucket in order of user, unless it has one user only, or most users have none of them: then there
    // is nothing to share.
    const Draw* sorted(const Draw* draws, int64_t count) {
        const int64_t users = int64_t{1} << shift_;
        if (shift_ == 0 || count < users) return draws;
        free_.assign(users + 1, 0);
        for (int64_t i = 0; i < count; ++i) ++free_[(draws[i].user & (users - 1)) + 1];
        std::partial_sum(free_.begin(), free_.end(), free_.begin());
        if (static_cast<int64_t>(bucket_.size()) < count) bucket_.resize(count);
        for (int64_t i = 0; i < count; ++i) bucket_[free_[draws[i].user & (users - 1)]++] = draws[i];
        return bucket_.data();
    }

    int64_t capacity_, begin_ = 0;
    int shift_ = 0;               // of a user's number, to that of its bucket
    int64_t ends_[kBuckets + 1];  // of the buckets
    std::vector<int32_t> free_;   // the next place of each user of a bucket
    std::vector<Draw> bucket_;
    std::unique_ptr<Draw[]> draws_;
};

}  // namespace

void uniform_negatives(const NegativesRequest& request, int64_t first_item, int threads, int64_t* out) {
    const uint64_t range = request.num_items - first_item;
    for_request(request, threads, [&](int64_t first, const uint32_t* words, int size) {
        for (int i = 0; i < size; ++i) out[first + i] = first_item + below(words[i], range);
    });
}

void unseen_negatives(const NegativesRequest& request, const int64_t* users, const PositivesView& positives,
                      int threads, int64_t* out) {
    const RequestDraws draws(request);
    const int64_t slots = request.slots;
    parallel_for(draws.count, threads, kGrain, [&](int64_t begin, int64_t end) {
        SortedDraws sorted(end - begin);
        for (int64_t first = begin; first < end; first += SortedDraws::kMost) {
            const int64_t last = std::min(first + SortedDraws::kMost, end);
            const int64_t *first_user = users + first / slots, *last_user = users + (last - 1) / slots + 1;
            if (last - first < SortedDraws::kLeast || std::is_sorted(first_user, last_user)) {
                UsersAhead ahead(first_user, last_user, slots, positives);
                for_draws(draws.key, draws.origin, first, last, [&](int64_t offset, const uint32_t* words, int size) {
                    int64_t own[kDraws];
                    ahead.reach(users + offset / slots);
                    DrawUsers draw_users(users, slots, offset);
                    for (int i = 0; i < size; ++i) own[i] = draw_users.next();
                    find_unseen(own, words, size, request.num_items, positives, out + offset);
                });
            } else {
                sorted.sort(draws, users, slots, first, last);
                sorted.find_unseen(request.num_items, positives, out);
            }
        }
    });
}

void popularity_negatives(const NegativesRequest& request, const uint32_t* thresholds, const int64_t* users,
                          const PositivesView& positives, int threads, int64_t* out) {
    const uint32_t* last = thresholds + request.num_items - 1;
    const uint64_t origin = static_cast<uint64_t>(request.start) * request.slots;
    DrawKey base{request.seed, request.epoch, Stream::negatives};
    for_request(request, threads, [&](int64_t first, const uint32_t* words, int size) {
        for (int i = 0; i < size; ++i) {
            const int64_t user = users[(first + i) / request.slots];
            DrawKey key = base;
            uint32_t word = words[i];
            int64_t item = std::upper_bound(thresholds, last, word) - thresholds;
            while (is_positive(item, user, positives)) {
                ++key.attempt;
                word = draw(key, origin + first + i);
                if (key.attempt == kPopularityAttempts) {
                    find_unseen(&user, &word, 1, request.num_items, positives, &item);
                    break;
                }
                item = std::upper_bound(thresholds, last, word) - thresholds;
            }
            out[first + i] = item;
        }
    });
}

}  // namespace spotfast
