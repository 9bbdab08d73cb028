#include "rough_scale.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "best_numbers.h"

namespace spotfast {

namespace {

constexpr int64_t kItemsPerOutlier = 64;  // at least
constexpr double kFar = 2.0;              // this many times as large as the last of the few largest is far larger
constexpr double kLeast = 1e-30;          // vectors that are shorter become zeros
constexpr double kRounding = 0.51;        // error of an integer: a half, and what float arithmetic adds to that
constexpr double kEpsilon = 1.0 / (1 << 24);
constexpr double kMostLength = 32700.0;  // of a vector of integers: each is less than 2**15, each product than 2**30

double length(const float* vector, int64_t dim) {
    constexpr int kSums = 8;  // side by side: SIMD
    double sums[kSums] = {};
    int64_t d = 0;
    for (; d + kSums <= dim; d += kSums) {
        for (int i = 0; i < kSums; ++i) sums[i] += static_cast<double>(vector[d + i]) * vector[d + i];
    }
    for (; d < dim; ++d) sums[0] += static_cast<double>(vector[d]) * vector[d];
    for (int i = 1; i < kSums; ++i) sums[0] += sums[i];
    return std::sqrt(sums[0]);
}

double length(const int16_t* numbers, int64_t count) {
    int64_t sum = 0;
    for (int64_t i = 0; i < count; ++i) sum += int64_t{numbers[i]} * numbers[i];
    return std::sqrt(static_cast<double>(sum));
}

// Of magnitudes: how large they are, but for a few that are far larger.
class Magnitudes {
  public:
    explicit Magnitudes(int64_t num_items) {
        large_.begin(std::clamp<int64_t>(num_items / kItemsPerOutlier, 1, BestNumbers::kMost));
    }

    void add(double magnitude) {
        largest_ = std::max(largest_, magnitude);
        const auto number = static_cast<float>(std::min<double>(magnitude, FLT_MAX));
        int32_t bits;  // of non-negative floats, they are in the same order
        std::memcpy(&bits, &number, sizeof bits);
        if (!large_.full() || bits > large_.least()) large_.add(bits);
    }

    // The last of the few largest.
    double large() const {
        if (large_.empty()) return 0.0;
        const int32_t bits = large_.least();
        float number;
        std::memcpy(&number, &bits, sizeof number);
        return number;
    }

    double limit() const { return std::min(largest_, kFar * large()); }
    bool have_outliers() const { return largest_ > limit(); }

  private:
    double largest_ = 0.0;
    BestNumbers large_;
};

void round_all(const float* values, int64_t count, float per_unit, int16_t* out) {
    for (int64_t i = 0; i < count; ++i) {
        const float scaled = values[i] * per_unit;
        out[i] = static_cast<int16_t>(static_cast<int32_t>(scaled + (scaled < 0.0f ? -0.5f : 0.5f)));
    }
}

}  // namespace

int32_t RoughUser::of_exact(float score) const {
    const double rough = (static_cast<double>(score) - bias) / unit;
    return static_cast<int32_t>(std::clamp<double>(std::nearbyint(rough), INT32_MIN + 1, INT32_MAX));
}

RoughScale::RoughScale(const VectorsView& items, int64_t dim) : dim_(dim) {
    const auto vector_length = [&](int64_t item) { return length(items.vectors + item * dim, dim); };
    const auto bias = [&](int64_t item) { return items.biases == nullptr ? 0.0 : std::fabs(items.biases[item]); };
    Magnitudes lengths(items.rows), biases(items.rows);
    for (int64_t item = 0; item < items.rows; ++item) {
        lengths.add(vector_length(item));
        biases.add(bias(item));
    }
    if (lengths.have_outliers() || biases.have_outliers()) {
        for (int64_t item = 0; item < items.rows; ++item) {
            if (vector_length(item) > lengths.limit() || bias(item) > biases.limit()) outliers_.push_back(item);
        }
    }
    has_biases_ = biases.large() > 0.0;
    bias_weight_ = std::max(biases.large(), kLeast) / std::max(lengths.large(), kLeast);
    width_ = (dim + has_biases_ + 1) / 2 * 2;
    const double weighted_bias = biases.limit() / bias_weight_;
    const double longest = std::sqrt(lengths.limit() * lengths.limit() + weighted_bias * weighted_bias);
    item_unit_ = std::max(longest, kLeast) / kMostLength;
}

RoughUser RoughScale::round_user(const VectorsView& users, int64_t user, int16_t* out) const {
    const float* vector = users.vectors + user * dim_;
    const double own = length(vector, dim_), weight = has_biases_ ? bias_weight_ : 0.0;
    const double unit = std::max(std::sqrt(own * own + weight * weight), kLeast) / kMostLength;
    std::fill(out + dim_, out + width_, 0);
    round_all(vector, dim_, static_cast<float>(1.0 / unit), out);
    if (has_biases_) out[dim_] = static_cast<int16_t>(std::lrint(bias_weight_ / unit));
    // Of x y = (i + e) (j + f), where i and j are the integers and e and f at most kRounding: e y + f i is missing. The
    // exact score is not exact either: each of its roundings adds a share of the sum of magnitudes.
    const double rounding = kRounding * std::sqrt(static_cast<double>(width_)), integers = length(out, width_);
    const double bias = users.biases == nullptr ? 0.0 : users.biases[user];
    const double magnitudes = (integers + rounding) * kMostLength + std::fabs(bias) / unit / item_unit_;
    const double error = rounding * (kMostLength + integers) + static_cast<double>(dim_ + 4) * kEpsilon * magnitudes;
    return {static_cast<int64_t>(std::min(std::ceil(error), 1e18)), unit * item_unit_, static_cast<float>(bias)};
}

}  // namespace spotfast
