#include <set>
#include <vector>

#include "check.h"
#include "item_rows.h"
#include "item_set.h"

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
    const PairsView<Id> pairs{users.data(), items.data(), kCount, kUsers, kItems, nullptr};
    const ItemRowsSize size = item_rows(pairs, threads, indptr.data(), rows.data());
    CHECK(indptr[0] == 0 && indptr[kUsers] == size.count && size.count < kCount && size.bound == kItems);
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
    const ItemRowsSize size = item_rows<int64_t>({nullptr, nullptr, 0, 2, 5, nullptr}, 2, indptr.data(), nullptr);
    CHECK(size.count == 0 && size.bound == 0);
    CHECK(indptr == std::vector<int64_t>(3, 0));
}

TEST(item_rows_of_some_users) {
    const std::vector<int32_t> users{2, 0, 1, 2, 1}, items{7, 9, 3, 4, 3};
    const bool wanted[] = {false, true, true};
    std::vector<int64_t> indptr(4, -1), rows(5, -1);
    const ItemRowsSize size =
        item_rows<int32_t>({users.data(), items.data(), 5, 3, 10, wanted}, 2, indptr.data(), rows.data());
    CHECK(size.count == 3 && size.bound == 8);
    CHECK(indptr == (std::vector<int64_t>{0, 0, 1, 3}));
    CHECK(rows[0] == 3 && rows[1] == 4 && rows[2] == 7);
}

TEST(an_item_set_is_empty_after_it_was_drained) {
    ItemSet set(10'000);
    for (int round = 0; round < 2; ++round) {
        std::vector<int64_t> out(6, -1);
        for (const int64_t item : {9'999, 64, 63, 0, 4'096, 64}) set.insert(item);
        CHECK(set.drain(out.data()) == out.data() + 5);
        CHECK(out == (std::vector<int64_t>{0, 63, 64, 4'096, 9'999, -1}));
        CHECK(set.drain(out.data()) == out.data());
    }
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
