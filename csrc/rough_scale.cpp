#include "rough_scale.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numeric>
#include <type_traits>

#include "best_numbers.h"
#include "lanes.h"
#include "parallel_for.h"

namespace spotfast {

namespace {

constexpr int64_t kItemsPerOutlier = 64;        // at least
constexpr int64_t kItemsPerThread = 1 << 14;    // at least: fewer are not worth a thread
constexpr double kFar = 2.0;                    // this many times as large as the last of the few largest is far larger
constexpr double kLeast = 1e-30;                // vectors with nothing larger become zeros
constexpr double kMisplaced = 1.0 / (1 << 22);  // by how much of the largest an integer may be off besides
constexpr double kEpsilon = 1.0 / (1 << 24);
constexpr double kMostSum = 1 << 28;

double largest(const float* vector, int64_t dim) {
    constexpr int kSide = 8;  // side by side: SIMD
    float most[kSide] = {};
    int64_t d = 0;
    for (; d + kSide <= dim; d += kSide) {
        for (int i = 0; i < kSide; ++i) most[i] = std::max(most[i], std::fabs(vector[d + i]));
    }
    for (; d < dim; ++d) most[0] = std::max(most[0], std::fabs(vector[d]));
    return *std::max_element(most, most + kSide);
}

// The nearest whole numbers; magnitudes must be below 2**22.
template <class Numbers>
Numbers nearest(Numbers a) {
    const Numbers steps_of_one = Numbers::all(1.5f * (1 << 23));
    return (a + steps_of_one) - steps_of_one;
}

// The nearest integers of the numbers, in units, which must have 16 bits.
Rounded round_all(const float* numbers, int64_t count, float per_unit, int16_t* out) {
    const auto round = [&](int64_t d, auto& square, auto& lost) {
        using Numbers = std::remove_reference_t<decltype(square)>;
        const Numbers scaled = Numbers::load(numbers + d) * Numbers::all(per_unit), whole = nearest(scaled);
        whole.store(out + d);
        square = square + whole * whole;
        lost = lost + (scaled - whole) * (scaled - whole);
    };
    Lanes squares = Lanes::all(0.0f), losses = squares;
    Single square = Single::all(0.0f), lost = square;
    int64_t d = 0;
    for (; d + Lanes::kSize <= count; d += Lanes::kSize) round(d, squares, losses);
    for (; d < count; ++d) round(d, square, lost);
    return {squares.sum() + square.sum(), losses.sum() + lost.sum()};
}

// A vector with one more dimension. That of biases takes several places, but counts as one: at all of them a user has
// the same integer, so what matters of an item is the sum of its own there.
Rounded extended(const Rounded& vector, float number, int32_t integer) {
    const auto whole = static_cast<float>(integer);
    return {vector.square + whole * whole, vector.lost + (number - whole) * (number - whole)};
}

// Of magnitudes: how large they are, but for a few that are far larger.
class Magnitudes {
  public:
    explicit Magnitudes(int64_t num_items) {
        large_.begin(std::clamp<int64_t>(num_items / kItemsPerOutlier, 1, BestNumbers::kMost));
    }

    void add(double magnitude) {
        largest_ = std::max(largest_, magnitude);
        const auto number = static_cast<float>(magnitude);
        int32_t bits;  // of non-negative floats, they are in the same order
        std::memcpy(&bits, &number, sizeof bits);
        if (!large_.full() || bits > large_.least()) large_.add(bits);
    }

    void add(const Magnitudes& others) {
        largest_ = std::max(largest_, others.largest_);
        large_.add(others.large_);
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

int32_t within_range(double cut) {
    return static_cast<int32_t>(std::clamp<double>(cut, RoughScale::kLowest, RoughScale::kHighest));
}

}  // namespace

int32_t RoughUser::cut_below_exact(float score) const {
    return within_range(std::floor((static_cast<double>(score) - bias) / unit - error) - 1.0);
}

int32_t RoughUser::cut_below(int32_t rough) const { return within_range(std::floor(rough - 2.0 * error) - 2.0); }

RoughScale::RoughScale(const VectorsView& items, int64_t dim, int most, int group, int threads)
    : items_(items), dim_(dim) {
    const auto number = [&](int64_t item) { return largest(items.vectors + item * dim, dim); };
    const auto bias = [&](int64_t item) { return items.biases == nullptr ? 0.0 : std::fabs(items.biases[item]); };
    Magnitudes numbers(items.rows), biases(items.rows);
    std::mutex together;
    parallel_for(items.rows, threads, kItemsPerThread, [&](int64_t begin, int64_t end) {
        Magnitudes some_numbers(items.rows), some_biases(items.rows);
        for (int64_t item = begin; item < end; ++item) {
            some_numbers.add(number(item));
            some_biases.add(bias(item));
        }
        const std::lock_guard<std::mutex> lock(together);
        numbers.add(some_numbers);
        biases.add(some_biases);
    });
    if (numbers.have_outliers() || biases.have_outliers()) {
        for (int64_t item = 0; item < items.rows; ++item) {
            if (number(item) > numbers.limit() || bias(item) > biases.limit()) outliers_.push_back(item);
        }
    }
    bias_places_ = biases.large() > 0.0 ? group : 0;
    width_ = (dim + bias_places_ + group - 1) / group * group;
    most_ = std::clamp(std::floor(std::sqrt(kMostSum / std::max<double>(width_, 1.0))), 1.0, static_cast<double>(most));
    const double most_number = std::max(numbers.limit(), kLeast);
    item_unit_ = most_number / most_;
    item_factor_ = static_cast<float>(1.0 / item_unit_);
    if (bias_places_ > 0) {
        bias_weight_ = std::max(biases.limit(), kLeast) / most_number / bias_places_;
        bias_factor_ = static_cast<float>(1.0 / bias_weight_ / item_unit_);
    }
}

Rounded RoughScale::round_item(int64_t item, int16_t* out) const {
    const Rounded vector = round_all(items_.vectors + item * dim_, dim_, item_factor_, out);
    std::fill(out + dim_, out + width_, int16_t{0});
    if (bias_places_ == 0) return vector;
    const float scaled_bias = items_.biases[item] * bias_factor_;
    auto rest = static_cast<int32_t>(std::lrint(scaled_bias));
    const Rounded with_bias = extended(vector, scaled_bias, rest);
    for (int place = 0; place < bias_places_; ++place) {  // numbers that are as good as equal
        out[dim_ + place] = static_cast<int16_t>(rest / (bias_places_ - place));
        rest -= out[dim_ + place];
    }
    return with_bias;
}

RoughUser RoughScale::round_user(const VectorsView& users, int64_t user, const Rounded& most, int16_t* out) const {
    const float* numbers = users.vectors + user * dim_;
    const double unit = std::max({largest(numbers, dim_), bias_weight_, kLeast}) / most_;
    Rounded vector = round_all(numbers, dim_, static_cast<float>(1.0 / unit), out);
    std::fill(out + dim_, out + width_, int16_t{0});
    if (bias_places_ > 0) {
        const auto weight = static_cast<float>(bias_weight_ / unit);
        const auto integer = static_cast<int16_t>(std::lrint(weight));
        vector = extended(vector, weight, integer);
        std::fill_n(out + dim_, bias_places_, integer);
    }
    const double score_unit = unit * item_unit_, bias = users.biases == nullptr ? 0.0 : users.biases[user];
    // Of x y = (i + e) (j + f), where i and j are the integers: e y + f i is missing. The exact score is not exact
    // either: each of its roundings adds a share of the sum of magnitudes, and each product that is too small for that,
    // or that the CPU flushes to zero, a number of such a size.
    const double i = length(vector.square), e = lost_length(vector), f = lost_length(most), y = length(most.square) + f;
    const double magnitudes = (i + e) * y + std::fabs(bias) / score_unit;
    const double roundings = static_cast<double>(dim_ + 4) * (kEpsilon * magnitudes + FLT_MIN / score_unit);
    const double error = e * y + f * i + roundings;
    return {error, score_unit, static_cast<float>(bias), std::accumulate(out, out + width_, int32_t{0})};
}

// Float arithmetic adds up squares; and misplaces integers by a little.
double RoughScale::length(float square) const {
    return (1.001 + static_cast<double>(width_) * kEpsilon) * std::sqrt(square);
}

double RoughScale::lost_length(const Rounded& vector) const {
    return length(vector.lost) + kMisplaced * most_ * std::sqrt(static_cast<double>(width_));
}

}  // namespace spotfast
