// Bindings of the random stream, the order of an epoch, and negatives.
#pragma once

#include <cstdint>

#include "bindings_arrays.h"
#include "negatives.h"
#include "permutation.h"
#include "philox.h"

namespace spotfast::bindings {

inline Array<uint32_t> py_draws(uint64_t seed, uint32_t epoch, uint32_t stream, uint64_t start, int64_t count,
                                uint32_t attempt, int threads) {
    Array<uint32_t> out(count);
    uint32_t* data = out.mutable_data();
    py::gil_scoped_release release;
    draws({seed, epoch, static_cast<Stream>(stream), attempt}, start, count, threads, data);
    return out;
}

inline Array<int64_t> py_permutation(uint64_t seed, uint32_t epoch, uint64_t n, uint64_t start, int64_t count,
                                     int threads) {
    Array<int64_t> out(count);
    int64_t* data = out.mutable_data();
    py::gil_scoped_release release;
    permutation(seed, epoch, n, start, count, threads, data);
    return out;
}

// Makes the (samples, slots) result and fills it without the interpreter's lock.
template <class Fill>
Array<int64_t> negatives_array(const NegativesRequest& request, const Fill& fill) {
    Array<int64_t> out({request.stop - request.start, request.slots});
    int64_t* data = out.mutable_data();
    py::gil_scoped_release release;
    fill(data);
    return out;
}

inline Array<int64_t> py_uniform(uint64_t seed, uint32_t epoch, int64_t start, int64_t stop, int64_t slots,
                                 int64_t num_items, int64_t first_item, int threads) {
    const NegativesRequest request{seed, epoch, start, stop, slots, num_items};
    return negatives_array(request, [&](int64_t* out) { uniform_negatives(request, first_item, threads, out); });
}

inline Array<int64_t> py_unseen(uint64_t seed, uint32_t epoch, int64_t start, int64_t stop, int64_t slots,
                                int64_t num_items, const Array<int64_t>& users, const Array<int64_t>& indptr,
                                const Array<int32_t>& items, int threads) {
    const NegativesRequest request{seed, epoch, start, stop, slots, num_items};
    const PositivesView positives{indptr.data(), items.data()};
    const int64_t* user_data = users.data();
    return negatives_array(request,
                           [&](int64_t* out) { unseen_negatives(request, user_data, positives, threads, out); });
}

inline Array<int64_t> py_popularity(uint64_t seed, uint32_t epoch, int64_t start, int64_t stop, int64_t slots,
                                    int64_t num_items, const Array<uint32_t>& thresholds, const Array<int64_t>& users,
                                    const Array<int64_t>& indptr, const Array<int32_t>& items, int threads) {
    const NegativesRequest request{seed, epoch, start, stop, slots, num_items};
    const PositivesView positives{indptr.data(), items.data()};
    const int64_t* user_data = users.data();
    const uint32_t* threshold_data = thresholds.data();
    return negatives_array(request, [&](int64_t* out) {
        popularity_negatives(request, threshold_data, user_data, positives, threads, out);
    });
}

inline void def_sampling(py::module_& m) {
    m.attr("popularity_attempts") = kPopularityAttempts;
    m.def("draws", &py_draws, py::arg("seed"), py::arg("epoch"), py::arg("stream"), py::arg("start"), py::arg("count"),
          py::arg("attempt"), py::arg("threads"));
    m.def("permutation", &py_permutation, py::arg("seed"), py::arg("epoch"), py::arg("n"), py::arg("start"),
          py::arg("count"), py::arg("threads"));
    m.def("uniform_negatives", &py_uniform, py::arg("seed"), py::arg("epoch"), py::arg("start"), py::arg("stop"),
          py::arg("slots"), py::arg("num_items"), py::arg("first_item"), py::arg("threads"));
    m.def("unseen_negatives", &py_unseen, py::arg("seed"), py::arg("epoch"), py::arg("start"), py::arg("stop"),
          py::arg("slots"), py::arg("num_items"), py::arg("users").noconvert(), py::arg("indptr").noconvert(),
          py::arg("items").noconvert(), py::arg("threads"));
    m.def("popularity_negatives", &py_popularity, py::arg("seed"), py::arg("epoch"), py::arg("start"), py::arg("stop"),
          py::arg("slots"), py::arg("num_items"), py::arg("thresholds").noconvert(), py::arg("users").noconvert(),
          py::arg("indptr").noconvert(), py::arg("items").noconvert(), py::arg("threads"));
}

}  // namespace spotfast::bindings
