#include "sequence_loss.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "owners.h"
#include "parallel_for.h"
#include "vectors.h"

namespace spotfast {

namespace {

constexpr int64_t kStepsPerThread = 512;  // at least: fewer are not worth a thread
constexpr int64_t kAhead = 2;             // steps whose rows are on their way to the cache

int64_t grain(const StatesView& states) { return std::max<int64_t>(kStepsPerThread / states.length, 1); }

void check(const char* name, const int64_t* ids, int64_t count, int64_t rows) {
    for (int64_t i = 0; i < count; ++i) {
        if (static_cast<uint64_t>(ids[i]) >= static_cast<uint64_t>(rows)) {
            throw std::out_of_range(std::string("index out of range: ") + name + " must be in [0, " +
                                    std::to_string(rows) + "), got " + std::to_string(ids[i]));
        }
    }
}

void prefetch_row(const VectorsView& items, int64_t item, int64_t dim) {
    prefetch(items.vectors + item * dim, dim * static_cast<int64_t>(sizeof(float)));
}

// Scores and losses of one sequence after the other.
class Scorer {
  public:
    Scorer(const StatesView& states, const VectorsView& items, const CandidatesView& candidates, const float* mask,
           Loss loss)
        : states_(states),
          items_(items),
          candidates_(candidates),
          mask_(mask),
          loss_(loss == Loss::adaptive_hinge ? Loss::hinge : loss),  // of the highest negative
          negatives_(candidates.slots),
          steps_(states.length),
          scores_(2 * states.length),
          weights_(states.length),
          losses_(states.length),
          gradients_(2 * states.length) {}

    // Returns the sum of the weighted losses.
    double score(int64_t sequence, int64_t* chosen, float* of_positives, float* of_chosen) {
        const int64_t first = sequence * states_.length;
        int64_t count = 0;
        for (int64_t step = 0; step < states_.length; ++step) {
            if (step + kAhead < states_.length && mask_[first + step + kAhead] != 0)
                prefetch_rows(first + step + kAhead);
            const int64_t* negatives = candidates_.negatives + (first + step) * candidates_.slots;
            of_positives[step] = of_chosen[step] = 0;
            chosen[step] = negatives[0];
            if (mask_[first + step] == 0) continue;
            const float* state = states_.at(first + step);
            for (int64_t j = 0; j < candidates_.slots; ++j) negatives_[j] = score_of(state, negatives[j]);
            const int64_t highest = highest_of(negatives_.data(), candidates_.slots);
            chosen[step] = negatives[highest];
            scores_[2 * count] = score_of(state, candidates_.positives[first + step]);
            scores_[2 * count + 1] = negatives_[highest];
            weights_[count] = mask_[first + step];
            steps_[count++] = step;
        }
        score_loss(loss_,
                   {count, 2, scores_.data(), nullptr, weights_.data(), 1.0f, losses_.data(), gradients_.data()});
        for (int64_t i = 0; i < count; ++i) {
            of_positives[steps_[i]] = gradients_[2 * i];
            of_chosen[steps_[i]] = gradients_[2 * i + 1];
        }
        return std::accumulate(losses_.begin(), losses_.begin() + count, 0.0);
    }

  private:
    float score_of(const float* state, int64_t item) const {
        return dot(state, items_.vectors + item * states_.dim, states_.dim) + items_.biases[item];
    }

    void prefetch_rows(int64_t step) const {
        const auto prefetch_item = [this](int64_t item) {
            prefetch_row(items_, item, states_.dim);
            prefetch(items_.biases + item, 1);
        };
        prefetch_item(candidates_.positives[step]);
        const int64_t* negatives = candidates_.negatives + step * candidates_.slots;
        std::for_each(negatives, negatives + candidates_.slots, prefetch_item);
    }

    StatesView states_;
    VectorsView items_;
    CandidatesView candidates_;
    const float* mask_;
    Loss loss_;
    std::vector<float> negatives_;  // scores, of one step
    std::vector<int64_t> steps_;    // that count; the others below are of these
    std::vector<float> scores_, weights_, losses_, gradients_;
};

}  // namespace

MeanLoss sequence_loss(const StatesView& states, const VectorsView& items, const CandidatesView& candidates,
                       const float* mask, Loss loss, int threads, int64_t* chosen, float* coefficients) {
    const int64_t length = states.length, count = states.sequences * length;
    check("positives", candidates.positives, count, items.rows);
    check("negatives", candidates.negatives, count * candidates.slots, items.rows);
    std::vector<double> losses(states.sequences);  // by sequence: summed in the same order by any number of threads
    parallel_for(states.sequences, threads, grain(states), [&](int64_t begin, int64_t end) {
        Scorer scorer(states, items, candidates, mask, loss);
        for (int64_t i = begin; i < end; ++i) {
            float* of_positives = coefficients + i * length;
            losses[i] = scorer.score(i, chosen + i * length, of_positives, of_positives + count);
        }
    });
    double total = std::accumulate(mask, mask + count, 0.0);
    if (total == 0) total = 1;
    const double sum = std::accumulate(losses.begin(), losses.end(), 0.0);
    return {static_cast<float>(sum / total), static_cast<float>(total)};
}

void state_gradients(const StatesView& states, const VectorsView& items, const ScoreGradients& scores, int threads,
                     float* out) {
    const int64_t dim = states.dim, count = states.sequences * states.length;
    parallel_for(count, threads, kStepsPerThread, [&](int64_t begin, int64_t end) {
        std::fill(out + begin * dim, out + end * dim, 0.0f);
        for (int64_t step = begin; step < end; ++step) {
            if (step + kAhead < end) {
                prefetch_row(items, scores.positives[step + kAhead], dim);
                prefetch_row(items, scores.chosen[step + kAhead], dim);
            }
            const auto add = [&](int64_t item, float coefficient) {  // most are 0: padding, and all within the margin
                if (coefficient != 0) {
                    add_product(out + step * dim, items.vectors + item * dim, scores.scale * coefficient, dim);
                }
            };
            add(scores.positives[step], scores.coefficients[step]);
            add(scores.chosen[step], scores.coefficients[count + step]);
        }
    });
}

void row_gradients(const StatesView& states, const ScoreGradients& scores, int threads, float* of_rows,
                   float* of_biases) {
    const int64_t dim = states.dim, count = states.sequences * states.length;
    parallel_for(2 * count, threads, kStepsPerThread, [&](int64_t begin, int64_t end) {
        std::fill(of_rows + begin * dim, of_rows + end * dim, 0.0f);
        for (int64_t row = begin; row < end; ++row) {
            of_biases[row] = 0.0f;
            if (scores.coefficients[row] == 0) continue;
            const float gradient = of_biases[row] = scores.scale * scores.coefficients[row];
            add_product(of_rows + row * dim, states.at(row % count), gradient, dim);
        }
    });
}

void table_gradients(const StatesView& states, const ScoreGradients& scores, int64_t items, int threads,
                     float* of_vectors, float* of_biases) {
    const int64_t dim = states.dim, count = states.sequences * states.length;
    std::fill_n(of_vectors, items * dim, 0.0f);
    std::fill_n(of_biases, items, 0.0f);
    const int members = static_cast<int>(std::clamp<int64_t>(2 * count / kStepsPerThread, 1, std::max(threads, 1)));
    parallel_parts(members, threads, [&](int64_t member) {
        for (int64_t row = 0; row < 2 * count; ++row) {
            const int64_t item = row < count ? scores.positives[row] : scores.chosen[row - count];
            if (scores.coefficients[row] == 0) continue;
            if (!owns(static_cast<int>(member), members, static_cast<int32_t>(item))) continue;
            const float gradient = scores.scale * scores.coefficients[row];
            add_product(of_vectors + item * dim, states.at(row % count), gradient, dim);
            of_biases[item] += gradient;
        }
    });
}

}  // namespace spotfast
