// The loss of sampled negatives over the steps of sequences, and its gradients.
//
//     score(b, t, i) = states[b, t] . vectors[i] + biases[i]
//
// Rows of items are read where they are, one after the other: nothing has both axes slots and dim. Bits do not depend
// on the number of threads.
#pragma once

#include <cstdint>

#include "score_loss.h"
#include "score_tiles.h"

namespace spotfast {

// Users before every step of some sequences: `dim` floats each, at these distances from each other.
struct StatesView {
    const float* data;
    int64_t sequences, length, dim, sequence_stride, step_stride;

    // Steps are counted through all sequences.
    const float* at(int64_t step) const { return data + step / length * sequence_stride + step % length * step_stride; }
};

// At every step the item that follows, and `slots` negatives: (sequences, length) and (sequences, length, slots).
struct CandidatesView {
    const int64_t *positives, *negatives;
    int64_t slots;
};

struct MeanLoss {
    float mean;   // 0 without weights
    float total;  // of the weights; 1 in place of 0
};

// `mask` are the weights of the steps, (sequences, length): where it is 0, nothing but ids is looked at. Sets `chosen`,
// (sequences, length): the negative with the highest score; and `coefficients`, (2, sequences, length): the weighted
// derivatives by the scores of the positive and of the chosen. Throws std::out_of_range for an id that is no item's.
MeanLoss sequence_loss(const StatesView& states, const VectorsView& items, const CandidatesView& candidates,
                       const float* mask, Loss loss, int threads, int64_t* chosen, float* coefficients);

// What the scores of positives and chosen negatives, as above, have as gradients: `scale` times the coefficients.
struct ScoreGradients {
    const int64_t *positives, *chosen;
    const float* coefficients;
    float scale;
};

// The gradients of the states: (sequences, length, dim).
void state_gradients(const StatesView& states, const VectorsView& items, const ScoreGradients& scores, int threads,
                     float* out);

// The gradients of the rows of items that were read, (2, sequences, length, dim), and of their biases, (2, sequences,
// length): positives first.
void row_gradients(const StatesView& states, const ScoreGradients& scores, int threads, float* of_rows,
                   float* of_biases);

// The same, summed by item in that order: of all items, (items, dim) and (items).
void table_gradients(const StatesView& states, const ScoreGradients& scores, int64_t items, int threads,
                     float* of_vectors, float* of_biases);

}  // namespace spotfast
