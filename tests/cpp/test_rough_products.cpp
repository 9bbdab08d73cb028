// Sums of products of whole numbers: what 64-bit arithmetic gives, by each way of adding them.
#include <algorithm>
#include <cstdint>
#include <random>

#include "check.h"
#include "rough_products.h"

using namespace spotfast;

namespace {

// Numbers so large that sums come close to what 32 bits hold, the first ones the largest of either sign.
template <class Products>
void check_products() {
    constexpr int kSize = IntegerLanes::kSize, kPerWord = Products::kPerWord, kWords = 100;
    std::mt19937 generator(1);
    for (const int32_t most : {1, 100, Products::kMost}) {
        const int32_t usual = std::min<int32_t>(most, 2000);
        std::uniform_int_distribution<int32_t> number(-usual, usual);
        int16_t user[kWords * kPerWord], items[kWords][kSize][kPerWord];
        for (auto& x : user) x = static_cast<int16_t>(number(generator));
        for (auto& word : items) {
            for (auto& item : word) {
                for (auto& x : item) x = static_cast<int16_t>(number(generator));
            }
        }
        user[0] = static_cast<int16_t>(most);
        for (int i = 0; i < kSize; ++i) items[0][i][0] = static_cast<int16_t>(i % 2 == 0 ? most : -most);
        int32_t of_user = 0;
        for (const int16_t x : user) of_user += x;
        const int32_t start = -12345;
        IntegerLanes sums = IntegerLanes::all(Products::start(start, of_user));
        int64_t expected[kSize];
        std::fill_n(expected, kSize, start);
        for (int word = 0; word < kWords; ++word) {
            int32_t column[kSize];
            for (int i = 0; i < kSize; ++i) {
                column[i] = Products::item_word(items[word][i]);
                for (int j = 0; j < kPerWord; ++j)
                    expected[i] += int64_t{user[word * kPerWord + j]} * items[word][i][j];
            }
            const IntegerLanes weights = IntegerLanes::all(Products::user_word(user + word * kPerWord));
            sums = Products::add(weights, IntegerLanes::load(column).in_register(), sums);
        }
        int32_t found[kSize];
        sums.store(found);
        for (int i = 0; i < kSize; ++i) CHECK(found[i] == expected[i]);
    }
}

}  // namespace

TEST(products_are_added_in_pairs) { check_products<PairProducts>(); }

TEST(products_are_added_four_at_once) {
    if (QuadProducts::available()) check_products<QuadProducts>();
}

TEST(lanes_tell_which_are_negative) {
    constexpr int kSize = IntegerLanes::kSize;
    for (uint32_t bits = 0; bits < 1u << kSize; ++bits) {
        int32_t numbers[kSize], others[kSize];
        for (int i = 0; i < kSize; ++i) {
            const bool negative = (bits >> i & 1) != 0;
            numbers[i] = negative ? (i % 2 == 0 ? INT32_MIN : -1) : (i % 2 == 0 ? INT32_MAX : 0);
            others[i] = i % 3 == 0 ? -7 : 7;
        }
        const IntegerLanes lanes = IntegerLanes::load(numbers);
        CHECK(lanes.negative() == bits);
        uint32_t both = 0;
        for (int i = 0; i < kSize; i += 3) both |= bits & 1u << i;
        CHECK((lanes & IntegerLanes::load(others)).negative() == both);
    }
}
