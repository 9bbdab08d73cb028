// How a row moves along its gradient: the update rules, each with the semantics of the torch optimizer of its name.
//
// A rule counts the steps and knows the numbers that all rows share in a step: `take` goes on to the next one. Dense
// rules move rows without a gradient, too; they do it when the row is next read (`catch_up`) or swept. Gradients are
// functions of (lanes, offset) that return the floats there, with offset -1 for the bias.
#pragma once

#include <cmath>
#include <cstdint>

#include "owed_steps.h"

namespace spotfast {

struct RuleSettings {
    double learning_rate;
    AdamSettings adam;     // SparseAdam: without weight decay
    double momentum;       // SGD
    double eps, lr_decay;  // Adagrad
    int64_t steps;         // taken before
};

// Adam and AdamW.
class AdamRule {
  public:
    static constexpr bool kMovesOnZero = false;  // a zero gradient need not be seen: such a step can be owed as well

    explicit AdamRule(const RuleSettings& settings)
        : owed_(settings.adam, settings.steps), learning_rate_(settings.learning_rate) {}

    int64_t taken() const { return owed_.taken(); }
    bool full() const { return owed_.full(); }
    void restart() { owed_.restart(); }
    void take() { owed_.take(learning_rate_); }
    void catch_up(const RowView& row, int64_t last) const { owed_.catch_up(row, last); }
    RowRange to_sweep(int64_t rows) const { return owed_.to_sweep(rows); }
    int64_t sweep(const RowView& row, int64_t last) const { return owed_.sweep(row, last); }

    template <class Gradient>
    void update(const RowView& row, const Gradient& gradient) const {
        for_lanes(row, [&](auto lanes, float* weight, float* first, float* second, int64_t offset) {
            owed_.step(gradient(lanes, offset), weight, first, second);
        });
    }

  private:
    OwedSteps owed_;
    double learning_rate_;
};

// Of the rules that leave rows without a gradient alone.
class NothingOwed {
  public:
    explicit NothingOwed(int64_t base) : base_(base) {}
    int64_t taken() const { return taken_; }
    bool full() const { return taken_ >= INT32_MAX; }
    void restart() {
        base_ += taken_;
        taken_ = 0;
    }
    void catch_up(const RowView&, int64_t) const {}
    RowRange to_sweep(int64_t) const { return {0, 0}; }
    int64_t sweep(const RowView&, int64_t last) const { return last; }

  protected:
    int64_t count() { return base_ + ++taken_; }

  private:
    int64_t base_, taken_ = 0;
};

class SgdRule : public NothingOwed {
  public:
    static constexpr bool kMovesOnZero = false;

    explicit SgdRule(const RuleSettings& settings)
        : NothingOwed(settings.steps), learning_rate_(static_cast<float>(settings.learning_rate)) {}

    void take() { count(); }

    template <class Gradient>
    void update(const RowView& row, const Gradient& gradient) const {
        for_lanes(row, [&](auto lanes, float* weight, float*, float*, int64_t offset) {
            using V = decltype(lanes);
            subtract_product(V::load(weight), V::all(learning_rate_), gradient(lanes, offset)).store(weight);
        });
    }

  private:
    float learning_rate_;
};

// SGD with momentum. The steps that a row owes are a geometric series.
class MomentumRule : public NothingOwed {
  public:
    static constexpr bool kMovesOnZero = false;

    explicit MomentumRule(const RuleSettings& settings)
        : NothingOwed(settings.steps),
          learning_rate_(static_cast<float>(settings.learning_rate)),
          momentum_(static_cast<float>(settings.momentum)),
          ratio_(settings.momentum) {}

    void take() { count(); }

    void catch_up(const RowView& row, int64_t last) const {
        if (last >= taken()) return;
        const double left = std::pow(ratio_, static_cast<double>(taken() - last));
        // For a momentum of 1, every missed step is as large as the last one.
        const double sum = ratio_ == 1 ? static_cast<double>(taken() - last) : ratio_ * (1 - left) / (1 - ratio_);
        const float size = static_cast<float>(learning_rate_ * sum), decay = static_cast<float>(left);
        for_lanes(row, [&](auto lanes, float* weight, float* first, float*, int64_t) {
            using V = decltype(lanes);
            const V buffer = V::load(first);
            subtract_product(V::load(weight), V::all(size), buffer).store(weight);
            zero_below(buffer * V::all(decay), V::all(OwedSteps::kNegligible)).store(first);
        });
    }

    template <class Gradient>
    void update(const RowView& row, const Gradient& gradient) const {
        for_lanes(row, [&](auto lanes, float* weight, float* first, float*, int64_t offset) {
            using V = decltype(lanes);
            const V buffer = multiply_add(V::all(momentum_), V::load(first), gradient(lanes, offset));
            subtract_product(V::load(weight), V::all(learning_rate_), buffer).store(weight);
            buffer.store(first);
        });
    }

  private:
    float learning_rate_, momentum_;
    double ratio_;
};

// Step sizes of Adagrad, whose learning rate may decay.
class AdagradSteps : public NothingOwed {
  public:
    explicit AdagradSteps(const RuleSettings& settings)
        : NothingOwed(settings.steps),
          learning_rate_(settings.learning_rate),
          decay_(settings.lr_decay),
          eps_(static_cast<float>(settings.eps)) {}

    void take() {
        const auto step = static_cast<double>(count());
        size_ = static_cast<float>(learning_rate_ / (1 + (step - 1) * decay_));
    }

  protected:
    template <class V>
    void move(float* weight, V gradient, V sum) const {
        (V::load(weight) - V::all(size_) * gradient / (square_root(sum) + V::all(eps_))).store(weight);
    }

  private:
    double learning_rate_, decay_;
    float eps_, size_ = 0.0f;
};

class AdagradRule : public AdagradSteps {
  public:
    static constexpr bool kMovesOnZero = false;
    using AdagradSteps::AdagradSteps;

    template <class Gradient>
    void update(const RowView& row, const Gradient& gradient) const {
        for_lanes(row, [&](auto lanes, float* weight, float* first, float*, int64_t offset) {
            using V = decltype(lanes);
            const V g = gradient(lanes, offset), sum = multiply_add(g, g, V::load(first));
            sum.store(first);
            move(weight, g, sum);
        });
    }
};

// Adagrad with one sum per row: of the mean of its squared gradients.
class RowwiseAdagradRule : public AdagradSteps {
  public:
    static constexpr bool kMovesOnZero = false;

    RowwiseAdagradRule(const RuleSettings& settings, int64_t dim)
        : AdagradSteps(settings), share_(1.0f / static_cast<float>(dim)) {}

    template <class Gradient>
    void update(const RowView& row, const Gradient& gradient) const {
        Lanes squares = Lanes::all(0.0f);  // of the weights; padded rows have no lanes left over
        for (int64_t i = 0; i < row.width; i += Lanes::kSize) {
            const Lanes g = gradient(Lanes{}, i);
            squares = multiply_add(g, g, squares);
        }
        const float bias_gradient = gradient(Single{}, int64_t{-1}).value;
        *row.first += squares.sum() * share_;
        *row.bias_first += bias_gradient * bias_gradient;
        for_lanes(row, [&](auto lanes, float* weight, float*, float*, int64_t offset) {
            using V = decltype(lanes);
            move(weight, gradient(lanes, offset), V::all(offset < 0 ? *row.bias_first : *row.first));
        });
    }

  private:
    float share_;
};

// Adam that leaves rows without a gradient alone; a zero gradient is one.
class SparseAdamRule : public NothingOwed {
  public:
    static constexpr bool kMovesOnZero = true;

    explicit SparseAdamRule(const RuleSettings& settings) : NothingOwed(settings.steps), settings_(settings) {}

    void take() {
        const auto step = static_cast<double>(count());
        const AdamSettings& adam = settings_.adam;
        size_ = static_cast<float>(settings_.learning_rate * std::sqrt(1 - std::pow(adam.beta2, step)) /
                                   (1 - std::pow(adam.beta1, step)));
    }

    template <class Gradient>
    void update(const RowView& row, const Gradient& gradient) const {
        const auto rest1 = static_cast<float>(1 - settings_.adam.beta1);
        const auto rest2 = static_cast<float>(1 - settings_.adam.beta2);
        const auto eps = static_cast<float>(settings_.adam.eps);
        for_lanes(row, [&](auto lanes, float* weight, float* first, float* second, int64_t offset) {
            using V = decltype(lanes);
            const V g = gradient(lanes, offset);
            const V m = multiply_add(V::all(rest1), g - V::load(first), V::load(first));
            const V v = multiply_add(V::all(rest2), g * g - V::load(second), V::load(second));
            (V::load(weight) - V::all(size_) * m / (square_root(v) + V::all(eps))).store(weight);
            m.store(first);
            v.store(second);
        });
    }

  private:
    RuleSettings settings_;
    float size_ = 0.0f;
};

enum class RuleKind { adam, sparse_adam, sgd, momentum, adagrad, rowwise_adagrad };

// Calls run(rule) with the update rule of that kind, for tables of `dim` columns.
template <class Run>
auto with_rule(RuleKind kind, const RuleSettings& settings, int64_t dim, const Run& run) {
    switch (kind) {
        case RuleKind::sparse_adam:
            return run(SparseAdamRule(settings));
        case RuleKind::sgd:
            return run(SgdRule(settings));
        case RuleKind::momentum:
            return run(MomentumRule(settings));
        case RuleKind::adagrad:
            return run(AdagradRule(settings));
        case RuleKind::rowwise_adagrad:
            return run(RowwiseAdagradRule(settings, dim));
        case RuleKind::adam:
            break;
    }
    return run(AdamRule(settings));
}

}  // namespace spotfast
