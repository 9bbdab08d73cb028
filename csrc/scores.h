// Scores of users for items: dot product of their vectors, plus the user's bias, plus the item's.
//
// The one place on the CPU where a score is computed for prediction and evaluation. The same pair always has
// the same bits, however many others are asked for: the products are summed in the order of the dimensions,
// each product and each sum rounded on its own. BLAS gives no such promise, for its order depends on shape,
// alignment and threads.
#pragma once

#include <cstdint>

namespace spotfast {

// `rows` vectors of `dim` floats, one behind the other, and one bias each (null: no biases).
struct VectorsView {
    const float* vectors;
    const float* biases;
    int64_t rows;
};

// out[u * items.rows + i] = score of user u for item i.
void scores(const VectorsView& users, const VectorsView& items, int64_t dim, int threads, float* out);

// out[p] = score of user user_index[p] for item item_index[p].
void pair_scores(const VectorsView& users, const VectorsView& items, int64_t dim, const int64_t* user_index,
                 const int64_t* item_index, int64_t pairs, int threads, float* out);

}  // namespace spotfast
