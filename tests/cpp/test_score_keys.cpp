// Keys of scores: in the order of the scores, above that of NaN, and equal for few, wherever the targets lie.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "check.h"
#include "score_keys.h"

using namespace spotfast;

namespace {

void check_keys(float low, float high) {
    const KeyScale scale(low, high);
    const float step = std::max({high - low, std::fabs(low) / 512, 1e-30f}) / 2000;
    std::vector<float> scores;
    for (int i = -2000; i < 4001; ++i) scores.push_back(low + static_cast<float>(i) * step);
    scores.insert(scores.begin(), -1e38f);
    scores.push_back(high);
    std::sort(scores.begin(), scores.end());
    scores.push_back(1e38f);
    scores.push_back(NAN);
    std::vector<int16_t> keys((scores.size() + kKeyBlock - 1) / kKeyBlock * kKeyBlock);
    score_keys(scores.data(), static_cast<int64_t>(scores.size()), scale, keys.data());
    int64_t shared = 0;
    for (size_t i = 0; i < scores.size(); ++i) {
        CHECK(keys[i] == scale.key(scores[i]));  // one by one and side by side
        if (i + 1 == scores.size()) continue;    // NaN
        if (i > 0) CHECK(keys[i] >= keys[i - 1]);
        const bool inside = scores[i] >= low && scores[i] <= high;
        if (inside) CHECK(keys[i] > KeyScale::kNone && keys[i] < INT16_MAX);
        shared += inside && i > 0 && scores[i] > scores[i - 1] && keys[i] == keys[i - 1];
    }
    CHECK(shared == 0);
    for (size_t i = scores.size() - 1; i < keys.size(); ++i) CHECK(keys[i] == KeyScale::kNone);  // NaN, and to fill up
}

}  // namespace

TEST(keys_are_in_the_order_of_scores) {
    for (const float low : {0.0f, -3.0f, 5.0f, 1e-20f, -1e5f, 1e30f}) {
        for (const float width : {0.0f, 1e-30f, 1.0f, 1e3f, 1e30f}) check_keys(low, low + width);
    }
}
