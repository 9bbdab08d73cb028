// Ranks of target items among all items, without a matrix of scores.
#pragma once

#include <cstdint>

#include "score_tiles.h"

namespace spotfast {

// For every t of the targets' items: how many items have higher scores, how many have equal ones, itself included, and
// how many of those have lower ids. What ranks follow from, whatever is done about ties.
struct RankCounts {
    int64_t *above, *equal, *before;
};

// Counts over the items that are not excluded. Excluded items come behind all others and tie there: for targets among
// them, the counts are over all items. `targets` and `excluded` have a row for each of `users`. All scores must be
// finite, and so must their differences.
void rank_counts(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& targets,
                 const RowsView& excluded, int threads, const RankCounts& counts);

}  // namespace spotfast
