// Scores of users for items in tiles that stay in cache.
//
// The one place on the CPU where scores are computed for prediction and evaluation. The same pair always has the same
// bits, however many others are asked for: the products are summed in the order of the dimensions, each product and
// each sum rounded on its own. BLAS gives no such promise, for its order depends on shape, alignment and threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "lanes.h"

namespace spotfast {

// `rows` vectors of `dim` floats, one behind the other, and one bias each (null: no biases).
struct VectorsView {
    const float* vectors;
    const float* biases;
    int64_t rows;
};

// Item ids in compressed rows: row r is items[indptr[r]] .. items[indptr[r + 1] - 1], ascending, without repetition.
struct RowsView {
    const int64_t* indptr;
    const int64_t* items;

    const int64_t* begin(int64_t row) const { return items + indptr[row]; }
    const int64_t* end(int64_t row) const { return items + indptr[row + 1]; }
    bool has(int64_t row, int64_t item) const { return std::binary_search(begin(row), end(row), item); }
};

// The vectors of consecutive items, transposed in panels: scores of several items are computed side by side.
class ItemTile {
  public:
    static constexpr int kUsers = Lanes::kSize == 8 ? 6 : 4;  // share the loads of a panel: as there are registers
    static constexpr int64_t kMostItems = 1024;               // of a tile

    ItemTile(const VectorsView& items, int64_t dim);

    // How many items a tile holds: with 32 dimensions 128 KB, which stay in the second-level cache.
    int64_t capacity() const { return capacity_; }

    // Takes in the items first .. first + count - 1, at most `capacity()`.
    void pack(int64_t first, int64_t count);

    // out[u * stride + i] = score of user `user + u` for the i-th item of the tile; `count` users, at most kUsers.
    void score(const VectorsView& users, int64_t user, int count, float* out, int64_t stride) const;

  private:
    template <int kMost>
    void score_some(const VectorsView& users, int64_t user, int count, float* out, int64_t stride) const;
    template <int kCount>
    void score_users(const VectorsView& users, int64_t user, float* out, int64_t stride) const;

    VectorsView items_;
    int64_t dim_, capacity_, count_ = 0;
    std::vector<float> packed_, biases_;
};

// Calls visit(user, first, count, row) for every user of [begin, end) and tile of items, tiles in ascending order:
// row[i] is the user's score for item `first + i`, or NaN if the item is in the user's row of `excluded`.
template <class Visit>
void visit_score_rows(const VectorsView& users, const VectorsView& items, int64_t dim, const RowsView& excluded,
                      int64_t begin, int64_t end, const Visit& visit) {
    ItemTile tile(items, dim);
    std::vector<float> rows(ItemTile::kUsers * tile.capacity());
    std::vector<int64_t> next(excluded.indptr + begin, excluded.indptr + end);  // excluded items not yet passed
    for (int64_t first = 0; first < items.rows; first += tile.capacity()) {
        const int64_t count = std::min(tile.capacity(), items.rows - first);
        tile.pack(first, count);
        for (int64_t user = begin; user < end; user += ItemTile::kUsers) {
            const int group = static_cast<int>(std::min<int64_t>(ItemTile::kUsers, end - user));
            tile.score(users, user, group, rows.data(), tile.capacity());
            for (int u = 0; u < group; ++u) {
                float* row = &rows[u * tile.capacity()];
                int64_t& position = next[user + u - begin];
                const int64_t last = excluded.indptr[user + u + 1];
                for (; position < last && excluded.items[position] < first + count; ++position) {
                    row[excluded.items[position] - first] = NAN;
                }
                visit(user + u, first, count, static_cast<const float*>(row));
            }
        }
    }
}

}  // namespace spotfast
