#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include "check.h"
#include "ranks.h"
#include "rough_topk.h"
#include "scores.h"
#include "topk.h"

using namespace spotfast;

namespace {

constexpr int64_t kUserCount = 40, kItemCount = 4200, kDim = 3;
constexpr int64_t kFewUsers = 7;  // whose best items are found without rough scores

// Small whole numbers, so that scores tie.
std::vector<float> numbers(size_t count, int step) {
    std::vector<float> result(count);
    for (size_t i = 0; i < count; ++i) result[i] = static_cast<float>(static_cast<int>(i * step % 7) - 3);
    return result;
}

// Every `step`-th item for each user.
struct Rows {
    std::vector<int64_t> indptr{0}, items;

    explicit Rows(int64_t step) {
        for (int64_t user = 0; user < kUserCount; ++user) {
            for (int64_t item = user; item < kItemCount; item += step) items.push_back(item);
            indptr.push_back(static_cast<int64_t>(items.size()));
        }
    }

    RowsView view() const { return {indptr.data(), items.data()}; }
};

struct Model {
    std::vector<float> user_vectors = numbers(kUserCount * kDim, 5), item_vectors = numbers(kItemCount * kDim, 3);
    std::vector<float> user_biases = numbers(kUserCount, 2), item_biases = numbers(kItemCount, 4);
    std::vector<float> table = std::vector<float>(kUserCount * kItemCount);

    Model() { scores(users(), items(), kDim, 1, table.data()); }
    VectorsView users(int64_t count = kUserCount) const { return {user_vectors.data(), user_biases.data(), count}; }
    VectorsView items() const { return {item_vectors.data(), item_biases.data(), kItemCount}; }
};

}  // namespace

TEST(ranks_are_counted) {
    const Model model;
    const Rows targets(9), excluded(6);
    for (const int threads : {1, 3}) {
        std::vector<int64_t> above(targets.items.size()), equal(above), before(above);
        const RankCounts counts{above.data(), equal.data(), before.data()};
        rank_counts(model.users(), model.items(), kDim, targets.view(), excluded.view(), threads, counts);
        for (int64_t user = 0; user < kUserCount; ++user) {
            const float* row = &model.table[user * kItemCount];
            const auto is_out = [&](int64_t item) { return item >= user && (item - user) % 6 == 0; };
            const int64_t out = excluded.indptr[user + 1] - excluded.indptr[user];
            for (int64_t t = targets.indptr[user]; t < targets.indptr[user + 1]; ++t) {
                const int64_t target = targets.items[t];
                int64_t higher = 0, same = 0, lower_ids = 0;
                for (int64_t item = 0; item < kItemCount; ++item) {
                    const bool beside = is_out(target) ? is_out(item) : !is_out(item) && row[item] == row[target];
                    higher += !is_out(item) && row[item] > row[target];
                    same += beside;
                    lower_ids += beside && item < target;
                }
                if (is_out(target)) higher = kItemCount - out;
                CHECK(above[t] == higher);
                CHECK(equal[t] == same);
                CHECK(before[t] == lower_ids);
            }
        }
    }
}

namespace {

void check_best_items(const Model& model, int64_t users) {
    const Rows excluded(2);
    // Lists of up to 32 items are kept in order.
    for (const int64_t k : {int64_t{1}, int64_t{10}, int64_t{32}, int64_t{100}, kItemCount}) {
        std::vector<int64_t> ids(users * k);
        std::vector<float> best(users * k);
        topk(model.users(users), model.items(), kDim, excluded.view(), k, 2, ids.data(), best.data());
        for (int64_t user = 0; user < users; ++user) {
            const float* row = &model.table[user * kItemCount];
            std::vector<int64_t> left;
            for (int64_t item = 0; item < kItemCount; ++item) {
                if (item < user || (item - user) % 2 != 0) left.push_back(item);
            }
            std::stable_sort(left.begin(), left.end(), [&](int64_t a, int64_t b) { return row[a] > row[b]; });
            for (int64_t j = 0; j < k; ++j) {
                const bool exists = j < static_cast<int64_t>(left.size());
                CHECK(ids[user * k + j] == (exists ? left[j] : -1));
                CHECK(best[user * k + j] == (exists ? row[left[j]] : -INFINITY));
            }
        }
    }
}

void check_best_items(const Model& model) {
    check_best_items(model, kUserCount);
    check_best_items(model, kFewUsers);
}

}  // namespace

TEST(best_items_are_sorted_and_never_excluded) { check_best_items(Model()); }

// The first 16 of every 128 items are in the sample of long lists: what is guessed from it is too high, and who looks
// for 100 is searched for once more.
TEST(best_items_are_found_if_a_sample_misleads) {
    Model model;
    for (int64_t item = 0; item < kItemCount; ++item) {
        if (item % 128 < 16) model.item_biases[item] += 100.0f + static_cast<float>(item / 16);
    }
    scores(model.users(), model.items(), kDim, 1, model.table.data());
    check_best_items(model);
}

// The order of items is random: their users are searched for once. With no more than they ask for above the guess, too.
TEST(a_sample_of_items_in_no_order_does_not_mislead) {
    constexpr int64_t kUsers = 60, kItems = 20000;
    std::mt19937 generator(3);
    std::normal_distribution<float> normal;
    std::vector<float> user_vectors(kUsers * kDim), item_vectors(kItems * kDim);
    for (auto* values : {&user_vectors, &item_vectors}) {
        for (float& value : *values) value = normal(generator);
    }
    const std::vector<int64_t> nothing(kUsers + 1);
    const VectorsView users{user_vectors.data(), nullptr, kUsers}, items{item_vectors.data(), nullptr, kItems};
    for (const int64_t k : {1, 10, 32, 33, 200, 1000}) {
        std::vector<int64_t> ids(kUsers * k);
        std::vector<float> best(kUsers * k);
        const auto find = [&](bool quads) {
            return rough_topk(users, items, kDim, {nothing.data(), nullptr}, k, 1, ids.data(), best.data(), quads);
        };
        CHECK(find(false) == 0);
        if (QuadProducts::available()) CHECK(find(true) == 0);
    }
}

// Those far larger than others are found by their exact scores, and not found where they are excluded.
TEST(best_items_are_found_among_outliers) {
    for (const float sign : {1.0f, -1.0f}) {
        Model model;
        for (const int64_t item : {0, 1, 2, 3, 512, 4199})
            model.item_biases[item] = sign * static_cast<float>(1 << item % 20);
        for (const int64_t item : {8, 77, 700}) model.item_vectors[item * kDim] = -sign * 1e6f;
        scores(model.users(), model.items(), kDim, 1, model.table.data());
        check_best_items(model);
        std::fill(model.item_biases.begin(), model.item_biases.end(), 0.0f);
        model.item_biases[9] = sign * 1e9f;
        scores(model.users(), model.items(), kDim, 1, model.table.data());
        check_best_items(model);
    }
}
