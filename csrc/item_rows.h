// The items of each user in compressed rows: ascending, without repetition.
#pragma once

#include <cstdint>

namespace spotfast {

// Pairs of users and items, whose ids are below num_users and num_items.
template <class Id>
struct PairsView {
    const Id *user_ids, *item_ids;
    int64_t count, num_users, num_items;
    const bool* wanted;  // of each user: whether the items are; null: those of all users
};

// How many items there are in all rows, and a number above every one of them: 0 where there is none.
struct ItemRowsSize {
    int64_t count, bound;
};

// indptr[u + 1] - indptr[u] = the number of distinct items of user u, which are items[indptr[u]] and following. `items`
// has room for all pairs.
template <class Id>
ItemRowsSize item_rows(const PairsView<Id>& pairs, int threads, int64_t* indptr, int64_t* items);

// Returns how many items two tables of rows have in common, row by row.
int64_t num_common(const int64_t* indptr, const int64_t* items, const int64_t* other_indptr, const int64_t* other_items,
                   int64_t rows, int threads);

}  // namespace spotfast
