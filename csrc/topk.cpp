#include "topk.h"

#include <algorithm>
#include <mutex>
#include <vector>

#include "best_items.h"
#include "parallel_for.h"
#include "rough_topk.h"

namespace spotfast {

namespace {

constexpr int64_t kFewUsers = 24;             // up to so many, integers of all items take more time than they save
constexpr int64_t kLongList = 1000;           // longer ones would take much memory: each thread has its own
constexpr int64_t kItemsPerThread = 1 << 14;  // at least: fewer are not worth a thread

// Adds the items [begin, end) that are not excluded.
void add_range(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t begin,
               int64_t end, std::vector<BestItems>& best) {
    ItemTile tile(items, dim);
    std::vector<float> row(ItemTile::kUsers * tile.capacity());
    for (int64_t first = begin; first < end; first += tile.capacity()) {
        const int64_t count = std::min(tile.capacity(), end - first);
        tile.pack(first, count);
        for (int64_t user = 0; user < users.rows; user += ItemTile::kUsers) {
            const int group = static_cast<int>(std::min<int64_t>(ItemTile::kUsers, users.rows - user));
            tile.score(users, user, group, row.data(), tile.capacity());
            for (int u = 0; u < group; ++u) {
                const float* scores = &row[u * tile.capacity()];
                BestItems& of_user = best[user + u];
                for (int64_t i = 0; i < count; ++i) {
                    if (scores[i] < of_user.least()) continue;
                    const ScoredItem item(scores[i], first + i);
                    if (of_user.accepts(item) && !excluded.has(user + u, first + i)) of_user.add(item);
                }
            }
        }
    }
}

// By exact scores of all items.
void exact_topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
                int threads, int64_t* ids, float* scores) {
    const auto lists = [&] {
        std::vector<BestItems> of_users;
        of_users.reserve(users.rows);
        for (int64_t user = 0; user < users.rows; ++user) of_users.emplace_back(k, items.rows);
        return of_users;
    };
    std::vector<BestItems> best = lists();
    std::mutex together;
    parallel_for(items.rows, threads, kItemsPerThread, [&](int64_t begin, int64_t end) {
        std::vector<BestItems> some = lists();
        add_range(users, items, dim, excluded, begin, end, some);
        const std::lock_guard<std::mutex> lock(together);
        for (int64_t user = 0; user < users.rows; ++user) best[user].add(some[user]);
    });
    for (int64_t user = 0; user < users.rows; ++user) best[user].write(ids + user * k, scores + user * k);
}

}  // namespace

void topk(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded, int64_t k,
          int threads, int64_t* ids, float* scores) {
    if (users.rows <= kFewUsers && k <= kLongList) {
        exact_topk(users, items, dim, excluded, k, threads, ids, scores);
    } else {
        rough_topk(users, items, dim, excluded, k, threads, ids, scores);
    }
}

}  // namespace spotfast
