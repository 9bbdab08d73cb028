// The best items: those of a stable sort, however many are wanted and in whatever order they come.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "best_items.h"
#include "check.h"

using namespace spotfast;

namespace {

const std::vector<float> kScores{-INFINITY, -3e38f, -2.5f, -1e-40f, 0.0f, 1e-45f, 1e-3f, 1.0f, 1.0000001f, 3e38f};

void check_list(BestItems best, const std::vector<float>& scores, int64_t wanted) {
    std::vector<int64_t> order(scores.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return scores[a] > scores[b]; });
    std::vector<int64_t> ids(wanted);
    std::vector<float> found(wanted);
    best.write(ids.data(), found.data());
    for (int64_t j = 0; j < wanted; ++j) {
        const bool exists = j < static_cast<int64_t>(order.size());
        CHECK(ids[j] == (exists ? order[j] : -1));
        CHECK(found[j] == (exists ? scores[order[j]] : -INFINITY));
    }
}

}  // namespace

TEST(scored_items_are_in_the_order_of_their_scores) {
    for (const float a : kScores) {
        for (const float b : kScores) {
            for (const int64_t low : {int64_t{0}, int64_t{5}, (int64_t{1} << 32) - 2}) {
                const ScoredItem first(a, low), second(b, low + 1);
                CHECK(first.score() == a && first.item() == low && second.item() == low + 1);
                CHECK((first > second) == (a >= b));
                CHECK((second > first) == (b > a));
            }
        }
    }
    CHECK(ScoredItem(0.0f, 1) > ScoredItem(-0.0f, 2) && ScoredItem(-0.0f, 1) > ScoredItem(0.0f, 2));
}

TEST(the_best_items_are_those_of_a_stable_sort) {
    std::mt19937 generator(0);
    for (const int64_t count : {0, 1, 5, 31, 32, 33, 64, 65, 66, 300}) {
        std::vector<float> scores(count);
        for (auto& score : scores) score = kScores[1 + generator() % (kScores.size() - 1)];
        for (const int64_t wanted : {1, 2, 31, 32, 33, 34, 149, 150, 151, 299, 300, 400}) {
            BestItems ascending(wanted, count), odd(wanted, count), even(wanted, count);
            const auto add = [&](BestItems& to, int64_t item) {
                const ScoredItem scored(scores[item], item);
                if (to.full()) CHECK(to.accepts(scored) || scores[item] <= to.least());
                if (to.accepts(scored)) to.add(scored);
            };
            for (int64_t item = 0; item < count; ++item) {
                add(ascending, item);
                add(item % 2 == 0 ? even : odd, count - 1 - item);
            }
            check_list(ascending, scores, wanted);
            even.add(odd);
            check_list(even, scores, wanted);
        }
    }
}

TEST(a_list_knows_its_last_score_as_soon_as_it_is_full) {
    for (const int64_t wanted : {int64_t{3}, int64_t{40}}) {
        BestItems best(wanted, 1000);
        best.settle();
        CHECK(!best.full());
        for (int64_t item = 0; item < 2 * wanted; ++item) best.add(ScoredItem(static_cast<float>(item), item));
        CHECK(best.full() && best.least() == static_cast<float>(wanted));
        BestItems few(wanted, 1000);  // as many as are wanted
        for (int64_t item = 0; item < wanted; ++item) few.add(ScoredItem(static_cast<float>(item + 5), item));
        few.settle();
        CHECK(few.full() && few.least() == 5.0f);
        CHECK(!best.accepts(
            ScoredItem(static_cast<float>(wanted), 999)));  // of equal scores, the lower id is the better one
        CHECK(best.accepts(ScoredItem(static_cast<float>(wanted), 0)));
    }
}
