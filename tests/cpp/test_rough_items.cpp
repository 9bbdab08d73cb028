// Rough scores: never further from the exact ones than they say, whatever the magnitudes, and none above a cut is
// missed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "check.h"
#include "rough_items.h"
#include "scores.h"

using namespace spotfast;

namespace {

constexpr int kUsers = RoughItems::kUsers, kPanel = RoughItems::kPanel;

struct Model {
    int64_t num_items, dim;
    std::vector<float> users, user_biases, items, item_biases;

    Model(int64_t num_items, int64_t dim, float vector_size, float bias_size) : num_items(num_items), dim(dim) {
        std::mt19937 generator(static_cast<unsigned>(dim + num_items));
        std::normal_distribution<float> normal;
        const auto fill = [&](std::vector<float>& values, int64_t count, float size) {
            for (int64_t i = 0; i < count; ++i) values.push_back(size * normal(generator));
        };
        fill(users, kUsers * dim, vector_size);
        fill(user_biases, kUsers, bias_size);
        fill(items, num_items * dim, vector_size);
        fill(item_biases, num_items, bias_size);
    }
    VectorsView users_view() const { return {users.data(), user_biases.data(), kUsers}; }
    VectorsView items_view(bool biases) const {
        return {items.data(), biases ? item_biases.data() : nullptr, num_items};
    }
};

// All users of a model, rounded.
struct Users {
    std::vector<int32_t> words;
    std::vector<RoughUser> scales;
    RoughGroup group;

    Users(const Model& model, const RoughItems& items) : words(kUsers * items.words()) {
        group.words = words.data();
        for (int u = 0; u < kUsers; ++u) {
            scales.push_back(items.round_user(model.users_view(), u, words.data() + u * items.words()));
            group.sums[u] = scales.back().sum;
        }
    }
};

// All items in the order of `scan`, with cuts that let everything through.
std::vector<int32_t> rough_scores(const RoughItems& items, int64_t num_items, const RoughGroup& users) {
    const std::vector<int32_t> cuts(kUsers, RoughScale::kLowest);
    std::vector<int32_t> found(kUsers * num_items, INT32_MIN);
    items.scan(0, items.panels(), users, cuts.data(), [&](int u, int64_t item, int32_t rough) {
        CHECK(item >= 0 && item < num_items);
        CHECK(found[u * num_items + item] == INT32_MIN);  // once
        CHECK(rough > RoughScale::kLowest && rough < RoughScale::kHighest);
        found[u * num_items + item] = rough;
    });
    return found;
}

void check_model(const Model& model, bool biases, bool quads) {
    const VectorsView items = model.items_view(biases);
    const RoughItems rough_items(items, model.dim, 1, quads);
    const Users users(model, rough_items);
    const std::vector<int32_t> rough = rough_scores(rough_items, items.rows, users.group);
    std::vector<float> exact(kUsers * items.rows);
    scores(model.users_view(), items, model.dim, 1, exact.data());
    const std::vector<int64_t>& outliers = rough_items.outliers();
    for (int u = 0; u < kUsers; ++u) {
        const RoughUser& scale = users.scales[u];
        const int64_t place = u * items.rows;
        for (int64_t a = 0; a < items.rows; ++a) {
            if (std::binary_search(outliers.begin(), outliers.end(), a)) continue;
            const double score = static_cast<double>(exact[place + a]) - scale.bias;
            CHECK(std::fabs(score / scale.unit - rough[place + a]) <= scale.error);
            const int32_t below = scale.cut_below(rough[place + a]);
            for (int64_t b = 0; b < items.rows; ++b) {
                const bool better = exact[place + b] >= exact[place + a];
                if (!better || std::binary_search(outliers.begin(), outliers.end(), b)) continue;
                CHECK(rough[place + b] > below);
                CHECK(rough[place + b] > scale.cut_below_exact(exact[place + a]));
            }
        }
    }
}

// In both ways of adding products, if the CPU has both.
void check_model(const Model& model, bool biases) {
    check_model(model, biases, false);
    if (QuadProducts::available()) check_model(model, biases, true);
}

}  // namespace

TEST(rough_scores_are_within_their_error) {
    for (int64_t dim : {0, 1, 2, 3, 31, 32, 33, 128, 512}) {
        for (float bias_size : {0.0f, 1e-3f, 1.0f, 1e4f}) {
            for (float vector_size : {1.0f, 1e-4f, 1e3f}) {
                const Model model(37, dim, vector_size, bias_size);
                check_model(model, true);
                check_model(model, false);
            }
        }
    }
}

// The sums of so many products must stay in 32 bits: numbers become coarser.
TEST(rough_scores_of_long_vectors) {
    Model model(17, 40000, 1.0f, 1.0f);
    std::fill(model.users.begin(), model.users.end(), 1.0f);
    std::fill(model.items.begin(), model.items.begin() + model.dim, -1.0f);
    std::fill(model.items.begin() + model.dim, model.items.end(), 1.0f);
    check_model(model, true);
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

// Products so small that roundings are no share of them any more.
TEST(rough_scores_of_products_that_underflow) {
    for (const float size : {1e-19f, 1e-20f, 1e-21f, 1e-22f, 1e-23f, 1e-24f, 1e-26f}) {
        check_model(Model(200, 3, size, 0.0f), true);
        check_model(Model(200, 70, size, 1e-44f), true);
    }
}

// A user whose integers are exact, and items of which nearly a half is taken from each number, or added to it.
TEST(the_error_is_no_larger_than_it_has_to_be) {
    constexpr int64_t kDim = 100;
    Model model(3, kDim, 0.0f, 0.0f);
    std::fill(model.users.begin(), model.users.end(), 1.0f);
    for (int64_t d = 0; d < kDim; ++d) {
        model.items[d] = 127.0f;  // sets the scale: one unit is 1
        model.items[kDim + d] = 10.51f;
        model.items[2 * kDim + d] = d < 3 ? 11.49f : 10.49f;  // better, in whole numbers it seems worse
    }
    const RoughItems items(model.items_view(true), kDim, 1);
    if (!QuadProducts::available()) return;
    const Users users(model, items);
    const std::vector<int32_t> rough = rough_scores(items, 3, users.group);
    CHECK(rough[1] - rough[2] == 97 * 127);
    CHECK(rough[2] > users.scales[0].cut_below(rough[1]) && rough[1] - 2.2 * users.scales[0].error < rough[2]);
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
        const RoughItems items(model.items_view(true), model.dim, 1), of_plain(plain.items_view(true), plain.dim, 1);
        const std::vector<int64_t> expected{17, 300, 699};
        CHECK(std::includes(items.outliers().begin(), items.outliers().end(), expected.begin(), expected.end()));
        CHECK(of_plain.outliers().size() < 5 && items.outliers().size() < 8);
        const RoughUser user = Users(model, items).scales[0], plain_user = Users(plain, of_plain).scales[0];
        CHECK(user.error * user.unit < 3.0 * plain_user.error * plain_user.unit);
    }
}

TEST(items_without_biases_beside_a_few_with_one) {
    Model model(700, 6, 1.0f, 0.0f);
    model.item_biases[3] = 50.0f;
    model.item_biases[600] = -1.0f;
    check_model(model, true);
    const RoughItems items(model.items_view(true), model.dim, 1, false);
    CHECK(items.words() == 3);  // no more than 6 numbers, in pairs
    const std::vector<int64_t> expected{3, 600};
    CHECK(std::includes(items.outliers().begin(), items.outliers().end(), expected.begin(), expected.end()));
}

TEST(items_are_the_same_for_any_number_of_threads) {
    Model model(70001, 3, 1.0f, 1.0f);
    model.items[3 * 40000] = 1e5f;
    model.items[3 * 69999] = 5e4f;
    const RoughItems one(model.items_view(true), 3, 1), four(model.items_view(true), 3, 4);
    CHECK(one.outliers() == four.outliers());
    const Users users(model, one), of_four(model, four);
    CHECK(users.words == of_four.words && users.scales[0].error == of_four.scales[0].error);
    CHECK(rough_scores(one, model.num_items, users.group) == rough_scores(four, model.num_items, users.group));
}

namespace {

void check_scan(bool quads) {
    const Model model(3000, 33, 1.0f, 1.0f);
    const RoughItems items(model.items_view(true), model.dim, 1, quads);
    const Users users(model, items);
    const std::vector<int32_t> rough = rough_scores(items, model.num_items, users.group);
    int32_t cuts[kUsers] = {0, RoughScale::kHighest, rough[2 * model.num_items + 17], RoughScale::kLowest, 0};
    std::vector<int64_t> found(kUsers), last(kUsers, -1);
    const auto visit = [&](int u, int64_t item, int32_t score) {
        CHECK(score == rough[u * model.num_items + item] && item > last[u]);
        last[u] = item;
        ++found[u];
        if (u == 4) cuts[u] = std::max(cuts[u], score);  // raised by what is found
    };
    for (int64_t panel = 0; panel < items.panels(); panel += items.panels_in_cache()) {
        items.scan(panel, std::min(panel + items.panels_in_cache(), items.panels()), users.group, cuts, visit);
    }
    for (int u = 0; u < 4; ++u) {
        int64_t expected = 0;
        for (int64_t i = 0; i < model.num_items; ++i) expected += rough[u * model.num_items + i] > cuts[u];
        CHECK(found[u] == expected);
    }
    CHECK(found[0] > 0 && found[1] == 0 && found[3] == model.num_items);
    // Once raised, a cut holds: no more than the panels that had been scored before can be found too often.
    const int32_t* row = &rough[4 * model.num_items];
    CHECK(cuts[4] == *std::max_element(row, row + model.num_items) && found[4] < model.num_items / 4);
}

}  // namespace

TEST(a_scan_finds_what_is_above_the_cuts_of_each_user) {
    check_scan(false);
    if (QuadProducts::available()) check_scan(true);
}

TEST(few_panels_are_scored_for_all_to_be_looked_at) {
    const Model model(300, 7, 1.0f, 1.0f);
    const RoughItems items(model.items_view(true), model.dim, 1);
    const Users users(model, items);
    const std::vector<int32_t> rough = rough_scores(items, model.num_items, users.group);
    const int32_t cuts[kUsers] = {-1, 100, -200, RoughScale::kHighest, -1};
    RoughItems::Leads leads;
    const uint32_t panels = items.score(2, 5, 3, users.group, cuts, leads);  // every third one, from the third on
    for (int64_t panel = 0; panel < 5; ++panel) {
        bool any = false;
        for (int u = 0; u < kUsers; ++u) {
            for (int64_t i = 0; i < kPanel; ++i) {
                const int32_t score = rough[u * model.num_items + (2 + 3 * panel) * kPanel + i];
                CHECK(leads[panel][u][i] == score - cuts[u] - 1);
                any = any || score > cuts[u];
            }
        }
        CHECK((panels >> panel & 1) == any);
    }
    CHECK(panels >> 5 == 0);
}
