// Losses of scored samples, and their gradients with respect to the scores.
#pragma once

#include <cstdint>

namespace spotfast {

enum class Loss { pointwise, bpr, hinge, adaptive_hinge, regression, poisson, logistic };

// Some samples of a batch.
struct ScoredSamples {
    int64_t count, candidates;  // candidates of a sample: the positive, or the rated item, then the negatives
    const float* scores;        // (count, candidates)
    const float* ratings;       // (count), for the losses of ratings
    const float* weights;       // (count), or null
    float scale;                // of the gradients: one over the number of samples in the batch
    float* losses;              // out: (count), weighted, not scaled
    float* gradients;           // out: (count, candidates)
};

// The place of the highest of some scores, the first of equals. A NaN is the highest: it must not vanish.
int64_t highest_of(const float* scores, int64_t count);

// Where the loss has a kink, the gradient is that of torch's functions.
void score_loss(Loss loss, const ScoredSamples& samples);

}  // namespace spotfast
