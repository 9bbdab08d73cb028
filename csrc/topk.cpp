#include "topk.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kMostUsersAtOnce = 1024;   // share a packed tile, which then costs them nothing
constexpr int64_t kEntriesAtOnce = 1 << 21;  // 32 MB
constexpr int64_t kPiece = 32;               // items looked at together: most pieces hold none that is good enough

struct Entry {
    float score;
    int64_t id;
};

bool better(const Entry& a, const Entry& b) { return a.score > b.score || (a.score == b.score && a.id < b.id); }

// Puts an entry in the place of the worst, which is the first of a heap.
void replace_worst(Entry* heap, int64_t size, const Entry& entry) {
    int64_t place = 0;
    for (;;) {
        int64_t child = 2 * place + 1;
        if (child >= size) break;
        if (child + 1 < size && better(heap[child], heap[child + 1])) ++child;
        if (better(heap[child], entry)) break;
        heap[place] = heap[child];
        place = child;
    }
    heap[place] = entry;
}

// Items come in ascending order, so one with the score of the worst is not better than it.
void keep_best(Entry* heap, int64_t k, int64_t first, int64_t count, const float* row) {
    for (int64_t begin = 0; begin < count; begin += kPiece) {
        const int64_t end = std::min(begin + kPiece, count);
        const float worst = heap[0].score;
        int32_t above = 0;
        for (int64_t i = begin; i < end; ++i) above += row[i] > worst;
        if (above == 0) continue;
        for (int64_t i = begin; i < end; ++i) {
            if (row[i] > heap[0].score) replace_worst(heap, k, {row[i], first + i});
        }
    }
}

}  // namespace

void topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
          int threads, int64_t* ids, float* scores) {
    const int64_t at_once = std::clamp<int64_t>(kEntriesAtOnce / k, ItemTile::kUsers, kMostUsersAtOnce);
    parallel_for(users.rows, threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t first_user = begin; first_user < end; first_user += at_once) {
            const int64_t last_user = std::min(first_user + at_once, end);
            std::vector<Entry> heaps((last_user - first_user) * k, {-INFINITY, -1});
            visit_score_rows(users, items, dim, excluded, first_user, last_user,
                             [&](int64_t user, int64_t first, int64_t count, const float* row) {
                                 keep_best(&heaps[(user - first_user) * k], k, first, count, row);
                             });
            for (int64_t user = first_user; user < last_user; ++user) {
                Entry* heap = &heaps[(user - first_user) * k];
                std::sort(heap, heap + k, better);
                for (int64_t j = 0; j < k; ++j) {
                    ids[user * k + j] = heap[j].id;
                    scores[user * k + j] = heap[j].score;
                }
            }
        }
    });
}

}  // namespace spotfast
