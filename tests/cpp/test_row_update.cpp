#include <cmath>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "row_update.h"

using namespace spotfast;

namespace {

struct Tensors {
    std::vector<float> weights, first, second;
    int64_t dim;

    Tensors(int64_t rows, int64_t dim) : weights(rows * dim), first(rows * dim), second(rows * dim), dim(dim) {
        for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    }
    AdamTable view() { return {weights.data(), first.data(), second.data(), dim}; }
    bool operator==(const Tensors& other) const {
        const auto bytes = weights.size() * sizeof(float);
        return std::memcmp(weights.data(), other.weights.data(), bytes) == 0 &&
               std::memcmp(first.data(), other.first.data(), bytes) == 0 &&
               std::memcmp(second.data(), other.second.data(), bytes) == 0;
    }
};

Tensors trained(int64_t dim, int threads) {
    constexpr int64_t kRows = 700, kEntries = 9000;
    Tensors tensors(kRows, dim);
    DeferredRows rows(kRows, {0.9, 0.999, 1e-8, 0.0, false}, 0);
    std::vector<int64_t> ids(kEntries);
    std::vector<float> gradients(kEntries * dim);
    for (int64_t step = 0; step < 12; ++step) {
        for (int64_t i = 0; i < kEntries; ++i) ids[i] = (i * i + 31 * step) % (kRows - 7 * step);
        for (size_t i = 0; i < gradients.size(); ++i) gradients[i] = std::cos(static_cast<float>(i + step));
        rows.catch_up(tensors.view(), ids.data(), kEntries, threads);
        rows.update(tensors.view(), ids.data(), gradients.data(), step % 3 == 0 ? 5 : kEntries, 0.01, threads);
        if (step == 8) rows.flush(tensors.view(), threads);
    }
    rows.flush(tensors.view(), threads);
    return tensors;
}

}  // namespace

TEST(rows_have_the_same_bits_for_any_number_of_threads) {
    for (const int64_t dim : {1, 3, 9}) {
        const Tensors one = trained(dim, 1);
        CHECK(!(one == Tensors(700, dim)));
        for (const int threads : {2, 3, 5}) CHECK(trained(dim, threads) == one);
    }
}

// A first step of Adam moves a row by the learning rate against the sign of its gradient, whatever the gradient's size.
TEST(gradients_of_a_row_are_summed_before_the_step) {
    Tensors tensors(3, 2);
    const std::vector<float> before = tensors.weights;
    DeferredRows rows(3, {0.9, 0.999, 1e-8, 0.0, false}, 0);
    const int64_t ids[] = {2, 1, 2};
    const float gradients[] = {1.0f, -1.0f, 5.0f, -5.0f, 1.0f, -1.0f};
    rows.update(tensors.view(), ids, gradients, 3, 0.5, 1);
    for (int64_t i = 0; i < 6; ++i) {
        const float expected = i < 2 ? 0.0f : i % 2 == 0 ? -0.5f : 0.5f;
        CHECK(std::fabs(tensors.weights[i] - before[i] - expected) < 1e-5f);
    }
    CHECK(std::fabs(tensors.first[4] - 0.2f) < 1e-6f);
}

// Steps that share a root, with a penalty: the numbers of a row that fill no register, a column without any gradient,
// and rows that are never touched, which die.
TEST(a_penalty_moves_rows_without_a_gradient) {
    constexpr int64_t kRows = 6, kDim = 11, kSteps = 900;
    Tensors tensors(kRows, kDim);
    for (int64_t row = 0; row < kRows; ++row) tensors.weights[row * kDim] = 0.0f;
    const std::vector<float> before = tensors.weights;
    std::vector<double> p(before.begin(), before.end()), m(p.size()), v(p.size());
    DeferredRows rows(kRows, {0.9, 0.999, 1e-8, 1e-5, false}, 0);
    for (int64_t step = 1; step <= kSteps; ++step) {
        const int64_t id = step * step % 3;
        float gradient[kDim] = {};
        for (int64_t i = 1; i < kDim; ++i) gradient[i] = 1e-3f * std::cos(static_cast<float>(step * i));
        if (step % 40 == 1) {
            rows.catch_up(tensors.view(), &id, 1, 1);
            rows.update(tensors.view(), &id, gradient, 1, 0.01, 1);
        } else {
            rows.update(tensors.view(), nullptr, nullptr, 0, 0.01, 1);
        }
        for (int64_t i = 0; i < kRows * kDim; ++i) {
            const bool touched = step % 40 == 1 && i / kDim == id;
            const double g = 1e-5 * p[i] + (touched ? gradient[i % kDim] : 0.0f);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            const double root = std::sqrt(v[i] / (1 - std::pow(0.999, step)));
            p[i] -= 0.01 / (1 - std::pow(0.9, step)) * m[i] / (root + 1e-8);
        }
    }
    rows.flush(tensors.view(), 1);
    for (int64_t i = 0; i < kRows * kDim; ++i) {
        CHECK(std::fabs(tensors.weights[i] - p[i]) < 1e-5);
        CHECK(i % kDim != 0 || tensors.weights[i] == 0.0f);
        CHECK(i / kDim < 3 || std::fabs(tensors.weights[i]) < 1e-3f);
    }
}

TEST(ids_out_of_range_change_nothing) {
    Tensors tensors(3, 2);
    DeferredRows rows(3, {0.9, 0.999, 1e-8, 0.0, false}, 0);
    const float gradients[4] = {};
    for (const int64_t bad : {int64_t{-1}, int64_t{3}}) {
        const int64_t ids[] = {0, bad};
        bool thrown = false;
        try {
            rows.update(tensors.view(), ids, gradients, 2, 0.5, 1);
        } catch (const std::out_of_range&) {
            thrown = true;
        }
        CHECK(thrown);
        CHECK(tensors == Tensors(3, 2));
    }
}
