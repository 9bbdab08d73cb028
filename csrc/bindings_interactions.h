// Bindings of what interactions are turned into: histories, rows of items, windows.
#pragma once

#include <cstdint>
#include <optional>

#include "bindings_arrays.h"
#include "item_rows.h"
#include "windows.h"

namespace spotfast::bindings {

template <class Id, class Timestamp>
py::tuple py_histories(const Array<Id>& user_ids, const Array<Id>& item_ids, const Array<Timestamp>& timestamps,
                       int64_t num_users, int threads) {
    const int64_t count = user_ids.size();
    Array<int64_t> indptr(num_users + 1);
    Array<int32_t> items(count);
    const Id *user_data = user_ids.data(), *item_data = item_ids.data();
    const Timestamp* time_data = timestamps.data();
    int64_t* indptr_data = indptr.mutable_data();
    int32_t* items_data = items.mutable_data();
    {
        py::gil_scoped_release release;
        histories(user_data, item_data, time_data, count, num_users, threads, indptr_data, items_data);
    }
    return py::make_tuple(indptr, items);
}

template <class Id, class Timestamp>
void def_histories(py::module_& m) {
    m.def("histories", &py_histories<Id, Timestamp>, py::arg("user_ids").noconvert(), py::arg("item_ids").noconvert(),
          py::arg("timestamps").noconvert(), py::arg("num_users"), py::arg("threads"));
}

template <class Id>
py::tuple py_item_rows(const Array<Id>& user_ids, const Array<Id>& item_ids, int64_t num_users, int64_t num_items,
                       const std::optional<Array<bool>>& wanted, int threads) {
    const PairsView<Id> pairs{user_ids.data(), item_ids.data(), user_ids.size(),
                              num_users,       num_items,       data_or_null(wanted)};
    Array<int64_t> indptr(num_users + 1), items(pairs.count);
    int64_t *indptr_data = indptr.mutable_data(), *items_data = items.mutable_data();
    ItemRowsSize size;
    {
        py::gil_scoped_release release;
        size = item_rows(pairs, threads, indptr_data, items_data);
    }
    if (size.count < pairs.count) items.resize({size.count});
    return py::make_tuple(indptr, items, size.bound);
}

template <class Id>
void def_item_rows(py::module_& m) {
    m.def("item_rows", &py_item_rows<Id>, py::arg("user_ids").noconvert(), py::arg("item_ids").noconvert(),
          py::arg("num_users"), py::arg("num_items"), py::arg("wanted").noconvert(), py::arg("threads"));
}

inline int64_t py_num_common(const Array<int64_t>& indptr, const Array<int64_t>& items,
                             const Array<int64_t>& other_indptr, const Array<int64_t>& other_items, int threads) {
    const int64_t *one = indptr.data(), *one_items = items.data();
    const int64_t *other = other_indptr.data(), *others = other_items.data();
    const int64_t rows = indptr.size() - 1;
    py::gil_scoped_release release;
    return num_common(one, one_items, other, others, rows, threads);
}

inline py::tuple py_windows(const Array<int64_t>& indptr, const Array<int32_t>& items, int64_t length,
                            int64_t min_length, int64_t step, int threads) {
    const int64_t num_users = indptr.size() - 1;
    const WindowShape shape{length, min_length, step};
    Array<int64_t> offsets(num_users + 1);
    window_offsets(indptr.data(), num_users, shape, offsets.mutable_data());
    const int64_t count = offsets.data()[num_users];
    Array<int32_t> sequences({count, length});
    Array<int32_t> user_ids(count);
    const int64_t *indptr_data = indptr.data(), *offset_data = offsets.data();
    const int32_t* items_data = items.data();
    int32_t *sequence_data = sequences.mutable_data(), *user_data = user_ids.mutable_data();
    {
        py::gil_scoped_release release;
        windows(indptr_data, items_data, num_users, shape, offset_data, threads, sequence_data, user_data);
    }
    return py::make_tuple(sequences, user_ids);
}

inline Array<int64_t> py_window_offsets(const Array<int64_t>& indptr, int64_t length, int64_t min_length,
                                        int64_t step) {
    Array<int64_t> offsets(indptr.size());
    window_offsets(indptr.data(), indptr.size() - 1, {length, min_length, step}, offsets.mutable_data());
    return offsets;
}

inline py::tuple py_windows_at(const Array<int64_t>& indptr, const Array<int32_t>& items, const Array<int64_t>& offsets,
                               const Array<int64_t>& index, int64_t length, int64_t min_length, int64_t step,
                               int threads) {
    const int64_t count = index.size();
    const WindowsView view{indptr.data(), items.data(), offsets.data(), indptr.size() - 1, items.size()};
    Array<int32_t> sequences({count, length});
    Array<int32_t> user_ids(count);
    const int64_t* index_data = index.data();
    int32_t *sequence_data = sequences.mutable_data(), *user_data = user_ids.mutable_data();
    {
        py::gil_scoped_release release;
        windows_at(view, {length, min_length, step}, index_data, count, threads, sequence_data, user_data);
    }
    return py::make_tuple(sequences, user_ids);
}

inline void def_interactions(py::module_& m) {
    def_histories<int32_t, int64_t>(m);
    def_histories<int32_t, double>(m);
    def_histories<int64_t, int64_t>(m);
    def_histories<int64_t, double>(m);
    def_item_rows<int32_t>(m);
    def_item_rows<int64_t>(m);
    m.def("num_common", &py_num_common, py::arg("indptr").noconvert(), py::arg("items").noconvert(),
          py::arg("other_indptr").noconvert(), py::arg("other_items").noconvert(), py::arg("threads"));
    m.def("windows", &py_windows, py::arg("indptr").noconvert(), py::arg("items").noconvert(), py::arg("length"),
          py::arg("min_length"), py::arg("step"), py::arg("threads"));
    m.def("window_offsets", &py_window_offsets, py::arg("indptr").noconvert(), py::arg("length"), py::arg("min_length"),
          py::arg("step"));
    m.def("windows_at", &py_windows_at, py::arg("indptr").noconvert(), py::arg("items").noconvert(),
          py::arg("offsets").noconvert(), py::arg("index").noconvert(), py::arg("length"), py::arg("min_length"),
          py::arg("step"), py::arg("threads"));
}

}  // namespace spotfast::bindings
