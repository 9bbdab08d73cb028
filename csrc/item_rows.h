// The items of each user in compressed rows: ascending, without repetition.
#pragma once

#include <cstdint>

namespace spotfast {

// indptr[u + 1] - indptr[u] = the number of distinct items of user u, which are items[indptr[u]] and following. `items`
// has room for `count`. Returns how many there are in all. Ids are below num_users and num_items.
template <class Id>
int64_t item_rows(const Id* user_ids, const Id* item_ids, int64_t count, int64_t num_users, int64_t num_items,
                  int threads, int64_t* indptr, int64_t* items);

// Returns how many items two tables of rows have in common, row by row.
int64_t num_common(const int64_t* indptr, const int64_t* items, const int64_t* other_indptr, const int64_t* other_items,
                   int64_t rows, int threads);

}  // namespace spotfast
