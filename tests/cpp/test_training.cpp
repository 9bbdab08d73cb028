#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "factorization_epoch.h"
#include "owed_steps.h"
#include "row_blocks.h"
#include "team.h"
#include "thread_choice.h"

using namespace spotfast;

namespace {

constexpr AdamSettings kAdam{0.9, 0.999, 1e-8, 0.0, false};
constexpr AdamSettings kAdamW{0.9, 0.999, 1e-8, 0.1, true};
constexpr AdamSettings kAdamWithPenalty{0.9, 0.999, 1e-8, 1e-3, false};

// Adam as torch has it, in double: every step moves every number.
struct DenseAdam {
    AdamSettings settings;
    std::vector<double> p, m, v;

    void step(int64_t t, double learning_rate, const std::vector<double>& gradients) {
        const double correction1 = 1 - std::pow(settings.beta1, t), correction2 = 1 - std::pow(settings.beta2, t);
        for (size_t i = 0; i < p.size(); ++i) {
            double g = gradients[i];
            if (settings.decoupled) {
                p[i] *= 1 - learning_rate * settings.weight_decay;
            } else {
                g += settings.weight_decay * p[i];
            }
            m[i] = settings.beta1 * m[i] + (1 - settings.beta1) * g;
            v[i] = settings.beta2 * v[i] + (1 - settings.beta2) * g * g;
            p[i] -= learning_rate / correction1 * m[i] / (std::sqrt(v[i] / correction2) + settings.eps);
        }
    }
};

// The same with deferred steps. Rows are of an odd width, and have a bias.
class DeferredAdam {
  public:
    static constexpr int64_t kWidth = 11;  // registers side by side, single floats, the bias

    DeferredAdam(const AdamSettings& settings, int64_t rows, const std::vector<double>& start)
        : owed_(settings, 0), last_(rows), p_(start.begin(), start.end()), m_(start.size()), v_(start.size()) {}

    void step(double learning_rate, const std::vector<int64_t>& rows, const std::vector<double>& gradients) {
        for (const int64_t row : rows) catch_up(row);
        owed_.take(learning_rate);
        for (const int64_t row : rows) {
            for_lanes(view(row), [&](auto lanes, float* weight, float* first, float* second, int64_t offset) {
                using V = decltype(lanes);
                float gradient[V::kSize];
                const int64_t from = row * (kWidth + 1) + (offset < 0 ? kWidth : offset);
                for (int i = 0; i < V::kSize; ++i) gradient[i] = static_cast<float>(gradients[from + i]);
                owed_.step(V::load(gradient), weight, first, second);
            });
            last_[row] = owed_.taken();
        }
    }

    void catch_up_all() {
        for (size_t row = 0; row < last_.size(); ++row) catch_up(static_cast<int64_t>(row));
    }
    void restart() {
        catch_up_all();
        owed_.restart();
        std::fill(last_.begin(), last_.end(), 0);
    }

    double largest_difference(const std::vector<double>& expected) const {
        double largest = 0;
        for (size_t i = 0; i < p_.size(); ++i) largest = std::max(largest, std::fabs(p_[i] - expected[i]));
        return largest;
    }

  private:
    void catch_up(int64_t row) {
        owed_.catch_up(view(row), last_[row]);
        last_[row] = owed_.taken();
    }
    RowView view(int64_t row) {
        const int64_t from = row * (kWidth + 1), bias = from + kWidth;
        return {&p_[from], &m_[from], &v_[from], kWidth, &p_[bias], &m_[bias], &v_[bias]};
    }

    OwedSteps owed_;
    std::vector<int64_t> last_;
    std::vector<float> p_, m_, v_;
};

// The largest difference to dense Adam after many steps: some rows in most of them, many hardly ever.
double largest_difference(const AdamSettings& settings, double gradient_scale, bool restarts) {
    constexpr int64_t kRows = 300, kSteps = 2000, kTouched = 4, kNumbers = kRows * (DeferredAdam::kWidth + 1);
    std::mt19937_64 random(7);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    std::vector<double> start(kNumbers);
    for (auto& x : start) x = static_cast<float>(normal(random) / DeferredAdam::kWidth);
    DenseAdam dense{settings, start, std::vector<double>(kNumbers), std::vector<double>(kNumbers)};
    DeferredAdam deferred(settings, kRows, start);
    for (int64_t step = 1; step <= kSteps; ++step) {
        std::vector<int64_t> rows;
        std::vector<double> gradients(kNumbers);
        for (int64_t i = 0; i < kTouched; ++i) {
            const auto row = static_cast<int64_t>(kRows * std::pow(uniform(random), 3));
            if (std::find(rows.begin(), rows.end(), row) == rows.end()) rows.push_back(row);
        }
        for (const int64_t row : rows) {
            for (int64_t i = 0; i <= DeferredAdam::kWidth; ++i) {
                gradients[row * (DeferredAdam::kWidth + 1) + i] = static_cast<float>(normal(random) * gradient_scale);
            }
        }
        const double learning_rate = 1e-2 * (0.55 + 0.45 * std::cos(3.14159265358979 * step / kSteps));
        dense.step(step, learning_rate, gradients);
        deferred.step(learning_rate, rows, gradients);
        if (restarts && step % 700 == 300) deferred.restart();
    }
    deferred.catch_up_all();
    return deferred.largest_difference(dense.p);
}

constexpr int64_t kUserCount = 300, kItemCount = 120, kDim = 19, kCount = 7001;

struct Table {
    std::vector<float> weights, first, second, bias, bias_first, bias_second;
    int64_t rows, state_dim;

    Table(int64_t row_count, RuleKind rule, unsigned seed)
        : rows(row_count), state_dim(rule == RuleKind::rowwise_adagrad ? 1 : kDim) {
        std::mt19937 random(seed);
        std::normal_distribution<float> normal(0.0f, 0.5f);
        weights.resize(rows * kDim);
        bias.resize(rows);
        for (auto* numbers : {&weights, &bias}) {
            for (auto& x : *numbers) x = normal(random);
        }
        if (rule != RuleKind::sgd) first.resize(rows * state_dim), bias_first.resize(rows);
        if (rule == RuleKind::adam || rule == RuleKind::sparse_adam) {
            second.resize(rows * state_dim), bias_second.resize(rows);
        }
    }

    TableView view() {
        const auto data = [](std::vector<float>& numbers) { return numbers.empty() ? nullptr : numbers.data(); };
        return {weights.data(),
                data(first),
                data(second),
                bias.data(),
                data(bias_first),
                data(bias_second),
                rows,
                kDim,
                first.empty() ? 0 : state_dim};
    }

    bool operator==(const Table& other) const {
        const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
            return a.size() == b.size() &&
                   (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
        };
        return same(weights, other.weights) && same(first, other.first) && same(second, other.second) &&
               same(bias, other.bias) && same(bias_first, other.bias_first) && same(bias_second, other.bias_second);
    }
};

struct Trained {
    Table users, items;
    EpochResult result;
};

RuleSettings rule_settings(RuleKind rule, const AdamSettings& adam) {
    return {0.01, adam, 0.9, rule == RuleKind::adagrad || rule == RuleKind::rowwise_adagrad ? 1e-10 : 1e-8, 1e-3, 0};
}

Trained trained(
    RuleKind rule, const AdamSettings& adam, Loss loss, int64_t count, int64_t batch_size, int threads,
    const Report& report = [](int64_t) { return true; }) {
    std::mt19937 random(3);
    std::vector<int32_t> pairs(2 * count);
    std::vector<float> ratings(count), weights(count);
    for (int64_t i = 0; i < count; ++i) {
        pairs[2 * i] = static_cast<int32_t>(random() % kUserCount * (random() % 4) / 4);
        pairs[2 * i + 1] = static_cast<int32_t>(random() % kItemCount);
        ratings[i] = static_cast<float>(random() % 3);
        weights[i] = static_cast<float>(random() % 4) / 2;
    }
    const bool of_ratings = loss >= Loss::regression;
    const InteractionsView interactions{pairs.data(), of_ratings ? ratings.data() : nullptr, weights.data(), count};
    const SamplingSettings sampling{of_ratings ? Sampler::none : Sampler::uniform,
                                    of_ratings                     ? 0
                                    : loss == Loss::adaptive_hinge ? 3
                                                                   : 1,
                                    kItemCount,
                                    0,
                                    {nullptr, nullptr},
                                    nullptr};
    Trained state{Table(kUserCount, rule, 1), Table(kItemCount, rule, 2), {}};
    const EpochSettings settings{11, 0, batch_size, loss, rule, rule_settings(rule, adam), threads};
    state.result =
        factorization_epoch(state.users.view(), state.items.view(), interactions, sampling, settings, report);
    return state;
}

void check_same(const Trained& a, const Trained& b) {
    CHECK(a.users == b.users && a.items == b.items);
    CHECK(a.result.loss == b.result.loss && a.result.batches == b.result.batches);
}

}  // namespace

TEST(a_team_meets_in_every_round) {
    constexpr int kRounds = 300, kMeetings = 5, kMembers = 4;
    Team team(kMembers);
    CHECK(team.size() == kMembers);
    std::vector<int> numbers(kMembers);  // not atomic: meeting orders the accesses
    for (int round = 0; round < kRounds; ++round) {
        const int active = 1 + round % kMembers;
        std::fill(numbers.begin(), numbers.end(), 0);
        std::atomic<int> wrong{0};
        team.run(active, [&](int member) {
            for (int meeting = 1; meeting <= kMeetings; ++meeting) {
                numbers[member] = meeting;
                team.meet();
                wrong += numbers[(member + 1) % active] != meeting;
                team.meet();
            }
        });
        CHECK(wrong == 0);
        for (int member = 0; member < kMembers; ++member) CHECK(numbers[member] == (member < active ? kMeetings : 0));
    }
}

TEST(a_team_takes_fewer_and_more_than_it_has) {
    Team team(2);
    std::vector<int> calls(2);
    team.run(9, [&](int member) { ++calls[member]; });
    team.run(0, [&](int member) { ++calls[member]; });
    CHECK((calls == std::vector<int>{2, 1}));
    Team alone(1);
    int own = 0;
    alone.run(3, [&](int) { alone.meet(), ++own; });
    CHECK(own == 1);
}

namespace {

// How many of some stretches were given to all threads.
int stretches_of_all(ThreadChoice& choice, int stretches, double seconds_of_one, double seconds_of_all) {
    int all = 0;
    for (int i = 0; i < stretches; ++i) {
        const bool is_all = choice.next() > 1;
        all += is_all;
        choice.record(is_all ? seconds_of_all : seconds_of_one);
    }
    return all;
}

}  // namespace

TEST(the_faster_number_of_threads_is_chosen) {
    ThreadChoice faster(3);
    CHECK(faster.next() == 3);
    CHECK(stretches_of_all(faster, 1000, 2.0, 1.0) > 980);
    ThreadChoice slower(3);
    CHECK(stretches_of_all(slower, 1000, 1.0, 2.0) < 20);
    CHECK(slower.next() == 1);
    ThreadChoice alone(1);
    CHECK(stretches_of_all(alone, 1000, 1.0, 2.0) == 0);
}

TEST(caches_of_other_threads_do_not_mislead_the_choice) {
    for (const double of_all : {1.0, 3.0}) {
        ThreadChoice choice(2);
        int last = 0, faster = 0;
        for (int i = 0; i < 1000; ++i) {
            const int threads = choice.next();
            faster += (threads == 2) == (of_all < 2.0);
            choice.record(threads != last ? 100.0 : threads == 2 ? of_all : 2.0);
            last = threads;
        }
        CHECK(faster > 970);
    }
}

TEST(the_other_number_of_threads_is_tried_again) {
    ThreadChoice choice(2);
    stretches_of_all(choice, 1000, 2.0, 1.0);
    CHECK(stretches_of_all(choice, 10, 2.0, 4.0) < 6);      // all have slowed down: noticed at once
    CHECK(stretches_of_all(choice, 1500, 2.0, 1.0) > 900);  // and when they are the faster again, at the next trial
}

TEST(deferred_adam_is_dense_adam) {
    for (const AdamSettings& settings : {kAdam, kAdamW, kAdamWithPenalty}) {
        for (const double scale : {1e-2, 1e-4, 1e-6, 1e-7, 1e-8}) {
            // Where eps does not count, hardly more than rounding.
            CHECK(largest_difference(settings, scale, false) < (scale >= 1e-4 ? 3e-6 : 1e-5));
        }
        CHECK(largest_difference(settings, 1e-2, true) < 3e-6);
    }
}

TEST(tables_return_from_their_blocks_as_they_were) {
    for (const RuleKind rule : {RuleKind::adam, RuleKind::momentum, RuleKind::sgd, RuleKind::rowwise_adagrad}) {
        Table table(kUserCount, rule, 5), copy = table;
        for (auto* numbers : {&table.first, &table.second, &table.bias_first, &table.bias_second}) {
            for (size_t i = 0; i < numbers->size(); ++i) (*numbers)[i] = static_cast<float>(i);
        }
        copy = table;
        Team team(3);
        const RowBlocks blocks(table.view(), team);
        CHECK(blocks.rows() == kUserCount && blocks.width() % Lanes::kSize == 0);
        for (int64_t i = kDim; i < blocks.width(); ++i) CHECK(blocks.weights(7)[i] == 0);
        for (int64_t i = 0; i < kDim; ++i) CHECK(blocks.weights(7)[i] == table.weights[7 * kDim + i]);
        for (auto* numbers :
             {&table.weights, &table.first, &table.second, &table.bias, &table.bias_first, &table.bias_second}) {
            std::fill(numbers->begin(), numbers->end(), -1.0f);
        }
        blocks.unpack(0, 100);
        CHECK(!(table == copy));
        blocks.unpack(100, kUserCount);
        CHECK(table == copy);
    }
}

TEST(epochs_have_the_same_bits_for_any_number_of_threads) {
    constexpr RuleKind kRules[] = {RuleKind::adam,     RuleKind::sparse_adam, RuleKind::sgd,
                                   RuleKind::momentum, RuleKind::adagrad,     RuleKind::rowwise_adagrad};
    for (const RuleKind rule : kRules) {
        for (const int64_t batch_size : {int64_t{64}, int64_t{257}, kCount + 1}) {
            const Trained one = trained(rule, kAdam, Loss::adaptive_hinge, kCount, batch_size, 1);
            CHECK(std::isfinite(one.result.loss));
            CHECK(one.result.batches == (kCount + batch_size - 1) / batch_size);
            for (const int threads : {2, 4}) {
                check_same(trained(rule, kAdam, Loss::adaptive_hinge, kCount, batch_size, threads), one);
            }
        }
    }
    for (const AdamSettings& adam : {kAdamW, kAdamWithPenalty}) {
        for (const Loss loss : {Loss::pointwise, Loss::bpr, Loss::hinge, Loss::regression, Loss::logistic}) {
            check_same(trained(RuleKind::adam, adam, loss, kCount, 100, 1),
                       trained(RuleKind::adam, adam, loss, kCount, 100, 3));
        }
    }
}

TEST(epochs_stop_where_the_report_says_so) {
    std::vector<int64_t> reported;
    const auto report = [&](int64_t positions) {
        reported.push_back(positions);
        return reported.size() < 2;
    };
    constexpr int64_t kMany = 2000000;
    const Trained stopped = trained(RuleKind::adam, kAdam, Loss::bpr, kMany, 100, 2, report);
    CHECK(reported.size() == 2 && reported[0] < reported[1] && reported[1] < kMany);
    CHECK(stopped.result.batches == reported[1] / 100);
}
