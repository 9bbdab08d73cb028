#include <cmath>
#include <cstring>
#include <vector>

#include "check.h"
#include "row_update.h"
#include "trained_table.h"
#include "update_rules.h"

using namespace spotfast;

namespace {

constexpr AdamSettings kAdam{0.9, 0.999, 1e-8, 0.0, false};
constexpr AdamSettings kAdamWithPenalty{0.9, 0.999, 1e-8, 1e-6, false};
constexpr int64_t kRows = 1300, kDim = 11, kSteps = 3 * OwedSteps::kSweep;
constexpr int64_t kMostOwed = OwedSteps::kSweep + OwedSteps::kLongStretch;

struct Table {
    std::vector<float> weights, first, second, bias, bias_first, bias_second;

    Table()
        : weights(kRows * kDim),
          first(kRows * kDim),
          second(kRows * kDim, 1e-3f),
          bias(kRows, 0.5f),
          bias_first(kRows),
          bias_second(kRows, 1e-3f) {
        for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
    }
    TableView view() {
        return {weights.data(),     first.data(), second.data(), bias.data(), bias_first.data(),
                bias_second.data(), kRows,        kDim,          kDim};
    }
};

// The most that a row owes at any time of some steps that read one row only.
int64_t most_owed(const AdamSettings& settings, int members) {
    Table memory;
    Team team(members);
    TrainedTable table(memory.view(), 1, team);
    AdamRule rule({0.01, settings, 0.0, 0.0, 0.0, 700});
    const int32_t id = 7;
    int64_t most = 0;
    for (uint32_t step = 1; step <= kSteps; ++step) {
        for (int member = 0; member < members; ++member) {
            table.rows.select(member, members, &id, 1);
            table.collect(member, members, step, &id, rule);
        }
        rule.take();
        for (int64_t row = 0; row < kRows; ++row) {
            most = std::max(most, rule.taken() - int64_t{table.blocks.header(row).last});
        }
    }
    return most;
}

}  // namespace

TEST(no_row_of_an_epoch_owes_many_steps_of_a_penalty) {
    for (const int members : {1, 3}) {
        CHECK(most_owed(kAdamWithPenalty, members) <= kMostOwed);
        CHECK(most_owed(kAdam, members) == kSteps);  // in closed form, a flush costs the same however many
    }
}

// Second moments fade by a factor per step, the penalty is nothing beside them: they tell how many steps a row has
// taken.
TEST(no_row_of_a_plain_table_owes_many_steps_of_a_penalty) {
    Table memory;
    const std::vector<float> start = memory.second;
    const AdamTable table{memory.weights.data(), memory.first.data(), memory.second.data(), kDim};
    DeferredRows rows(kRows, kAdamWithPenalty, 700);
    for (int64_t step = 1; step <= kSteps; ++step) {
        const int64_t id = 7;
        const float gradient[kDim] = {};
        rows.update(table, &id, gradient, 1, 0.01, 1);
        for (int64_t row = 0; row < kRows; ++row) {
            const double taken = std::log(memory.second[row * kDim] / start[row * kDim]) / std::log(0.999);
            CHECK(static_cast<double>(step) - taken <= kMostOwed + 0.5);
        }
    }
}

// Sweeping stops between the stretches that the row would be replayed in anyway.
TEST(a_row_that_is_swept_has_the_bits_of_one_that_is_not) {
    for (const int64_t base : {0, 90, 3000}) {
        Table once, swept;
        const auto view = [](Table& table) {
            return RowView{table.weights.data(), table.first.data(),      table.second.data(),     kDim,
                           table.bias.data(),    table.bias_first.data(), table.bias_second.data()};
        };
        OwedSteps owed(kAdamWithPenalty, base);
        int64_t last = 0;
        for (int64_t step = 1; step <= 600; ++step) {
            owed.take(0.01 / static_cast<double>(1 + step % 3));
            if (step % 150 == 37) last = owed.sweep(view(swept), last);
        }
        CHECK(last == 480);
        owed.catch_up(view(once), 0);
        owed.catch_up(view(swept), last);
        for (auto numbers : {&Table::weights, &Table::first, &Table::second, &Table::bias, &Table::bias_second}) {
            const size_t bytes = (once.*numbers).size() * sizeof(float);
            CHECK(std::memcmp((once.*numbers).data(), (swept.*numbers).data(), bytes) == 0);
        }
        CHECK(std::memcmp(once.weights.data(), Table().weights.data(), kDim * sizeof(float)) != 0);
    }
}
