// Training a pooling sequence model: negatives, states, scores, loss, gradients, updates.
//
// A user before step t is the sum of the vectors of their items so far, over the number of these items plus one. Bits
// do not depend on the number of threads, as in factorization_epoch.h.
#pragma once

#include <cstdint>

#include "factorization_epoch.h"

namespace spotfast {

// (count, length) item ids in the order of the epoch, the first of them at position `start`; 0 is padding.
struct SequencesView {
    const int32_t* ids;
    int64_t start, count, length;
};

// Trains in place; negatives are uniform over 1 .. num_items - 1, `slots` for every step. The table may have more rows.
EpochResult pooling_epoch(const TableView& items, const SequencesView& sequences, int64_t slots, int64_t num_items,
                          const EpochSettings& settings, const Report& report);

}  // namespace spotfast
