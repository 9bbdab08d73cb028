#include <vector>

#include "check.h"
#include "windows.h"

using namespace spotfast;

TEST(histories_are_sorted_by_time_and_stable) {
    // More than 48 events of user 1, in falling time with ties in pairs: the long way to sort.
    std::vector<int32_t> users, items;
    std::vector<int64_t> times;
    for (int32_t i = 0; i < 100; ++i) {
        users.push_back(1);
        items.push_back(i);
        times.push_back(50 - i / 2);
    }
    for (int32_t i = 0; i < 10; ++i) {  // and few of user 3: the short one
        users.push_back(3);
        items.push_back(200 + i);
        times.push_back(10 - i / 2);
    }
    std::vector<int64_t> indptr(5);
    std::vector<int32_t> sorted(users.size());
    histories(users.data(), items.data(), times.data(), users.size(), 4, 2, indptr.data(), sorted.data());
    CHECK((indptr == std::vector<int64_t>{0, 0, 100, 100, 110}));
    for (int32_t i = 0; i < 100; ++i) CHECK(sorted[i] == 98 - i / 2 * 2 + i % 2);
    for (int32_t i = 0; i < 10; ++i) CHECK(sorted[100 + i] == 208 - i / 2 * 2 + i % 2);
}

TEST(windows_are_cut_from_the_end_and_padded) {
    const std::vector<int64_t> indptr = {0, 0, 3, 4};
    const std::vector<int32_t> items = {1, 2, 3, 4};
    const WindowShape shape{2, 1, 1};
    std::vector<int64_t> offsets(4);
    window_offsets(indptr.data(), 3, shape, offsets.data());
    CHECK((offsets == std::vector<int64_t>{0, 0, 3, 4}));
    std::vector<int32_t> sequences(4 * 2, -1), users(4, -1);
    windows(indptr.data(), items.data(), 3, shape, offsets.data(), 2, sequences.data(), users.data());
    CHECK((sequences == std::vector<int32_t>{2, 3, 1, 2, 0, 1, 0, 4}));
    CHECK((users == std::vector<int32_t>{1, 1, 1, 2}));
}

TEST(window_counts) {
    CHECK((WindowShape{5, 0, 5}.count(0)) == 0);
    CHECK((WindowShape{5, 0, 5}.count(5)) == 1);
    CHECK((WindowShape{5, 0, 5}.count(6)) == 2);
    CHECK((WindowShape{5, 3, 2}.count(6)) == 2);  // ends at 6 and 4; the one at 2 is too short
    CHECK((WindowShape{5, 6, 1}.count(9)) == 0);  // no window can hold that many
}
