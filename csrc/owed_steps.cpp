#include "owed_steps.h"

#include <algorithm>
#include <cmath>

namespace spotfast {

namespace {

constexpr double kSettled = 1e-11;       // what r^kWindow and q^kWindow must be below for the closed form
constexpr double kGone = 5e-8;           // what is left of a step's size, r^j, when a replay ends
constexpr double kTiny = 1e-38;          // what is left of a first moment, b1^j, when it is nothing
constexpr double kFaded = 0.0161;        // how much v may fade in a stretch: 16 steps at the default betas
constexpr int64_t kLeastStretch = 4;     // steps that are worth the preparation of a stretch
constexpr int64_t kSteady = 128;         // steps before that one are not shared: their eps grows too fast
constexpr float kSmall = 1.0f / 64;      // times kFaded: what is left out of v, 3e-4 at most
constexpr float kLeastPenalty = 1e-30f;  // what it pushes by, and the inverse, are ordinary floats
constexpr float kFinite = 3e38f;
constexpr float kNotZero = 1e-30f;  // beside any v of a number that moves; for those that do not, v may be 0
constexpr float kDead = 1e-15f;     // weights that have decayed to that do not move any more

// How often `ratio` must be multiplied with itself to fall below `limit`.
int64_t steps_until(double limit, double ratio, int64_t most) {
    if (ratio >= 1) return most;
    return std::clamp<int64_t>(static_cast<int64_t>(std::ceil(std::log(limit) / std::log(std::max(ratio, 1e-9)))), 1,
                               most);
}

}  // namespace

Powers::Powers(double base) : low_(kLow), high_(kHigh) {
    double power = 1.0;
    for (auto& entry : low_) {
        entry = power;
        power *= base;
    }
    const double factor = power;
    power = 1.0;
    for (auto& entry : high_) {
        entry = power;
        power *= factor;
    }
}

OwedSteps::OwedSteps(const AdamSettings& settings, int64_t base)
    : settings_(settings),
      beta1_(static_cast<float>(settings.beta1)),
      beta2_(static_cast<float>(settings.beta2)),
      rest1_(static_cast<float>(1 - settings.beta1)),
      rest2_(static_cast<float>(1 - settings.beta2)),
      penalty_(settings.decoupled ? 0.0f : static_cast<float>(settings.weight_decay)),
      base_(base),
      powers1_(settings.beta1),
      powers2_(settings.beta2) {
    const double beta2 = std::max(settings.beta2, 1e-300);
    const double r = settings.beta1 / std::sqrt(beta2), q = settings.beta1 / beta2;
    closed_form_ = std::pow(std::max(r, q), kWindow) < kSettled && penalty_ == 0.0f;
    replayed_ = penalty_ != 0.0f ? kMost
                : r < 0.999      ? steps_until(kGone, r, kMost)
                                 : steps_until(kTiny, settings.beta1, kMost);
    if (closed_form_) {
        for (int64_t age = kWindow; age > 0; --age) {
            r_powers_.push_back(std::pow(r, age));
            q_powers_.push_back(std::pow(q, age));
        }
        for (int64_t j = 0; j <= std::min(replayed_, kWindow); ++j) {
            early_sizes_.push_back(static_cast<float>(std::pow(r, j)));
            early_eps_.push_back(static_cast<float>(std::pow(beta2, -0.5 * j)));
        }
    }
    if (penalty_ > kLeastPenalty) {
        const auto longest = static_cast<int64_t>(kFaded / std::max(1 - beta2, 1e-9));
        shares_roots_ = longest >= kLeastStretch;
        if (shares_roots_) stretch_ = std::min<int64_t>(longest, kLongStretch);
        for (int64_t j = -kLongStretch; j <= kLongStretch + 1; ++j) {
            quarters_.push_back(static_cast<float>(std::pow(beta2, 0.25 * static_cast<double>(j))));
        }
    }
    restart();
}

void OwedSteps::restart() {
    base_ += taken_;
    taken_ = 0;
    shrunk_ = 1.0;
    steps_.assign(1, {});
    owed_.assign(1, {});
    shrunk_at_.assign(1, 1.0);
}

void OwedSteps::make_room() {
    const auto make_room_in = [](auto& entries) {
        if (entries.size() == entries.capacity()) entries.reserve(2 * entries.size());
    };
    make_room_in(steps_);
    make_room_in(owed_);
    make_room_in(shrunk_at_);
}

void OwedSteps::take(double learning_rate) {
    const double step = static_cast<double>(base_ + ++taken_);
    const double correction1 = 1 - std::pow(settings_.beta1, step), correction2 = 1 - std::pow(settings_.beta2, step);
    const double size = learning_rate * std::sqrt(correction2) / correction1;
    const double shrink = settings_.decoupled ? 1 - learning_rate * settings_.weight_decay : 1.0;
    now_ = {static_cast<float>(size), static_cast<float>(settings_.eps * std::sqrt(correction2)),
            static_cast<float>(shrink)};
    steps_.push_back(now_);
    fastest_ = std::max(fastest_, learning_rate);
    if (settings_.decoupled) shrunk_at_.push_back(shrunk_ *= shrink);
    if (!closed_form_) return;
    // With decoupled weight decay, what a step owes shrinks at all later ones: A and B are kept divided by what the
    // rows have shrunk by so far, and multiplied by it when they are paid.
    const double a = size / shrunk_, b = learning_rate * correction2 / correction1 / shrunk_;
    const int64_t first = std::max<int64_t>(0, taken_ - kWindow), count = taken_ - first;
    const double *r = r_powers_.data() + kWindow - count, *q = q_powers_.data() + kWindow - count;
    Owed* owed = owed_.data() + first;
    for (int64_t i = 0; i < count; ++i) {
        owed[i].a += a * r[i];
        owed[i].b += b * q[i];
    }
    owed_.push_back({});
}

void OwedSteps::catch_up(const RowView& row, int64_t last) const {
    if (last >= taken_) return;
    const bool untouched = base_ + last == 0 && penalty_ == 0.0f;  // its moments are zero
    if (untouched && !settings_.decoupled) return;
    if (closed_form_ && (untouched || base_ + last >= kEarly)) return pay(row, last);
    if (closed_form_ && !settings_.decoupled) return replay_early(row, last);
    replay(row, last, taken_);
}

RowRange OwedSteps::to_sweep(int64_t rows) const {
    if (penalty_ == 0.0f) return {0, 0};
    const int64_t part = taken_ % kSweep;
    return {rows * part / kSweep, rows * (part + 1) / kSweep};
}

int64_t OwedSteps::sweep(const RowView& row, int64_t last) const {
    const int64_t until = taken_ - (taken_ - last) % stretch_;
    if (last < until) replay(row, last, until);
    return until;
}

// In closed form.
void OwedSteps::pay(const RowView& row, int64_t last) const {
    const double a = owed_[last].a * shrunk_;
    // A is zero where the learning rate was.
    const float size = static_cast<float>(a),
                eps = static_cast<float>(a > 0 ? settings_.eps * owed_[last].b * shrunk_ / a : settings_.eps);
    const float shrink = settings_.decoupled ? static_cast<float>(shrunk_ / shrunk_at_[last]) : 1.0f;
    const float decay1 = powers1_.at(taken_ - last), decay2 = powers2_.at(taken_ - last);
    for_lanes(row, [&](auto lanes, float* weight, float* first, float* second, int64_t) {
        using V = decltype(lanes);
        const V m = V::load(first), v = V::load(second);
        V p = V::load(weight);
        if (settings_.decoupled) p = p * V::all(shrink);
        (p - V::all(size) * m / (square_root(v) + V::all(eps))).store(weight);
        zero_below(m * V::all(decay1), V::all(kNegligible)).store(first);
        zero_below(v * V::all(decay2), V::all(kVanished)).store(second);
    });
}

// One by one, without a penalty: sqrt(v b2^j) is sqrt(v) times a number that is the same for all, so that a step costs
// a division.
void OwedSteps::replay_early(const RowView& row, int64_t last) const {
    const int64_t missed = taken_ - last, count = std::min(missed, replayed_);
    float sizes[kWindow + 1], eps[kWindow + 1];
    for (int64_t j = 1; j <= count; ++j) {
        sizes[j] = steps_[last + j].size * early_sizes_[j];
        eps[j] = steps_[last + j].eps * early_eps_[j];
    }
    const float decay1 = powers1_.at(missed), decay2 = powers2_.at(missed);
    for_lanes(row, [&](auto lanes, float* weight, float* first, float* second, int64_t) {
        using V = decltype(lanes);
        const V m = V::load(first), v = V::load(second), root = square_root(v);
        V owed = V::all(0.0f);
        for (int64_t j = 1; j <= count; ++j) owed = owed + V::all(sizes[j]) / (root + V::all(eps[j]));
        subtract_product(V::load(weight), m, owed).store(weight);
        zero_below(m * V::all(decay1), V::all(kNegligible)).store(first);
        zero_below(v * V::all(decay2), V::all(kVanished)).store(second);
    });
}

// One by one or, with a penalty, some together; any settings. The numbers of a row and its bias go side by side through
// a few registers: a step waits for the one before it, and a bias on its own would take as long as all of them.
void OwedSteps::replay(const RowView& row, int64_t last, int64_t until) const {
    constexpr int64_t kBlock = kTogether * Lanes::kSize;
    const int64_t total = row.width + (row.bias != nullptr);
    for (int64_t begin = 0; begin < total; begin += kBlock) {
        const int64_t count = std::min(kBlock, total - begin), of_row = std::min(count, row.width - begin);
        float weights[kBlock] = {}, first[kBlock] = {}, second[kBlock];
        std::fill_n(second, kBlock, 1.0f);  // where there is no number, nothing moves, and nothing is special
        std::copy_n(row.weights + begin, of_row, weights);
        std::copy_n(row.first + begin, of_row, first);
        std::copy_n(row.second + begin, of_row, second);
        if (of_row < count) {
            weights[of_row] = *row.bias;
            first[of_row] = *row.bias_first;
            second[of_row] = *row.bias_second;
        }
        replay_block<kTogether>(weights, first, second, (count + Lanes::kSize - 1) / Lanes::kSize, last, until);
        std::copy_n(weights, of_row, row.weights + begin);
        std::copy_n(first, of_row, row.first + begin);
        std::copy_n(second, of_row, row.second + begin);
        if (of_row < count) {
            *row.bias = weights[of_row];
            *row.bias_first = first[of_row];
            *row.bias_second = second[of_row];
        }
    }
}

// As many registers as there are numbers for.
template <int kRegisters>
void OwedSteps::replay_block(float* weights, float* first, float* second, int64_t registers, int64_t last,
                             int64_t until) const {
    if constexpr (kRegisters > 1) {
        if (registers < kRegisters) return replay_block<kRegisters - 1>(weights, first, second, registers, last, until);
    }
    using V = Lanes;
    const int64_t missed = until - last;
    const Step* steps = steps_.data() + last + 1;
    Numbers<kRegisters> numbers;
    for (int k = 0; k < kRegisters; ++k) {
        numbers.p[k] = V::load(weights + k * V::kSize);
        numbers.m[k] = V::load(first + k * V::kSize);
        numbers.v[k] = V::load(second + k * V::kSize);
    }
    int64_t done = 0;
    for (int64_t count = std::min(missed, replayed_); done < count && !is_dead(numbers);) {
        const int64_t some = std::min(stretch_, count - done);
        const bool alike = shares_roots_ && some >= kLeastStretch && base_ + last + done >= kSteady;
        if (!alike || !replay_stretch(steps + done, some, numbers)) {
            for (int64_t j = 0; j < some; ++j) replay_one(steps[done + j], numbers);
        }
        done += some;
    }
    const V shrink =
        V::all(settings_.decoupled ? static_cast<float>(shrunk_at_[until] / shrunk_at_[last + done]) : 1.0f);
    const V decay1 = V::all(powers1_.at(missed - done)), decay2 = V::all(powers2_.at(missed - done));
    for (int k = 0; k < kRegisters; ++k) {
        (numbers.p[k] * shrink).store(weights + k * V::kSize);
        zero_below(numbers.m[k] * decay1, V::all(kNegligible)).store(first + k * V::kSize);
        zero_below(numbers.v[k] * decay2, V::all(kVanished)).store(second + k * V::kSize);
    }
}

// Whether the penalty has brought all weights to nothing, for good. Where v is nothing, too, a step is
// p -= lr m / eps, which swings up for lr l2 / eps >= 2 (1 + b1) / (1 - b1): 38 at the default betas.
template <int kRegisters>
bool OwedSteps::is_dead(const Numbers<kRegisters>& numbers) const {
    const double pull = fastest_ * settings_.weight_decay * (1 - settings_.beta1);
    if (penalty_ == 0.0f || pull >= 2 * (1 + settings_.beta1) * settings_.eps) return false;
    const Lanes moving = Lanes::all(kDead), pushed = Lanes::all(kDead * static_cast<float>(settings_.eps));
    for (int k = 0; k < kRegisters; ++k) {
        if (!all_at_most(magnitude(numbers.p[k]), moving) || !all_at_most(magnitude(numbers.m[k]), pushed))
            return false;
    }
    return true;
}

template <int kRegisters>
void OwedSteps::replay_one(const Step& step, Numbers<kRegisters>& numbers) const {
    using V = Lanes;
    const V beta1 = V::all(beta1_), beta2 = V::all(beta2_);
    const V rest1 = V::all(rest1_), rest2 = V::all(rest2_), penalty = V::all(penalty_);
    const V size = V::all(step.size), eps = V::all(step.eps), shrink = V::all(step.shrink);
    for (int k = 0; k < kRegisters; ++k) {
        V &p = numbers.p[k], &m = numbers.m[k], &v = numbers.v[k];
        const V gradient = penalty * p;
        m = multiply_add(beta1, m, rest1 * gradient);
        v = multiply_add(beta2, v, rest2 * gradient * gradient);
        p = p * shrink - size * m / (square_root(v) + eps);
    }
}

// Takes `count` steps with a root and a division for all of them: sqrt(v) + eps in the middle. By the i-th step, v
// fades by b2^i, but for the penalty's part P = (l2 p)^2, which is what it fades to, and eps has its own bias
// correction; so that to first order, with f_i = b2^((middle - i) / 2) - 1 and d = sqrt(v_middle) + eps_middle,
//
//     1 / (sqrt(v_i) + eps_i) = (1 + f_i w + (eps_middle - eps_i) / d) / d,   w = (1 - P / v_middle) sqrt(v_middle) / d
//
// Returns whether P can be taken for a constant: it changes by at most kSmall of v. If not, nothing has changed.
template <int kRegisters>
bool OwedSteps::replay_stretch(const Step* steps, int64_t count, Numbers<kRegisters>& numbers) const {
    using V = Lanes;
    const float* quarters = quarters_.data() + kLongStretch;
    const float middle_eps = steps[count / 2].eps;
    const float fading = quarters[count + 1] * quarters[count + 1];  // of v, until the middle
    const float faded = powers2_.at(count), push = rest1_ * penalty_;
    float sizes[kLongStretch], fades[kLongStretch], epsilons[kLongStretch], largest = 0.0f;
    for (int64_t i = 0; i < count; ++i) {
        largest = std::max(largest, steps[i].size);
        sizes[i] = steps[i].size * push;
        fades[i] = sizes[i] * (quarters[count - 1 - 2 * i] - 1.0f);
        epsilons[i] = sizes[i] * (middle_eps - steps[i].eps);
    }
    const V squared = V::all(penalty_ * penalty_), most = V::all(largest * push * static_cast<float>(count));
    // Moments are counted in units of what the penalty pushes a weight of 1 by.
    V inverse[kRegisters], pushed[kRegisters], weight[kRegisters], squares[kRegisters];
    for (int k = 0; k < kRegisters; ++k) {
        const V p = numbers.p[k], v = numbers.v[k];
        squares[k] = V::all(0.0f);
        const V of_penalty = squared * p * p;
        const V v_middle = multiply_add(V::all(fading), v, V::all(1.0f - fading) * of_penalty);
        const V root = square_root(v_middle), denominator = root + V::all(middle_eps);
        inverse[k] = V::all(1.0f) / denominator;
        pushed[k] = numbers.m[k] * V::all(1.0f / push);
        const V reach =
            most * inverse[k] * multiply_add(V::all(static_cast<float>(count)), magnitude(p), magnitude(pushed[k]));
        const bool constant = all_at_most(squared * reach * (magnitude(p) + magnitude(p) + reach), V::all(kSmall) * v);
        if (!constant || !all_at_most(v_middle, V::all(kFinite))) return false;
        weight[k] = (v_middle - of_penalty) / (root * denominator + V::all(kNotZero));
    }
    const V beta1 = V::all(beta1_);
    for (int64_t i = 0; i < count; ++i) {
        const V size = V::all(sizes[i]), fade = V::all(fades[i]), eps = V::all(epsilons[i]);
        for (int k = 0; k < kRegisters; ++k) {
            squares[k] = multiply_add(numbers.p[k], numbers.p[k], squares[k]);
            pushed[k] = multiply_add(beta1, pushed[k], numbers.p[k]);
            const V scaled = multiply_add(eps, inverse[k], multiply_add(fade, weight[k], size));
            numbers.p[k] = subtract_product(numbers.p[k], scaled * inverse[k], pushed[k]);
        }
    }
    const V mean = squared * V::all((1.0f - faded) / static_cast<float>(count));
    for (int k = 0; k < kRegisters; ++k) {
        numbers.m[k] = pushed[k] * V::all(push);
        numbers.v[k] = multiply_add(V::all(faded), numbers.v[k], mean * squares[k]);
    }
    return true;
}

}  // namespace spotfast
