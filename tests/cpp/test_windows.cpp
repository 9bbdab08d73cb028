#include <algorithm>
#include <stdexcept>
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

namespace {

// Histories of uneven lengths, some empty, the windows' numbering, and all windows.
struct AllWindows {
    std::vector<int64_t> indptr{0}, offsets;
    std::vector<int32_t> items, sequences, users;
    WindowShape shape;

    explicit AllWindows(const WindowShape& of) : shape(of) {
        for (int64_t user = 0; user < 500; ++user) indptr.push_back(indptr.back() + user * user % 17);
        for (int64_t i = 0; i < indptr.back(); ++i) items.push_back(static_cast<int32_t>(i + 1));
        offsets.resize(indptr.size());
        window_offsets(indptr.data(), 500, shape, offsets.data());
        sequences.resize(offsets.back() * shape.length);
        users.resize(offsets.back());
        windows(indptr.data(), items.data(), 500, shape, offsets.data(), 2, sequences.data(), users.data());
    }

    WindowsView view() const {
        return {indptr.data(), items.data(), offsets.data(), 500, static_cast<int64_t>(items.size())};
    }
};

// Whether windows_at refuses the index.
bool refused(const AllWindows& all, const WindowsView& view, int64_t index) {
    std::vector<int32_t> sequence(all.shape.length);
    int32_t user = 0;
    try {
        windows_at(view, all.shape, &index, 1, 1, sequence.data(), &user);
    } catch (const std::invalid_argument&) {
        return true;
    }
    return false;
}

}  // namespace

TEST(windows_at_are_rows_of_all_windows) {
    for (const WindowShape shape : {WindowShape{1, 0, 1}, {5, 1, 1}, {5, 3, 2}, {3, 3, 7}, {20, 1, int64_t{1} << 62}}) {
        const AllWindows all(shape);
        const int64_t count = all.offsets.back(), length = shape.length;
        CHECK(count > 0);
        std::vector<int64_t> index;
        for (int64_t i = 0; i < 10'000; ++i) index.push_back((i * 7919 + 1) % count);  // enough for two threads
        std::vector<int32_t> sequences(index.size() * length, -1), users(index.size(), -1);
        windows_at(all.view(), shape, index.data(), index.size(), 2, sequences.data(), users.data());
        for (size_t i = 0; i < index.size(); ++i) {
            CHECK(users[i] == all.users[index[i]]);
            const int32_t* row = sequences.data() + i * length;
            CHECK(std::equal(row, row + length, all.sequences.data() + index[i] * length));
        }
    }
}

TEST(windows_at_trusts_nothing) {
    const AllWindows all({5, 2, 1});
    const int64_t count = all.offsets.back();
    CHECK(!refused(all, all.view(), 0) && !refused(all, all.view(), count - 1));
    for (const int64_t index : {int64_t{-1}, INT64_MIN, count, INT64_MAX}) CHECK(refused(all, all.view(), index));

    WindowsView fewer_items = all.view();
    fewer_items.num_items_stored = 0;
    CHECK(refused(all, fewer_items, count - 1));

    const std::vector<int64_t> falling(all.indptr.rbegin(), all.indptr.rend()), none(all.indptr.size(), 0);
    for (const auto* indptr : {&falling, &none}) {
        WindowsView wrong = all.view();
        wrong.indptr = indptr->data();
        CHECK(refused(all, wrong, count - 1));
    }
    std::vector<int64_t> squeezed = all.offsets;  // all windows are said to be the last user's
    std::fill(squeezed.begin(), squeezed.end() - 1, 0);
    std::vector<int64_t> negative = all.offsets;
    std::fill(negative.begin(), negative.end() - 1, INT64_MIN);
    for (const auto* offsets : {&squeezed, &negative}) {
        WindowsView wrong = all.view();
        wrong.offsets = offsets->data();
        CHECK(refused(all, wrong, count - 1));
    }
}
