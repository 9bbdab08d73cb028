// The best items of many users: rough scores tell which few items of each are worth an exact score.
#pragma once

#include <cstdint>

#include "rough_products.h"
#include "score_tiles.h"

namespace spotfast {

// As `topk`. Returns for how many users the search began above their lists, so that they were searched for again.
int64_t rough_topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
                   int threads, int64_t* ids, float* scores, bool quads = QuadProducts::available());

}  // namespace spotfast
