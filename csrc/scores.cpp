#include "scores.h"

#include <algorithm>

#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kItemsPerThread = 128, kPairsPerThread = 4096;  // at least: fewer are not worth a thread

}  // namespace

void scores(const VectorsView& users, const VectorsView& items, int64_t dim, int threads, float* out) {
    parallel_for(items.rows, threads, kItemsPerThread, [&](int64_t begin, int64_t end) {
        ItemTile tile(items, dim);
        for (int64_t first = begin; first < end; first += tile.capacity()) {
            tile.pack(first, std::min(tile.capacity(), end - first));
            for (int64_t user = 0; user < users.rows; user += ItemTile::kUsers) {
                const int count = static_cast<int>(std::min<int64_t>(ItemTile::kUsers, users.rows - user));
                tile.score(users, user, count, out + user * items.rows + first, items.rows);
            }
        }
    });
}

void pair_scores(const VectorsView& users, const VectorsView& items, int64_t dim, const int64_t* user_index,
                 const int64_t* item_index, int64_t pairs, int threads, float* out) {
    constexpr int kPairs = Lanes::kSize;  // side by side: one in each lane
    parallel_for(pairs, threads, kPairsPerThread, [&](int64_t begin, int64_t end) {
        for (int64_t first = begin; first < end; first += kPairs) {
            const int count = static_cast<int>(std::min<int64_t>(kPairs, end - first));
            const float *user[kPairs], *item[kPairs];
            for (int p = 0; p < kPairs; ++p) {  // a short last group repeats its first pair
                const int64_t pair = first + (p < count ? p : 0);
                user[p] = users.vectors + user_index[pair] * dim;
                item[p] = items.vectors + item_index[pair] * dim;
            }
            for (int64_t pair = first + kPairs; pair < std::min(first + 2 * kPairs, end); ++pair) {
                prefetch(items.vectors + item_index[pair] * dim, dim * static_cast<int64_t>(sizeof(float)));
            }
            Lanes sum = Lanes::all(0.0f);
            int64_t d = 0;
            for (; d + Lanes::kSize <= dim; d += Lanes::kSize) {
                Lanes of_users[kPairs], of_items[kPairs];
                for (int p = 0; p < kPairs; ++p) {
                    of_users[p] = Lanes::load(user[p] + d);
                    of_items[p] = Lanes::load(item[p] + d);
                }
                transpose(of_users);
                transpose(of_items);
                for (int i = 0; i < Lanes::kSize; ++i) sum = sum + of_users[i] * of_items[i];
            }
            float sums[kPairs];
            sum.store(sums);
            for (; d < dim; ++d) {
                for (int p = 0; p < kPairs; ++p) sums[p] += user[p][d] * item[p][d];
            }
            for (int p = 0; p < count; ++p) {
                float score = sums[p];
                if (users.biases != nullptr) score += users.biases[user_index[first + p]];
                if (items.biases != nullptr) score += items.biases[item_index[first + p]];
                out[first + p] = score;
            }
        }
    });
}

void item_scores(const VectorsView& users, int64_t user, const VectorsView& items, int64_t dim,
                 const int64_t* item_index, int64_t count, float* out) {
    constexpr int kItems = Lanes::kSize;  // side by side: one in each lane
    const float* weights = users.vectors + user * dim;
    for (int64_t first = 0; first < count; first += kItems) {
        const int lanes = static_cast<int>(std::min<int64_t>(kItems, count - first));
        const float* item[kItems];
        for (int i = 0; i < kItems; ++i) {  // a short last group repeats its first item
            item[i] = items.vectors + item_index[first + (i < lanes ? i : 0)] * dim;
        }
        Lanes sum = Lanes::all(0.0f);
        int64_t d = 0;
        for (; d + Lanes::kSize <= dim; d += Lanes::kSize) {
            Lanes block[kItems];
            for (int i = 0; i < kItems; ++i) block[i] = Lanes::load(item[i] + d);
            transpose(block);
            for (int i = 0; i < Lanes::kSize; ++i) sum = sum + Lanes::all(weights[d + i]) * block[i];
        }
        float sums[kItems];
        sum.store(sums);
        for (; d < dim; ++d) {
            for (int i = 0; i < kItems; ++i) sums[i] += weights[d] * item[i][d];
        }
        for (int i = 0; i < lanes; ++i) {
            float score = sums[i];
            if (users.biases != nullptr) score += users.biases[user];
            if (items.biases != nullptr) score += items.biases[item_index[first + i]];
            out[first + i] = score;
        }
    }
}

}  // namespace spotfast
