// The best items of many users: rough scores tell which few items of each are worth an exact score.
#pragma once

#include "score_tiles.h"

namespace spotfast {

// As `topk`.
void rough_topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
                int threads, int64_t* ids, float* scores);

}  // namespace spotfast
