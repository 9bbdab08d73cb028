// Scores of items for mixtures of tastes, each weighted by how much attention it pays to the item.
//
//     t_m = taste_m . v,  a_m = attention_m . v,  w = softmax(a),  score = sum over m of w_m t_m
//
// For every step there are the states of a user, (2 * mixtures, dim), tastes first, and the vectors v of some
// candidates, (candidates, dim).
#pragma once

#include <cstdint>

namespace spotfast {

struct MixtureShape {
    int64_t steps, mixtures, candidates, dim;
};

// scores: (steps, candidates).
void mixture_scores(const float* states, const float* vectors, const MixtureShape& shape, int threads, float* scores);

// Gradients of the states and the vectors, of their shapes, from those of the scores.
void mixture_gradients(const float* states, const float* vectors, const float* score_gradients,
                       const MixtureShape& shape, int threads, float* state_gradients, float* vector_gradients);

}  // namespace spotfast
