#include <algorithm>
#include <vector>

#include "check.h"
#include "permutation.h"
#include "philox.h"

using namespace spotfast;

// Random123's published vectors, through the counters that they stand for.
TEST(philox_known_answers) {
    uint32_t words[4];
    philox_block({0, 0, Stream::initial}, 0, words);
    CHECK(words[0] == 0x6627E8D5 && words[1] == 0xE169C58D && words[2] == 0xBC57AC4C && words[3] == 0x9B00DBD8);
    philox_block({~uint64_t{0}, ~uint32_t{0}, static_cast<Stream>(0xFFFF), 0xFFFF}, ~uint64_t{0}, words);
    CHECK(words[0] == 0x408F276D && words[1] == 0x41C83B0E && words[2] == 0xA20BC7C6 && words[3] == 0x6D5451FD);
}

TEST(blocks_side_by_side_are_the_blocks) {
    const DrawKey key{0x0123456789ABCDEF, 3, Stream::negatives, 5};
    for (const uint64_t first : {uint64_t{0}, uint64_t{7}, (uint64_t{1} << 32) - 3}) {  // the low counter overflows
        uint32_t many[kDraws], one[4];
        philox_blocks(key, first, many);
        for (int block = 0; block < kBlocks; ++block) {
            philox_block(key, first + block, one);
            CHECK(std::equal(one, one + 4, many + 4 * block));
        }
    }
}

TEST(draws_do_not_depend_on_threads_or_cuts) {
    const DrawKey key{42, 1, Stream::negatives};
    std::vector<uint32_t> once(200003), cut(once.size());
    draws(key, 5, once.size(), 1, once.data());
    draws(key, 5, 77777, 3, cut.data());
    draws(key, 5 + 77777, once.size() - 77777, 2, cut.data() + 77777);
    CHECK(once == cut);
    CHECK(once[100] == draw(key, 105));
}

TEST(permutation_is_a_bijection) {
    for (const uint64_t n : {1, 2, 3, 10, 17, 1023, 1024, 1025, 50021}) {
        std::vector<int64_t> order(n);
        permutation(7, 2, n, 0, n, 3, order.data());
        std::sort(order.begin(), order.end());
        for (uint64_t i = 0; i < n; ++i) CHECK(order[i] == static_cast<int64_t>(i));
    }
}

TEST(permutation_of_huge_ranges_stays_in_them) {
    const uint64_t n = (uint64_t{1} << 62) - 1;
    std::vector<int64_t> order(1000), again(500);
    permutation(7, 2, n, n - 1000, 1000, 2, order.data());
    permutation(7, 2, n, n - 500, 500, 1, again.data());
    for (const int64_t index : order) CHECK(index >= 0 && static_cast<uint64_t>(index) < n);
    CHECK(std::equal(again.begin(), again.end(), order.begin() + 500));
}
