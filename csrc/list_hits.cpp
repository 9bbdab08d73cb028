#include "list_hits.h"

#include <algorithm>
#include <vector>

#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kListsPerThread = 256;  // at least: fewer are not worth a thread

}  // namespace

void list_hits(const ListsView& lists, const RowsView& relevant, int threads, const ListHits& hits) {
    parallel_for(lists.count, threads, kListsPerThread, [&](int64_t begin, int64_t end) {
        std::vector<char> taken;  // of the relevant items of a list: whether it has been there
        for (int64_t list = begin; list < end; ++list) {
            const int64_t* row = relevant.items + relevant.indptr[lists.rows[list]];
            const int64_t* row_end = relevant.items + relevant.indptr[lists.rows[list] + 1];
            taken.assign(row_end - row, false);
            int64_t length = 0, repeated = -1;
            for (int64_t place = list * lists.length; place < (list + 1) * lists.length; ++place) {
                const int64_t item = lists.lists[place];
                length += item >= 0;
                const int64_t* found = std::lower_bound(row, row_end, item);
                hits.found[place] = found < row_end && *found == item;
                if (!hits.found[place]) continue;
                if (taken[found - row]) repeated = item;
                taken[found - row] = true;
            }
            hits.lengths[list] = length;
            hits.repeated[list] = repeated;
        }
    });
}

}  // namespace spotfast
