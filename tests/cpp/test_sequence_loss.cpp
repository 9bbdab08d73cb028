#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.h"
#include "sequence_loss.h"

using namespace spotfast;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

struct Problem {
    static constexpr int64_t kSequences = 60, kLength = 20, kSteps = kSequences * kLength, kDim = 11, kItems = 37;

    explicit Problem(int64_t slots_) : slots(slots_), mask(kSteps), positives(kSteps), negatives(kSteps * slots) {
        std::mt19937 random(7);
        std::normal_distribution<float> normal;
        // One more step than are scored, as where states lie beside what they end in.
        for (auto* floats : {&states, &vectors, &biases}) {
            floats->resize(floats == &states ? kSequences * (kLength + 1) * kDim
                                             : kItems * (floats == &vectors ? kDim : 1));
            for (float& number : *floats) number = normal(random);
        }
        for (float& weight : mask) weight = random() % 4 == 0 ? 0.0f : 0.5f;
        for (auto* ids : {&positives, &negatives}) {
            for (int64_t& id : *ids) id = random() % kItems;
        }
    }

    StatesView states_view() const { return {states.data(), kSequences, kLength, kDim, (kLength + 1) * kDim, kDim}; }
    VectorsView items() const { return {vectors.data(), biases.data(), kItems}; }

    double score(int64_t step, int64_t item) const {
        double sum = biases[item];
        for (int64_t d = 0; d < kDim; ++d) sum += double{states_view().at(step)[d]} * vectors[item * kDim + d];
        return sum;
    }

    int64_t slots;
    std::vector<float> states, vectors, biases, mask;
    std::vector<int64_t> positives, negatives;
};

struct Result {
    MeanLoss loss;
    std::vector<int64_t> chosen = std::vector<int64_t>(Problem::kSteps, -1);
    std::vector<float> coefficients = std::vector<float>(2 * Problem::kSteps, kNaN);
    std::vector<float> of_states = std::vector<float>(Problem::kSteps * Problem::kDim, kNaN);
    std::vector<float> of_rows = std::vector<float>(2 * Problem::kSteps * Problem::kDim, kNaN);
    std::vector<float> of_row_biases = std::vector<float>(2 * Problem::kSteps, kNaN);
    std::vector<float> of_vectors = std::vector<float>(Problem::kItems * Problem::kDim, kNaN);
    std::vector<float> of_biases = std::vector<float>(Problem::kItems, kNaN);
};

Result solve(const Problem& problem, Loss loss, int threads) {
    Result result;
    const StatesView states = problem.states_view();
    result.loss =
        sequence_loss(states, problem.items(), {problem.positives.data(), problem.negatives.data(), problem.slots},
                      problem.mask.data(), loss, threads, result.chosen.data(), result.coefficients.data());
    const ScoreGradients scores{problem.positives.data(), result.chosen.data(), result.coefficients.data(), 3.0f};
    state_gradients(states, problem.items(), scores, threads, result.of_states.data());
    row_gradients(states, scores, threads, result.of_rows.data(), result.of_row_biases.data());
    table_gradients(states, scores, Problem::kItems, threads, result.of_vectors.data(), result.of_biases.data());
    return result;
}

}  // namespace

TEST(sequence_loss_is_the_formula) {
    const Problem problem(4);
    const Result found = solve(problem, Loss::adaptive_hinge, 2);
    std::vector<double> of_vectors(Problem::kItems * Problem::kDim), of_biases(Problem::kItems);
    double sum = 0, total = 0;
    for (int64_t step = 0; step < Problem::kSteps; ++step) {
        const int64_t* negatives = problem.negatives.data() + step * problem.slots;
        const int64_t highest = *std::max_element(negatives, negatives + problem.slots, [&](int64_t a, int64_t b) {
            return problem.score(step, a) < problem.score(step, b);
        });
        const int64_t positive = problem.positives[step];
        const double weight = problem.mask[step];
        const double value = problem.score(step, highest) - problem.score(step, positive) + 1;
        const double gradient = value > 0 ? 3 * weight : 0;
        total += weight;
        sum += weight * std::max(value, 0.0);
        if (weight != 0) CHECK(found.chosen[step] == highest);
        for (int64_t d = 0; d < Problem::kDim; ++d) {
            const double state = problem.states_view().at(step)[d];
            const double of_state = gradient * (problem.vectors[highest * Problem::kDim + d] -
                                                problem.vectors[positive * Problem::kDim + d]);
            CHECK(std::fabs(found.of_states[step * Problem::kDim + d] - of_state) < 1e-4);
            of_vectors[positive * Problem::kDim + d] -= gradient * state;
            of_vectors[highest * Problem::kDim + d] += gradient * state;
        }
        of_biases[positive] -= gradient;
        of_biases[highest] += gradient;
    }
    CHECK(found.loss.total == static_cast<float>(total));
    CHECK(std::fabs(found.loss.mean - sum / total) < 1e-5);
    for (size_t i = 0; i < of_vectors.size(); ++i) CHECK(std::fabs(found.of_vectors[i] - of_vectors[i]) < 1e-3);
    for (size_t i = 0; i < of_biases.size(); ++i) CHECK(std::fabs(found.of_biases[i] - of_biases[i]) < 1e-3);
}

TEST(sequence_gradients_of_rows_sum_to_those_of_tables) {
    const Problem problem(1);
    const Result found = solve(problem, Loss::bpr, 2);
    std::vector<float> of_vectors(Problem::kItems * Problem::kDim), of_biases(Problem::kItems);
    for (int64_t row = 0; row < 2 * Problem::kSteps; ++row) {
        const int64_t step = row % Problem::kSteps;
        const int64_t item = row < Problem::kSteps ? problem.positives[step] : found.chosen[step];
        for (int64_t d = 0; d < Problem::kDim; ++d) {
            of_vectors[item * Problem::kDim + d] += found.of_rows[row * Problem::kDim + d];
        }
        of_biases[item] += found.of_row_biases[row];
    }
    for (size_t i = 0; i < of_vectors.size(); ++i) CHECK(std::fabs(of_vectors[i] - found.of_vectors[i]) < 1e-4);
    for (size_t i = 0; i < of_biases.size(); ++i) CHECK(std::fabs(of_biases[i] - found.of_biases[i]) < 1e-4);
}

TEST(sequence_loss_does_not_depend_on_threads) {
    for (const Loss loss : {Loss::pointwise, Loss::bpr, Loss::hinge, Loss::adaptive_hinge}) {
        const Problem problem(loss == Loss::adaptive_hinge ? 3 : 1);
        const Result one = solve(problem, loss, 1);
        for (const int threads : {2, 3, 8}) {
            const Result other = solve(problem, loss, threads);
            CHECK(other.loss.mean == one.loss.mean);
            CHECK(other.chosen == one.chosen);
            CHECK(other.coefficients == one.coefficients);
            CHECK(other.of_states == one.of_states);
            CHECK(other.of_rows == one.of_rows);
            CHECK(other.of_row_biases == one.of_row_biases);
            CHECK(other.of_vectors == one.of_vectors);
            CHECK(other.of_biases == one.of_biases);
        }
    }
}

TEST(sequence_loss_of_an_empty_mask_is_0) {
    Problem problem(2);
    std::fill(problem.mask.begin(), problem.mask.end(), 0.0f);
    std::fill(problem.states.begin(), problem.states.end(), kNaN);
    const Result found = solve(problem, Loss::adaptive_hinge, 2);
    CHECK(found.loss.mean == 0 && found.loss.total == 1);
    CHECK(std::all_of(found.of_vectors.begin(), found.of_vectors.end(), [](float x) { return x == 0; }));
    CHECK(std::all_of(found.of_rows.begin(), found.of_rows.end(), [](float x) { return x == 0; }));
}

TEST(sequence_loss_checks_ids) {
    for (const int64_t wrong : {int64_t{-1}, Problem::kItems}) {
        for (const bool positive : {false, true}) {
            Problem problem(2);
            (positive ? problem.positives : problem.negatives).back() = wrong;
            bool thrown = false;
            try {
                solve(problem, Loss::adaptive_hinge, 2);
            } catch (const std::out_of_range&) {
                thrown = true;
            }
            CHECK(thrown);
        }
    }
}
