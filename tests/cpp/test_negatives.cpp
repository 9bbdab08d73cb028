#include <algorithm>
#include <vector>

#include "check.h"
#include "negatives.h"

using namespace spotfast;

namespace {

constexpr int64_t kItems = 10, kSlots = 3, kSamples = 20000;

// User 0 has no positives, user 1 some, user 2 all but item 4; the last row ends the array.
const std::vector<int64_t> kIndptr = {0, 0, 4, 13};
const std::vector<int32_t> kPositives = {0, 1, 5, 9, 0, 1, 2, 3, 5, 6, 7, 8, 9};
const PositivesView kView{kIndptr.data(), kPositives.data()};
const NegativesRequest kRequest{9, 1, 11, 11 + kSamples, kSlots, kItems};

std::vector<int64_t> users() {
    std::vector<int64_t> result(kSamples);
    for (int64_t i = 0; i < kSamples; ++i) result[i] = i % 3;
    return result;
}

void check_unseen(const std::vector<int64_t>& drawn) {
    std::vector<int> seen(3 * kItems);
    for (size_t i = 0; i < drawn.size(); ++i) {
        const int64_t user = i / kSlots % 3;
        CHECK(drawn[i] >= 0 && drawn[i] < kItems);
        CHECK(
            !std::binary_search(kPositives.begin() + kIndptr[user], kPositives.begin() + kIndptr[user + 1], drawn[i]));
        ++seen[user * kItems + drawn[i]];
    }
    CHECK(seen[2 * kItems + 4] == kSamples / 3 * kSlots);  // the only item left
}

}  // namespace

TEST(uniform_negatives_keep_clear_of_padding) {
    std::vector<int64_t> one(kSamples * kSlots, -1), three(one);
    uniform_negatives(kRequest, 1, 1, one.data());
    uniform_negatives(kRequest, 1, 3, three.data());
    CHECK(one == three);
    CHECK(*std::min_element(one.begin(), one.end()) == 1 && *std::max_element(one.begin(), one.end()) == kItems - 1);
}

TEST(unseen_negatives_are_unseen_on_any_number_of_threads) {
    std::vector<int64_t> one(kSamples * kSlots, -1), three(one);
    const auto user_ids = users();
    unseen_negatives(kRequest, user_ids.data(), kView, 1, one.data());
    unseen_negatives(kRequest, user_ids.data(), kView, 3, three.data());
    CHECK(one == three);
    check_unseen(one);
    for (const int64_t item : {2, 3, 4, 6, 7, 8}) {
        CHECK(std::find(one.begin(), one.end(), item) != one.end());
    }
}

// So many draws in random order that they are sorted by user, against few at a time, which are not.
TEST(unseen_negatives_do_not_depend_on_the_number_drawn_at_once) {
    constexpr int64_t kMany = 100'000, kFew = 1'000;
    std::vector<int64_t> user_ids(kMany), at_once(kMany * kSlots, -1), in_parts(at_once);
    for (int64_t i = 0; i < kMany; ++i) user_ids[i] = i * i % 7 % 3;
    unseen_negatives({9, 1, 0, kMany, kSlots, kItems}, user_ids.data(), kView, 1, at_once.data());
    for (int64_t start = 0; start < kMany; start += kFew) {
        const NegativesRequest request{9, 1, start, start + kFew, kSlots, kItems};
        unseen_negatives(request, user_ids.data() + start, kView, 1, in_parts.data() + start * kSlots);
    }
    CHECK(at_once == in_parts);
}

TEST(popularity_negatives_are_unseen_on_any_number_of_threads) {
    std::vector<uint32_t> thresholds(kItems - 1);
    for (int64_t i = 0; i + 1 < kItems; ++i) thresholds[i] = static_cast<uint32_t>((i + 1) * 0x19999999);
    std::vector<int64_t> one(kSamples * kSlots, -1), three(one);
    const auto user_ids = users();
    popularity_negatives(kRequest, thresholds.data(), user_ids.data(), kView, 1, one.data());
    popularity_negatives(kRequest, thresholds.data(), user_ids.data(), kView, 3, three.data());
    CHECK(one == three);
    check_unseen(one);
}
