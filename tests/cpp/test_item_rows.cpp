#include <set>
#include <vector>

#include "check.h"
#include "item_rows.h"

using namespace spotfast;

namespace {

constexpr int64_t kUsers = 10'000, kItems = 50, kCount = 120'000;

// Pairs in a random-looking order, many of them repeated, none of the last user.
template <class Id>
void check_rows(int threads) {
    std::vector<Id> users(kCount), items(kCount);
    std::vector<std::set<int64_t>> expected(kUsers);
    for (int64_t i = 0; i < kCount; ++i) {
        users[i] = static_cast<Id>(i * 7919 % (kUsers - 1));
        items[i] = static_cast<Id>(i * i % 1013 % kItems);
        expected[users[i]].insert(items[i]);
    }
    std::vector<int64_t> indptr(kUsers + 1, -1), rows(kCount, -1);
    const int64_t total =
        item_rows(users.data(), items.data(), kCount, kUsers, kItems, threads, indptr.data(), rows.data());
    CHECK(indptr[0] == 0 && indptr[kUsers] == total && total < kCount);
    for (int64_t user = 0; user < kUsers; ++user) {
        const std::vector<int64_t> row(rows.begin() + indptr[user], rows.begin() + indptr[user + 1]);
        CHECK(row == std::vector<int64_t>(expected[user].begin(), expected[user].end()));
    }
}

}  // namespace

TEST(item_rows_are_ascending_and_distinct) {
    for (const int threads : {1, 2, 3}) {
        check_rows<int32_t>(threads);
        check_rows<int64_t>(threads);
    }
}

TEST(item_rows_of_nothing) {
    std::vector<int64_t> indptr(3, -1);
    CHECK(item_rows<int64_t>(nullptr, nullptr, 0, 2, 5, 2, indptr.data(), nullptr) == 0);
    CHECK(indptr == std::vector<int64_t>(3, 0));
}

TEST(common_items_are_counted_row_by_row) {
    const std::vector<int64_t> indptr{0, 3, 3, 4, 6}, items{1, 4, 9, 7, 0, 3}, others{0, 2, 3, 5, 6},
        few{4, 9, 1, 6, 7, 0};
    for (const int threads : {1, 2}) {
        CHECK(num_common(indptr.data(), items.data(), others.data(), few.data(), 4, threads) == 4);
        CHECK(num_common(others.data(), few.data(), indptr.data(), items.data(), 4, threads) == 4);
    }
    std::vector<int64_t> every(1001);
    for (int64_t i = 0; i < 1001; ++i) every[i] = i;
    CHECK(num_common(every.data(), every.data(), every.data(), every.data(), 1000, 3) == 1000);  // threads share them
}
