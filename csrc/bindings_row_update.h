// Bindings of dense Adam at the cost of the rows touched.
#pragma once

#include <cstdint>
#include <memory>

#include "bindings_arrays.h"
#include "row_update.h"

namespace spotfast::bindings {

inline AdamTable adam_table(Array<float>& weights, Array<float>& first, Array<float>& second) {
    return {weights.mutable_data(), first.mutable_data(), second.mutable_data(), weights.shape(1)};
}

inline bool py_catch_up(DeferredRows& rows, Array<float>& weights, Array<float>& first, Array<float>& second,
                        const Array<int64_t>& ids, int threads) {
    const AdamTable table = adam_table(weights, first, second);
    const int64_t *data = ids.data(), count = ids.size();
    py::gil_scoped_release release;
    return rows.catch_up(table, data, count, threads);
}

inline void py_update(DeferredRows& rows, Array<float>& weights, Array<float>& first, Array<float>& second,
                      const Array<int64_t>& ids, const Array<float>& gradients, double learning_rate, int threads) {
    const AdamTable table = adam_table(weights, first, second);
    const int64_t *data = ids.data(), count = ids.size();
    const float* gradient_data = gradients.data();
    py::gil_scoped_release release;
    rows.update(table, data, gradient_data, count, learning_rate, threads);
}

inline void py_flush(DeferredRows& rows, Array<float>& weights, Array<float>& first, Array<float>& second,
                     int threads) {
    const AdamTable table = adam_table(weights, first, second);
    py::gil_scoped_release release;
    rows.flush(table, threads);
}

inline void def_row_update(py::module_& m) {
    py::class_<DeferredRows>(m, "DeferredRows", py::module_local())
        .def(py::init([](int64_t rows, double beta1, double beta2, double eps, double weight_decay, int64_t steps) {
                 return std::make_unique<DeferredRows>(rows, AdamSettings{beta1, beta2, eps, weight_decay, false},
                                                       steps);
             }),
             py::kw_only(), py::arg("rows"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
             py::arg("weight_decay"), py::arg("steps"))
        .def("catch_up", &py_catch_up, py::arg("weights").noconvert(), py::arg("first").noconvert(),
             py::arg("second").noconvert(), py::arg("ids").noconvert(), py::arg("threads"))
        .def("update", &py_update, py::arg("weights").noconvert(), py::arg("first").noconvert(),
             py::arg("second").noconvert(), py::arg("ids").noconvert(), py::arg("gradients").noconvert(),
             py::arg("learning_rate"), py::arg("threads"))
        .def("flush", &py_flush, py::arg("weights").noconvert(), py::arg("first").noconvert(),
             py::arg("second").noconvert(), py::arg("threads"));
}

}  // namespace spotfast::bindings
