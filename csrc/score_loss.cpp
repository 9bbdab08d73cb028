#include "score_loss.h"

#include <algorithm>
#include <cmath>

namespace spotfast {

namespace {

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

// Calls loss(scores, rating, gradients) for every sample, which returns the loss and sets the gradients; both are
// weighted here.
template <class Function>
void each(const ScoredSamples& samples, const Function& loss) {
    const int64_t candidates = samples.candidates;
    for (int64_t i = 0; i < samples.count; ++i) {
        const float weight = samples.weights != nullptr ? samples.weights[i] : 1.0f;
        float* gradients = samples.gradients + i * candidates;
        const float rating = samples.ratings != nullptr ? samples.ratings[i] : 0.0f;
        samples.losses[i] = weight * loss(samples.scores + i * candidates, rating, gradients);
        for (int64_t j = 0; j < candidates; ++j) gradients[j] *= weight * samples.scale;
    }
}

float pointwise(const float* scores, float, float* gradients) {
    const float positive = sigmoid(scores[0]), negative = sigmoid(scores[1]);
    gradients[0] = -positive * (1 - positive);
    gradients[1] = negative * (1 - negative);
    return (1 - positive) + negative;
}

float bpr(const float* scores, float, float* gradients) {
    const float right = sigmoid(scores[0] - scores[1]);
    gradients[1] = right * (1 - right);
    gradients[0] = -gradients[1];
    return 1 - right;
}

float hinge(const float* scores, float, float* gradients) {
    const float loss = scores[1] - scores[0] + 1;
    const float inside = loss < 0 ? 0.0f : 1.0f;  // a NaN is inside: it must not vanish
    gradients[0] = -inside;
    gradients[1] = inside;
    return inside != 0 ? loss : 0.0f;
}

float regression(const float* scores, float rating, float* gradients) {
    const float error = rating - scores[0];
    gradients[0] = -2 * error;
    return error * error;
}

float poisson(const float* scores, float rating, float* gradients) {
    const float rate = std::exp(scores[0]);
    gradients[0] = rate - rating;
    return rate - rating * scores[0];
}

float logistic(const float* scores, float rating, float* gradients) {
    const float x = scores[0], label = std::clamp(rating, 0.0f, 1.0f);
    gradients[0] = sigmoid(x) - label;
    return (1 - label) * x + std::log1p(std::exp(-std::fabs(x))) + std::max(-x, 0.0f);
}

}  // namespace

int64_t highest_of(const float* scores, int64_t count) {
    return std::max_element(scores, scores + count,
                            [](float a, float b) { return a < b || (std::isnan(b) && !std::isnan(a)); }) -
           scores;
}

void score_loss(Loss loss, const ScoredSamples& samples) {
    switch (loss) {
        case Loss::pointwise:
            return each(samples, pointwise);
        case Loss::bpr:
            return each(samples, bpr);
        case Loss::hinge:
            return each(samples, hinge);
        case Loss::adaptive_hinge: {
            const int64_t candidates = samples.candidates;
            return each(samples, [candidates](const float* scores, float, float* gradients) {
                const int64_t highest = 1 + highest_of(scores + 1, candidates - 1);
                std::fill(gradients, gradients + candidates, 0.0f);
                const float pair[2] = {scores[0], scores[highest]};
                float pair_gradients[2];
                const float value = hinge(pair, 0.0f, pair_gradients);
                gradients[0] = pair_gradients[0];
                gradients[highest] = pair_gradients[1];
                return value;
            });
        }
        case Loss::regression:
            return each(samples, regression);
        case Loss::poisson:
            return each(samples, poisson);
        case Loss::logistic:
            return each(samples, logistic);
    }
}

}  // namespace spotfast
