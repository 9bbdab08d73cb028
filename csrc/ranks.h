// Ranks of target items among all items, without a matrix of scores.
#pragma once

#include <cstdint>

#include "score_tiles.h"

namespace spotfast {

// ranks[t], for every t of targets.items: 1 + the number of items with higher scores + half the number of others with
// equal scores, counted over the items that are not excluded. Excluded targets tie behind all others.
// `targets` and `excluded` have a row for each of `users`. All scores must be finite, and so must their differences.
void ranks(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
           const RowsView& excluded, int threads, double* ranks);

}  // namespace spotfast
