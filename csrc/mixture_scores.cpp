#include "mixture_scores.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "parallel_for.h"
#include "vectors.h"

namespace spotfast {

namespace {

constexpr int64_t kGrain = 64;  // steps per thread, at least

// The mixture as one candidate sees it.
class Mixture {
  public:
    explicit Mixture(const MixtureShape& shape) : shape_(shape), tastes_(shape.mixtures), weights_(shape.mixtures) {}

    float score(const float* states, const float* vector) {
        const int64_t mixtures = shape_.mixtures, dim = shape_.dim;
        for (int64_t m = 0; m < mixtures; ++m) {
            tastes_[m] = dot(states + m * dim, vector, dim);
            weights_[m] = dot(states + (mixtures + m) * dim, vector, dim);
        }
        const float highest = *std::max_element(weights_.begin(), weights_.end());
        float total = 0.0f;
        for (float& weight : weights_) total += weight = std::exp(weight - highest);
        float score = 0.0f;
        for (int64_t m = 0; m < mixtures; ++m) {
            weights_[m] /= total;
            score += weights_[m] * tastes_[m];
        }
        return score;
    }

    // Adds the gradients of a score; call `score` before.
    void add_gradients(const float* states, const float* vector, float score, float gradient, float* state_gradients,
                       float* vector_gradient) const {
        const int64_t mixtures = shape_.mixtures, dim = shape_.dim;
        for (int64_t m = 0; m < mixtures; ++m) {
            const float of_taste = gradient * weights_[m], of_attention = of_taste * (tastes_[m] - score);
            add_product(state_gradients + m * dim, vector, of_taste, dim);
            add_product(state_gradients + (mixtures + m) * dim, vector, of_attention, dim);
            add_product(vector_gradient, states + m * dim, of_taste, dim);
            add_product(vector_gradient, states + (mixtures + m) * dim, of_attention, dim);
        }
    }

  private:
    MixtureShape shape_;
    std::vector<float> tastes_, weights_;
};

}  // namespace

void mixture_scores(const float* states, const float* vectors, const MixtureShape& shape, int threads, float* scores) {
    parallel_for(shape.steps, threads, kGrain, [&](int64_t begin, int64_t end) {
        Mixture mixture(shape);
        for (int64_t i = begin * shape.candidates; i < end * shape.candidates; ++i) {
            scores[i] =
                mixture.score(states + i / shape.candidates * 2 * shape.mixtures * shape.dim, vectors + i * shape.dim);
        }
    });
}

void mixture_gradients(const float* states, const float* vectors, const float* score_gradients,
                       const MixtureShape& shape, int threads, float* state_gradients, float* vector_gradients) {
    const int64_t state_size = 2 * shape.mixtures * shape.dim, candidates = shape.candidates;
    parallel_for(shape.steps, threads, kGrain, [&](int64_t begin, int64_t end) {
        Mixture mixture(shape);
        std::fill(state_gradients + begin * state_size, state_gradients + end * state_size, 0.0f);
        std::fill(vector_gradients + begin * candidates * shape.dim, vector_gradients + end * candidates * shape.dim,
                  0.0f);
        for (int64_t i = begin * candidates; i < end * candidates; ++i) {
            if (score_gradients[i] == 0) continue;  // padding, and negatives within the margin
            const float *own = states + i / candidates * state_size, *vector = vectors + i * shape.dim;
            const float score = mixture.score(own, vector);
            mixture.add_gradients(own, vector, score, score_gradients[i], state_gradients + i / candidates * state_size,
                                  vector_gradients + i * shape.dim);
        }
    });
}

}  // namespace spotfast
