// The best items of each user, without a matrix of scores.
#pragma once

#include <cstdint>

#include "score_tiles.h"

namespace spotfast {

// ids[u * k + j], scores[u * k + j]: user u's j-th best item that is not excluded, of equal scores the lower id first;
// -1 and -infinity where there are fewer. `excluded` has a row for each of `users`. All scores must be finite.
void topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
          int threads, int64_t* ids, float* scores);

}  // namespace spotfast
