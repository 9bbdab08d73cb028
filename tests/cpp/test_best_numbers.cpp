#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <vector>

#include "best_numbers.h"
#include "check.h"

using namespace spotfast;

namespace {

void check_numbers(const std::vector<int32_t>& numbers) {
    BestNumbers best;
    for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{10}, BestNumbers::kMost}) {
        best.begin(count);
        std::vector<int32_t> seen;
        for (const int32_t number : numbers) {
            best.add(number);
            seen.push_back(number);
            std::sort(seen.begin(), seen.end(), std::greater<>());
            const auto known = static_cast<int64_t>(seen.size());
            CHECK(best.full() == (known >= count));
            CHECK(best.least() == seen[std::min(known, count) - 1]);
        }
    }
}

}  // namespace

TEST(the_best_numbers_are_known_at_any_time) {
    std::mt19937 generator(0);
    std::vector<int32_t> numbers(200);
    for (auto& number : numbers) number = static_cast<int32_t>(generator());
    check_numbers(numbers);
    std::sort(numbers.begin(), numbers.end());
    check_numbers(numbers);
    std::reverse(numbers.begin(), numbers.end());
    check_numbers(numbers);
    for (auto& number : numbers) number = static_cast<int32_t>(generator() % 3);
    check_numbers(numbers);
    check_numbers({INT32_MIN, INT32_MAX, INT32_MIN, INT32_MAX, 0});
}
