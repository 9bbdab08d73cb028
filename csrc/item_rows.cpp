#include "item_rows.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kPairsPerThread = 1 << 15;  // at least: every thread looks at all pairs
constexpr int64_t kRowsPerThread = 256;       // at least: fewer are not worth a thread

// offsets[i] = how many pairs of users in [begin, end) have an item below i.
template <class Id>
std::vector<int64_t> item_offsets(const Id* user_ids, const Id* item_ids, int64_t count, int64_t num_items,
                                  int64_t begin, int64_t end) {
    std::vector<int64_t> offsets(num_items + 1);
    for (int64_t i = 0; i < count; ++i) {
        if (user_ids[i] >= begin && user_ids[i] < end) ++offsets[item_ids[i] + 1];
    }
    for (int64_t item = 0; item < num_items; ++item) offsets[item + 1] += offsets[item];
    return offsets;
}

// Sorts the pairs of users in [begin, end) by item, and hands out the items in this order: so every row is ascending.
// next[user] is where the user's row begins, and becomes where it ends.
template <class Id>
void fill_rows(const Id* user_ids, const Id* item_ids, int64_t count, int64_t num_items, int64_t begin, int64_t end,
               int64_t* next, int64_t* items) {
    const std::vector<int64_t> offsets = item_offsets(user_ids, item_ids, count, num_items, begin, end);
    std::vector<int32_t> users(offsets[num_items]);
    std::vector<int64_t> free(offsets.begin(), offsets.end() - 1);
    for (int64_t i = 0; i < count; ++i) {
        if (user_ids[i] >= begin && user_ids[i] < end) users[free[item_ids[i]]++] = static_cast<int32_t>(user_ids[i]);
    }
    const std::vector<int64_t> starts(next + begin, next + end);
    for (int64_t item = 0; item < num_items; ++item) {
        for (int64_t i = offsets[item]; i < offsets[item + 1]; ++i) {
            const int64_t user = users[i], place = next[user];
            if (place > starts[user - begin] && items[place - 1] == item) continue;  // a repetition
            items[place] = item;
            next[user] = place + 1;
        }
    }
}

// Closes the gaps between the rows, which end at ends[user]; returns the number of items.
int64_t close_gaps(const int64_t* ends, int64_t num_users, int64_t* indptr, int64_t* items) {
    int64_t total = 0;
    for (int64_t user = 0; user < num_users; ++user) {
        const int64_t begin = indptr[user], length = ends[user] - begin;
        if (begin != total) std::copy_n(items + begin, length, items + total);
        indptr[user] = total;
        total += length;
    }
    indptr[num_users] = total;
    return total;
}

}  // namespace

template <class Id>
int64_t item_rows(const Id* user_ids, const Id* item_ids, int64_t count, int64_t num_users, int64_t num_items,
                  int threads, int64_t* indptr, int64_t* items) {
    std::fill(indptr, indptr + num_users + 1, 0);
    for (int64_t i = 0; i < count; ++i) ++indptr[user_ids[i] + 1];
    for (int64_t user = 0; user < num_users; ++user) indptr[user + 1] += indptr[user];
    std::vector<int64_t> next(indptr, indptr + num_users);
    // Threads get as many pairs each, of neighbouring users: those up to which there are so many.
    const auto first_user = [&](int64_t pairs) { return std::lower_bound(indptr, indptr + num_users, pairs) - indptr; };
    parallel_for(count, threads, kPairsPerThread, [&](int64_t first, int64_t last) {
        fill_rows(user_ids, item_ids, count, num_items, first_user(first), first_user(last), next.data(), items);
    });
    return close_gaps(next.data(), num_users, indptr, items);
}

template int64_t item_rows<int32_t>(const int32_t*, const int32_t*, int64_t, int64_t, int64_t, int, int64_t*, int64_t*);
template int64_t item_rows<int64_t>(const int64_t*, const int64_t*, int64_t, int64_t, int64_t, int, int64_t*, int64_t*);

int64_t num_common(const int64_t* indptr, const int64_t* items, const int64_t* other_indptr, const int64_t* other_items,
                   int64_t rows, int threads) {
    std::atomic<int64_t> total{0};
    parallel_for(rows, threads, kRowsPerThread, [&](int64_t begin, int64_t end) {
        int64_t common = 0;
        for (int64_t row = begin; row < end; ++row) {
            const int64_t *one = items + indptr[row], *one_end = items + indptr[row + 1];
            const int64_t *other = other_items + other_indptr[row], *other_end = other_items + other_indptr[row + 1];
            while (one < one_end && other < other_end) {  // sums, as no branch could be foreseen
                const int64_t a = *one, b = *other;
                common += a == b;
                one += a <= b;
                other += b <= a;
            }
        }
        total += common;
    });
    return total;
}

}  // namespace spotfast
