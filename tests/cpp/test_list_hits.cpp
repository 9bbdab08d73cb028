#include <memory>
#include <vector>

#include "check.h"
#include "list_hits.h"

using namespace spotfast;

TEST(list_hits_are_found_counted_and_seen_twice) {
    const std::vector<int64_t> lists{4, 9, -1, 9, 4, 9, 5, 5, 5}, rows{2, 2, 0};
    const std::vector<int64_t> indptr{0, 0, 1, 3}, items{4, 4, 9};
    for (const int threads : {1, 2}) {
        bool found[9];
        std::vector<int64_t> lengths(3, -1), repeated(3, -2);
        list_hits({lists.data(), rows.data(), 3, 3}, {indptr.data(), items.data()}, threads,
                  {found, lengths.data(), repeated.data()});
        CHECK((std::vector<bool>(found, found + 9) ==
               std::vector<bool>{true, true, false, true, true, true, false, false, false}));
        CHECK(lengths == (std::vector<int64_t>{2, 3, 3}));
        CHECK(repeated == (std::vector<int64_t>{-1, 9, -1}));
    }
}

TEST(list_hits_of_many_lists) {  // threads share them
    constexpr int64_t kLists = 1000;
    std::vector<int64_t> every(kLists + 1), lengths(kLists), repeated(kLists);
    for (int64_t i = 0; i <= kLists; ++i) every[i] = i;
    const auto found = std::make_unique<bool[]>(kLists);
    list_hits({every.data(), every.data(), kLists, 1}, {every.data(), every.data()}, 3,
              {found.get(), lengths.data(), repeated.data()});
    for (int64_t i = 0; i < kLists; ++i) CHECK(found[i] && lengths[i] == 1 && repeated[i] == -1);
}
