// Scores of users for items: dot product of their vectors, plus the user's bias, plus the item's.
#pragma once

#include <cstdint>

#include "score_tiles.h"

namespace spotfast {

// out[u * items.rows + i] = score of user u for item i.
void scores(const VectorsView& users, const VectorsView& items, int64_t dim, int threads, float* out);

// out[p] = score of user user_index[p] for item item_index[p]: the bits that `scores` gives.
void pair_scores(const VectorsView& users, const VectorsView& items, int64_t dim, const int64_t* user_index,
                 const int64_t* item_index, int64_t pairs, int threads, float* out);

// out[i] = score of a user for item item_index[i]: the same bits.
void item_scores(const VectorsView& users, int64_t user, const VectorsView& items, int64_t dim,
                 const int64_t* item_index, int64_t count, float* out);

}  // namespace spotfast
