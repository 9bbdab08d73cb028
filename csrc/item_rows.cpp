#include "item_rows.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <utility>
#include <vector>

#include "item_set.h"
#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kPairsPerThread = 1 << 15;  // at least
constexpr int64_t kRowsPerThread = 256;       // at least: fewer are not worth a thread
constexpr int64_t kFew = 16;                  // items that comparisons sort faster than marks
constexpr int64_t kBlock = 8;                 // items compared at once: SIMD

// Deals the items out to the rows of their users, in the order of the pairs; indptr becomes that of these rows. Threads
// take slices of the pairs, and count first, so that each knows where its items go. There are at most as many counters
// as pairs.
template <class Id>
void deal_items(const PairsView<Id>& pairs, int threads, int64_t* indptr, int64_t* items) {
    const int64_t least = std::max({kPairsPerThread, pairs.num_users, int64_t{1}});
    const int64_t slices = std::clamp<int64_t>(pairs.count / least, 1, std::max(threads, 1));
    std::vector<int64_t> next(slices * pairs.num_users);  // of each slice and user: the number of items, then a place
    const auto visit_pairs = [&](const auto& visit) {
        parallel_for(slices, threads, 1, [&](int64_t first, int64_t last) {
            for (int64_t slice = first; slice < last; ++slice) {
                int64_t* counters = next.data() + slice * pairs.num_users;
                const int64_t end = pairs.count * (slice + 1) / slices;
                for (int64_t i = pairs.count * slice / slices; i < end; ++i) {
                    const Id user = pairs.user_ids[i];
                    if (pairs.wanted == nullptr || pairs.wanted[user]) visit(counters[user], pairs.item_ids[i]);
                }
            }
        });
    };
    visit_pairs([](int64_t& counter, Id) { ++counter; });
    int64_t total = 0;
    for (int64_t user = 0; user < pairs.num_users; ++user) {
        indptr[user] = total;
        for (int64_t slice = 0; slice < slices; ++slice) {
            total += std::exchange(next[slice * pairs.num_users + user], total);
        }
    }
    indptr[pairs.num_users] = total;
    visit_pairs([&](int64_t& counter, Id item) { items[counter++] = item; });
}

// Sorts a row and takes repetitions out; returns its new end.
int64_t* sort_row(int64_t* begin, int64_t* end, ItemSet& set) {
    if (std::adjacent_find(begin, end, std::greater_equal<>()) == end) return end;  // as rows of a data set often are
    if (end - begin <= kFew) {
        std::sort(begin, end);
        return std::unique(begin, end);
    }
    for (const int64_t* item = begin; item < end; ++item) set.insert(*item);
    return set.drain(begin);
}

// Closes the gaps between the rows, which end at ends[user]; returns the number of items.
int64_t close_gaps(const std::vector<int64_t>& ends, int64_t* indptr, int64_t* items) {
    int64_t total = 0;
    for (size_t user = 0; user < ends.size(); ++user) {
        const int64_t begin = indptr[user], length = ends[user] - begin;
        if (begin != total) std::copy_n(items + begin, length, items + total);
        indptr[user] = total;
        total += length;
    }
    indptr[ends.size()] = total;
    return total;
}

// How many of a few items, ascending, are among many.
int64_t count_common(const int64_t* few, const int64_t* few_end, const int64_t* many, const int64_t* many_end) {
    int64_t common = 0;
    for (; few < few_end; ++few) {
        while (many_end - many > kBlock && many[kBlock - 1] < *few) many += kBlock;
        if (many_end - many >= kBlock) {
            for (int64_t i = 0; i < kBlock; ++i) common += many[i] == *few;
        } else {
            for (const int64_t* other = many; other < many_end; ++other) common += *other == *few;
        }
    }
    return common;
}

}  // namespace

template <class Id>
ItemRowsSize item_rows(const PairsView<Id>& pairs, int threads, int64_t* indptr, int64_t* items) {
    deal_items(pairs, threads, indptr, items);
    std::vector<int64_t> ends(indptr, indptr + pairs.num_users);
    std::atomic<int64_t> bound{0};
    // Threads get as many items each, of neighbouring users: those up to which there are so many.
    const auto first_user = [&](int64_t place) {
        return std::lower_bound(indptr, indptr + pairs.num_users, place) - indptr;
    };
    parallel_for(indptr[pairs.num_users], threads, kPairsPerThread, [&](int64_t first, int64_t last) {
        ItemSet set(pairs.num_items);
        int64_t own_bound = 0;
        for (int64_t user = first_user(first), end = first_user(last); user < end; ++user) {
            ends[user] = sort_row(items + indptr[user], items + indptr[user + 1], set) - items;
            if (ends[user] > indptr[user]) own_bound = std::max(own_bound, items[ends[user] - 1] + 1);
        }
        for (int64_t seen = bound; seen < own_bound && !bound.compare_exchange_weak(seen, own_bound);) {
        }
    });
    return {close_gaps(ends, indptr, items), bound};
}

template ItemRowsSize item_rows<int32_t>(const PairsView<int32_t>&, int, int64_t*, int64_t*);
template ItemRowsSize item_rows<int64_t>(const PairsView<int64_t>&, int, int64_t*, int64_t*);

int64_t num_common(const int64_t* indptr, const int64_t* items, const int64_t* other_indptr, const int64_t* other_items,
                   int64_t rows, int threads) {
    std::atomic<int64_t> total{0};
    parallel_for(rows, threads, kRowsPerThread, [&](int64_t begin, int64_t end) {
        int64_t common = 0;
        for (int64_t row = begin; row < end; ++row) {
            const int64_t *one = items + indptr[row], *one_end = items + indptr[row + 1];
            const int64_t *other = other_items + other_indptr[row], *other_end = other_items + other_indptr[row + 1];
            const bool fewer = one_end - one <= other_end - other;
            common +=
                fewer ? count_common(one, one_end, other, other_end) : count_common(other, other_end, one, one_end);
        }
        total += common;
    });
    return total;
}

}  // namespace spotfast
