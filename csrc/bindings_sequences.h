// Bindings of the scores and losses of sequence models.
#pragma once

#include <cstdint>
#include <optional>

#include "bindings_arrays.h"
#include "mixture_scores.h"
#include "sequence_loss.h"

namespace spotfast::bindings {

inline MixtureShape mixture_shape(const Array<float>& states, const Array<float>& vectors) {
    return {states.shape(0), states.shape(1) / 2, vectors.shape(1), states.shape(2)};
}

inline Array<float> py_mixture_scores(const Array<float>& states, const Array<float>& vectors, int threads) {
    const MixtureShape shape = mixture_shape(states, vectors);
    Array<float> scores({shape.steps, shape.candidates});
    const float *state_data = states.data(), *vector_data = vectors.data();
    float* data = scores.mutable_data();
    py::gil_scoped_release release;
    mixture_scores(state_data, vector_data, shape, threads, data);
    return scores;
}

inline py::tuple py_mixture_gradients(const Array<float>& states, const Array<float>& vectors,
                                      const Array<float>& score_gradients, int threads) {
    const MixtureShape shape = mixture_shape(states, vectors);
    Array<float> state_gradients({shape.steps, 2 * shape.mixtures, shape.dim});
    Array<float> vector_gradients({shape.steps, shape.candidates, shape.dim});
    const float *state_data = states.data(), *vector_data = vectors.data(), *score_data = score_gradients.data();
    float *of_states = state_gradients.mutable_data(), *of_vectors = vector_gradients.mutable_data();
    {
        py::gil_scoped_release release;
        mixture_gradients(state_data, vector_data, score_data, shape, threads, of_states, of_vectors);
    }
    return py::make_tuple(state_gradients, vector_gradients);
}

// Of shape (B, L, D), D contiguous.
inline StatesView states_view(const py::array_t<float>& states) {
    const auto stride = [&](int axis) { return states.strides(axis) / static_cast<int64_t>(sizeof(float)); };
    return {states.data(), states.shape(0), states.shape(1), states.shape(2), stride(0), stride(1)};
}

inline py::tuple py_sequence_loss(const py::array_t<float>& states, const Array<float>& vectors,
                                  const Array<float>& biases, const Array<int64_t>& positives,
                                  const Array<int64_t>& negatives, const Array<float>& mask, Loss loss, int threads) {
    const StatesView view = states_view(states);
    const VectorsView items{vectors.data(), biases.data(), vectors.shape(0)};
    const CandidatesView candidates{positives.data(), negatives.data(), negatives.shape(2)};
    Array<int64_t> chosen({view.sequences, view.length});
    Array<float> coefficients({int64_t{2}, view.sequences, view.length});
    const float* mask_data = mask.data();
    int64_t* chosen_data = chosen.mutable_data();
    float* coefficient_data = coefficients.mutable_data();
    MeanLoss result;
    {
        py::gil_scoped_release release;
        result = sequence_loss(view, items, candidates, mask_data, loss, threads, chosen_data, coefficient_data);
    }
    return py::make_tuple(result.mean, chosen, coefficients, result.total);
}

inline ScoreGradients score_gradients(const Array<int64_t>& positives, const Array<int64_t>& chosen,
                                      const Array<float>& coefficients, float scale) {
    return {positives.data(), chosen.data(), coefficients.data(), scale};
}

inline Array<float> py_sequence_state_gradients(const py::array_t<float>& states, const Array<float>& vectors,
                                                const Array<int64_t>& positives, const Array<int64_t>& chosen,
                                                const Array<float>& coefficients, float scale, int threads) {
    const StatesView view = states_view(states);
    const VectorsView items{vectors.data(), nullptr, vectors.shape(0)};
    const ScoreGradients scores = score_gradients(positives, chosen, coefficients, scale);
    Array<float> out({view.sequences, view.length, view.dim});
    float* data = out.mutable_data();
    py::gil_scoped_release release;
    state_gradients(view, items, scores, threads, data);
    return out;
}

// With a number of items, gradients of whole tables; else of the rows that were read.
inline py::tuple py_sequence_item_gradients(const py::array_t<float>& states, const Array<int64_t>& positives,
                                            const Array<int64_t>& chosen, const Array<float>& coefficients, float scale,
                                            std::optional<int64_t> num_items, int threads) {
    const StatesView view = states_view(states);
    const ScoreGradients scores = score_gradients(positives, chosen, coefficients, scale);
    const int64_t rows = num_items.value_or(2 * view.sequences * view.length);
    Array<float> of_vectors({rows, view.dim}), of_biases({rows, int64_t{1}});
    float *vector_data = of_vectors.mutable_data(), *bias_data = of_biases.mutable_data();
    {
        py::gil_scoped_release release;
        if (num_items) {
            table_gradients(view, scores, rows, threads, vector_data, bias_data);
        } else {
            row_gradients(view, scores, threads, vector_data, bias_data);
        }
    }
    return py::make_tuple(of_vectors, of_biases);
}

inline void def_sequences(py::module_& m) {
    m.def("mixture_scores", &py_mixture_scores, py::arg("states").noconvert(), py::arg("vectors").noconvert(),
          py::arg("threads"));
    m.def("mixture_gradients", &py_mixture_gradients, py::arg("states").noconvert(), py::arg("vectors").noconvert(),
          py::arg("score_gradients").noconvert(), py::arg("threads"));
    m.def("sequence_loss", &py_sequence_loss, py::arg("states").noconvert(), py::arg("vectors").noconvert(),
          py::arg("biases").noconvert(), py::arg("positives").noconvert(), py::arg("negatives").noconvert(),
          py::arg("mask").noconvert(), py::arg("loss"), py::arg("threads"));
    m.def("sequence_state_gradients", &py_sequence_state_gradients, py::arg("states").noconvert(),
          py::arg("vectors").noconvert(), py::arg("positives").noconvert(), py::arg("chosen").noconvert(),
          py::arg("coefficients").noconvert(), py::arg("scale"), py::arg("threads"));
    m.def("sequence_item_gradients", &py_sequence_item_gradients, py::arg("states").noconvert(),
          py::arg("positives").noconvert(), py::arg("chosen").noconvert(), py::arg("coefficients").noconvert(),
          py::arg("scale"), py::arg("num_items"), py::arg("threads"));
}

}  // namespace spotfast::bindings
