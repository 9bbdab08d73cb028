// What rows owe to dense Adam for the steps that they were not part of, and how they pay it.
//
// A row last updated at step s that is read again after K steps without a gradient owes, elementwise,
//
//     p -= A[s] m / (sqrt(v) + eps B[s] / A[s]),   m *= b1^K,   v *= b2^K
//     A[s] = sum over t > s of lr[t] r^(t-s) sqrt(1 - b2^t) / (1 - b1^t),   r = b1 / sqrt(b2)
//     B[s] = sum over t > s of lr[t] q^(t-s)     (1 - b2^t) / (1 - b1^t),   q = b1 / b2
//
// to first order in eps. Rows last updated before step kEarly, where first order does not do, take their steps one by
// one; with an L2 penalty there is no closed form, and all do, some steps together (`replay_stretch`). Then rows that
// nobody reads are swept, too, so that what all of them owe at the end is soon paid.
// `spotfast/reference/row_update.py` says the same in Python. Decoupled weight decay (AdamW) shrinks a row by a factor
// per step, which the closed form carries along.
#pragma once

#include <cstdint>
#include <vector>

#include "lanes.h"

namespace spotfast {

// A row of a table and its state, `width` floats each, and what belongs to its bias: one float each, or null.
struct RowView {
    float *weights, *first, *second;
    int64_t width;
    float *bias, *bias_first, *bias_second;
};

// Calls visit(lanes, weights, first, second, offset) for a row, several floats at a time; `lanes` tells the type. The
// offset is -1 for the bias.
template <class Visit>
inline void for_lanes(const RowView& row, const Visit& visit) {
    int64_t i = 0;
    for (; i + Lanes::kSize <= row.width; i += Lanes::kSize) {
        visit(Lanes{}, row.weights + i, row.first + i, row.second + i, i);
    }
    for (; i < row.width; ++i) visit(Single{}, row.weights + i, row.first + i, row.second + i, i);
    if (row.bias != nullptr) visit(Single{}, row.bias, row.bias_first, row.bias_second, int64_t{-1});
}

struct RowRange {
    int64_t begin, end;
};

struct AdamSettings {
    double beta1, beta2, eps;
    double weight_decay;  // an L2 penalty, or, decoupled, a factor 1 - lr * weight_decay per step
    bool decoupled;
};

// beta^k for any k >= 0, from two small tables.
class Powers {
  public:
    explicit Powers(double base);
    float at(uint64_t k) const {
        return k < kHigh * kLow ? static_cast<float>(high_[k / kLow] * low_[k % kLow]) : 0.0f;
    }

  private:
    static constexpr uint64_t kLow = 256, kHigh = 4096;
    std::vector<double> low_, high_;
};

// The steps since all rows were last up to date. Step numbers are counted from there; `base` steps were taken before.
class OwedSteps {
  public:
    static constexpr int64_t kEarly = 512;        // rows last updated before this step are replayed
    static constexpr int64_t kWindow = 256;       // steps after which A[s] and B[s] no longer change
    static constexpr int64_t kMost = 1 << 20;     // steps that can be owed: then all rows must be caught up
    static constexpr int64_t kSweep = 512;        // with a penalty, steps in which every row is swept once
    static constexpr int64_t kLongStretch = 16;   // steps that share a root and a division, at most
    static constexpr float kNegligible = 1e-20f;  // smaller first moments are set to zero: denormals are slow
    static constexpr float kVanished = 1e-36f;    // and so are smaller second moments

    OwedSteps(const AdamSettings& settings, int64_t base);

    int64_t taken() const { return taken_; }
    // Whether all rows should be caught up, and `restart` be called.
    bool full() const { return taken_ >= kMost || shrunk_ < 1e-200; }
    // Every row is up to date: nothing is owed.
    void restart();

    // Allocates what the next step needs.
    void make_room();
    // A step is taken with this learning rate; then `step` applies to the rows with a gradient.
    void take(double learning_rate);

    // Takes the steps that a row owes since `last`, its last one.
    void catch_up(const RowView& row, int64_t last) const;

    // The rows of a table that are to be swept before the next step: with a penalty, one after the other of kSweep
    // equal parts of the table; none without.
    RowRange to_sweep(int64_t rows) const;
    // Takes as many of the steps that a row owes as fill whole stretches: in the stretches, hence, while it lives, with
    // the bits, of a row that is not swept. Returns the last step that the row has taken; it owes fewer than
    // kLongStretch.
    int64_t sweep(const RowView& row, int64_t last) const;

    // Takes the current step with a gradient, for some floats of a row that is up to date but for it.
    template <class V>
    void step(V gradient, float* weight, float* first, float* second) const {
        V p = V::load(weight);
        if (penalty_ != 0.0f) gradient = multiply_add(V::all(penalty_), p, gradient);
        const V m = multiply_add(V::all(beta1_), V::load(first), V::all(rest1_) * gradient);
        const V v = multiply_add(V::all(beta2_), V::load(second), V::all(rest2_) * gradient * gradient);
        if (settings_.decoupled) p = p * V::all(now_.shrink);
        p = p - V::all(now_.size) * m / (square_root(v) + V::all(now_.eps));
        p.store(weight);
        zero_below(m, V::all(kNegligible)).store(first);
        v.store(second);
    }

  private:
    // Step t moves a row by size * m / (sqrt(v) + eps), with the bias corrections in both.
    struct Step {
        float size, eps, shrink;
    };
    struct Owed {
        double a, b;
    };

    // Numbers of a row that are replayed side by side.
    template <int kRegisters>
    struct Numbers {
        Lanes p[kRegisters], m[kRegisters], v[kRegisters];
    };

    static constexpr int kTogether = 5;  // registers of them: 32 and a bias in AVX2

    void pay(const RowView& row, int64_t last) const;
    void replay_early(const RowView& row, int64_t last) const;
    void replay(const RowView& row, int64_t last, int64_t until) const;
    template <int kRegisters>
    void replay_block(float* weights, float* first, float* second, int64_t registers, int64_t last,
                      int64_t until) const;
    template <int kRegisters>
    bool is_dead(const Numbers<kRegisters>& numbers) const;
    template <int kRegisters>
    void replay_one(const Step& step, Numbers<kRegisters>& numbers) const;
    template <int kRegisters>
    bool replay_stretch(const Step* steps, int64_t count, Numbers<kRegisters>& numbers) const;

    AdamSettings settings_;
    float beta1_, beta2_, rest1_, rest2_, penalty_;  // rest: 1 - beta, rounded once
    int64_t base_, taken_ = 0;
    bool closed_form_;
    int64_t replayed_;  // missed steps that move a row; later ones are too small to
    bool shares_roots_ = false;
    int64_t stretch_ = kLongStretch;  // steps that are replayed together, and may share a root and a division
    double fastest_ = 0;              // the highest learning rate so far
    double shrunk_ = 1.0;             // the product of the factors of decoupled weight decay
    Step now_{};
    std::vector<Step> steps_;                     // by step, from 1
    std::vector<Owed> owed_;                      // by the step of the last update
    std::vector<double> shrunk_at_;               // likewise, decoupled only
    std::vector<double> r_powers_, q_powers_;     // r^kWindow .. r^1
    std::vector<float> early_sizes_, early_eps_;  // r^j and b2^(-j/2)
    std::vector<float> quarters_;                 // b2^(j/4), from j = -kLongStretch to kLongStretch + 1
    Powers powers1_, powers2_;
};

}  // namespace spotfast
