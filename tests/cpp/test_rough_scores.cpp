// Rough scores: never further from the exact ones than they say, whatever the magnitudes, and none above a cut is
// missed.
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "rough_scores.h"
#include "scores.h"

using namespace spotfast;

namespace {

struct Model {
    int64_t num_users, num_items, dim;
    std::vector<float> users, user_biases, items, item_biases;

    Model(int64_t num_items, int64_t dim, float vector_size, float bias_size)
        : num_users(RoughTile::kUsers), num_items(num_items), dim(dim) {
        std::mt19937 generator(static_cast<unsigned>(dim + num_items));
        std::normal_distribution<float> normal;
        const auto fill = [&](std::vector<float>& values, int64_t count, float size) {
            for (int64_t i = 0; i < count; ++i) values.push_back(size * normal(generator));
        };
        fill(users, num_users * dim, vector_size);
        fill(user_biases, num_users, bias_size);
        fill(items, num_items * dim, vector_size);
        fill(item_biases, num_items, bias_size);
    }
    VectorsView users_view() const { return {users.data(), user_biases.data(), num_users}; }
    VectorsView items_view(bool biases) const {
        return {items.data(), biases ? item_biases.data() : nullptr, num_items};
    }
};

// All items in the order of `scan`, with cuts that let everything through.
std::vector<int32_t> rough_scores(const VectorsView& items, int64_t dim, const RoughScale& scale, const int16_t* users,
                                  bool fused) {
    RoughTile tile(items, dim, scale, fused);
    const std::vector<int32_t> cuts(RoughTile::kUsers, INT32_MIN);
    std::vector<int32_t> found(RoughTile::kUsers * items.rows, INT32_MIN);
    for (int64_t first = 0; first < items.rows; first += tile.capacity()) {
        tile.pack(first, std::min(tile.capacity(), items.rows - first));
        tile.scan(users, cuts.data(), [&](int u, int64_t item, int32_t rough) {
            CHECK(item >= 0 && item < items.rows);
            CHECK(found[u * items.rows + item] == INT32_MIN);  // once
            found[u * items.rows + item] = rough;
        });
    }
    return found;
}

void check_model(const Model& model, bool biases) {
    constexpr int kUsers = RoughTile::kUsers;
    const VectorsView users = model.users_view(), items = model.items_view(biases);
    const RoughScale scale(items, model.dim);
    std::vector<int16_t> vectors(kUsers * scale.width());
    std::vector<RoughUser> scales;
    for (int u = 0; u < kUsers; ++u) scales.push_back(scale.round_user(users, u, &vectors[u * scale.width()]));
    std::vector<int32_t> rough = rough_scores(items, model.dim, scale, vectors.data(), false);
    CHECK(rough == rough_scores(items, model.dim, scale, vectors.data(), FusedPairProducts::available()));
    std::vector<float> exact(kUsers * items.rows);
    scores(users, items, model.dim, 1, exact.data());
    for (int u = 0; u < kUsers; ++u) {
        const int64_t place = u * items.rows;
        for (const int64_t item : scale.outliers()) rough[place + item] = scales[u].of_exact(exact[place + item]);
        for (int64_t a = 0; a < items.rows; ++a) {
            for (int64_t b = 0; b < items.rows; ++b) {
                const int64_t lead = static_cast<int64_t>(rough[place + a]) - rough[place + b];
                if (lead > 2 * scales[u].error) CHECK(exact[place + a] > exact[place + b]);
            }
        }
    }
}

}  // namespace

TEST(rough_scores_are_within_their_error) {
    for (int64_t dim : {1, 2, 3, 31, 32, 33, 128, 512}) {
        for (float bias_size : {0.0f, 1e-3f, 1.0f, 1e4f}) {
            for (float vector_size : {1.0f, 1e-4f, 1e3f}) {
                const Model model(37, dim, vector_size, bias_size);
                check_model(model, true);
                check_model(model, false);
            }
        }
    }
}

TEST(rough_scores_of_nothing_but_zeros_and_denormals) {
    check_model(Model(20, 3, 0.0f, 0.0f), true);
    check_model(Model(20, 3, 1e-39f, 0.0f), true);
    check_model(Model(20, 3, 1e-39f, 1e-39f), true);
    check_model(Model(20, 3, 0.0f, 1.0f), true);
    check_model(Model(20, 3, 1e15f, 1e30f), true);
    Model model(20, 3, 1e-5f, 1.0f);
    std::fill(model.items.begin(), model.items.end(), 3e38f);  // their length is not a float any more
    check_model(model, true);
}

TEST(rough_scores_of_heavy_tails) {
    for (const bool biases : {true, false}) {
        Model model(700, 5, 1.0f, 1.0f);
        for (auto* values : {&model.items, &model.item_biases}) {
            for (float& value : *values) value *= value * value * value * value;
            check_model(model, biases);
        }
    }
}

// Far larger items, even if they are of different signs, or none but they have a bias: what is left has its own scale.
TEST(outliers_leave_the_scale_of_the_rest_as_it_is) {
    const Model plain(700, 5, 1.0f, 1.0f);
    for (const float size : {1e3f, -1e3f, 1e20f, -1e30f}) {
        Model model = plain;
        model.item_biases[17] = size;
        model.items[5 * 300 + 2] = size;
        model.items[5 * 699] = -size;
        check_model(model, true);
        const RoughScale scale(model.items_view(true), model.dim), of_plain(plain.items_view(true), plain.dim);
        const std::vector<int64_t> expected{17, 300, 699};
        CHECK(std::includes(scale.outliers().begin(), scale.outliers().end(), expected.begin(), expected.end()));
        CHECK(of_plain.outliers().size() < 5 && scale.outliers().size() < 8);
        std::vector<int16_t> integers(scale.width());
        const RoughUser user = scale.round_user(model.users_view(), 0, integers.data());
        const RoughUser plain_user = of_plain.round_user(plain.users_view(), 0, integers.data());
        CHECK(user.error * user.unit < 3.0 * plain_user.error * plain_user.unit);
    }
}

TEST(items_without_biases_beside_a_few_with_one) {
    Model model(700, 5, 1.0f, 0.0f);
    model.item_biases[3] = 50.0f;
    model.item_biases[600] = -1.0f;
    check_model(model, true);
    const RoughScale scale(model.items_view(true), model.dim);
    CHECK(scale.width() == 6);  // no more than 5 numbers, in pairs
    const std::vector<int64_t> expected{3, 600};
    CHECK(std::includes(scale.outliers().begin(), scale.outliers().end(), expected.begin(), expected.end()));
}

namespace {

void check_scan(bool fused) {
    const Model model(3000, 33, 1.0f, 1.0f);
    const VectorsView users = model.users_view(), items = model.items_view(true);
    const RoughScale scale(items, model.dim);
    std::vector<int16_t> vectors(RoughTile::kUsers * scale.width());
    for (int u = 0; u < RoughTile::kUsers; ++u) scale.round_user(users, u, &vectors[u * scale.width()]);
    const std::vector<int32_t> rough = rough_scores(items, model.dim, scale, vectors.data(), fused);
    const int32_t cuts[RoughTile::kUsers] = {0, INT32_MAX, rough[2 * items.rows + 17], INT32_MIN};
    std::vector<int64_t> found(RoughTile::kUsers), expected(RoughTile::kUsers);
    RoughTile tile(items, model.dim, scale, fused);
    for (int64_t first = 0; first < items.rows; first += tile.capacity()) {
        tile.pack(first, std::min(tile.capacity(), items.rows - first));
        tile.scan(vectors.data(), cuts, [&](int u, int64_t item, int32_t score) {
            CHECK(score == rough[u * items.rows + item]);
            CHECK(score > cuts[u]);
            ++found[u];
        });
    }
    for (int u = 0; u < RoughTile::kUsers; ++u) {
        for (int64_t i = 0; i < items.rows; ++i) expected[u] += rough[u * items.rows + i] > cuts[u];
        CHECK(found[u] == expected[u]);
    }
    CHECK(found[0] > 0 && found[1] == 0 && found[3] == items.rows);
}

}  // namespace

TEST(a_scan_finds_what_is_above_the_cuts_of_each_user) {
    check_scan(false);
    check_scan(FusedPairProducts::available());
}
