// Sums of products of pairs: what whole numbers give, by each way of adding them.
#include <cstdint>
#include <random>

#include "check.h"
#include "pair_products.h"

using namespace spotfast;

namespace {

template <class Products>
void check_products() {
    constexpr int kSize = PairLanes::kSize, kSteps = 100;
    std::mt19937 generator(1);
    for (const int32_t most : {1, 300, 2500}) {  // sums stay below 2**31
        std::uniform_int_distribution<int32_t> number(-most, most);
        PairLanes sums = PairLanes::zero();
        int64_t expected[kSize] = {};
        for (int step = 0; step < kSteps; ++step) {
            int16_t pair[2], items[2 * kSize];
            for (auto& x : pair) x = static_cast<int16_t>(number(generator));
            for (auto& x : items) x = static_cast<int16_t>(number(generator));
            if (step == 0) pair[0] = items[0] = INT16_MAX, pair[1] = 1, items[1] = INT16_MIN;
            sums = Products::add(PairLanes::all(pair), PairLanes::load(items), sums);
            for (int i = 0; i < kSize; ++i) {
                expected[i] += int64_t{pair[0]} * items[2 * i] + int64_t{pair[1]} * items[2 * i + 1];
            }
        }
        int32_t found[kSize];
        sums.store(found);
        for (int i = 0; i < kSize; ++i) CHECK(found[i] == expected[i]);
    }
}

}  // namespace

TEST(products_of_pairs_are_added_by_two_instructions) { check_products<PairProducts>(); }

TEST(products_of_pairs_are_added_by_one_instruction) {
    if (FusedPairProducts::available()) check_products<FusedPairProducts>();
}
