// Relevant items in given lists.
#pragma once

#include <cstdint>

#include "score_tiles.h"

namespace spotfast {

// `count` lists of `length` item ids, -1 for none, and the row of the relevant items that belongs to each.
struct ListsView {
    const int64_t *lists, *rows;
    int64_t count, length;
};

// found[l * length + j]: whether the j-th id of list l is relevant; lengths[l]: how many ids it has; repeated[l]: a
// relevant id that it holds twice, -1 if there is none.
struct ListHits {
    bool* found;
    int64_t *lengths, *repeated;
};

void list_hits(const ListsView& lists, const RowsView& relevant, int threads, const ListHits& hits);

}  // namespace spotfast
