// Bindings of scores, ranks, the best items, and the hits of lists.
#pragma once

#include <cstdint>
#include <optional>

#include "bindings_arrays.h"
#include "list_hits.h"
#include "ranks.h"
#include "scores.h"
#include "topk.h"

namespace spotfast::bindings {

inline py::tuple py_list_hits(const Array<int64_t>& lists, const Array<int64_t>& rows, const Array<int64_t>& indptr,
                              const Array<int64_t>& items, int threads) {
    const ListsView view{lists.data(), rows.data(), lists.shape(0), lists.shape(1)};
    const RowsView relevant{indptr.data(), items.data()};
    Array<bool> found({view.count, view.length});
    Array<int64_t> lengths(view.count), repeated(view.count);
    const ListHits hits{found.mutable_data(), lengths.mutable_data(), repeated.mutable_data()};
    {
        py::gil_scoped_release release;
        list_hits(view, relevant, threads, hits);
    }
    return py::make_tuple(found, lengths, repeated);
}

using OptionalBiases = std::optional<Array<float>>;

inline VectorsView vectors_view(const Array<float>& vectors, const OptionalBiases& biases) {
    return {vectors.data(), data_or_null(biases), vectors.shape(0)};
}

inline void py_scores(const Array<float>& user_vectors, const OptionalBiases& user_biases,
                      const Array<float>& item_vectors, const OptionalBiases& item_biases, Array<float>& out,
                      int threads) {
    const VectorsView users = vectors_view(user_vectors, user_biases), items = vectors_view(item_vectors, item_biases);
    const int64_t dim = user_vectors.shape(1);
    float* data = out.mutable_data();
    py::gil_scoped_release release;
    scores(users, items, dim, threads, data);
}

inline Array<float> py_pair_scores(const Array<float>& user_vectors, const OptionalBiases& user_biases,
                                   const Array<float>& item_vectors, const OptionalBiases& item_biases,
                                   const Array<int64_t>& user_index, const Array<int64_t>& item_index, int threads) {
    const VectorsView users = vectors_view(user_vectors, user_biases), items = vectors_view(item_vectors, item_biases);
    const int64_t dim = user_vectors.shape(1), pairs = user_index.size();
    Array<float> out(pairs);
    const int64_t *user_data = user_index.data(), *item_data = item_index.data();
    float* data = out.mutable_data();
    py::gil_scoped_release release;
    pair_scores(users, items, dim, user_data, item_data, pairs, threads, data);
    return out;
}

inline py::tuple py_rank_counts(const Array<float>& user_vectors, const OptionalBiases& user_biases,
                                const Array<float>& item_vectors, const OptionalBiases& item_biases,
                                const Array<int64_t>& target_indptr, const Array<int64_t>& target_items,
                                const Array<int64_t>& excluded_indptr, const Array<int64_t>& excluded_items,
                                int threads) {
    const VectorsView users = vectors_view(user_vectors, user_biases), items = vectors_view(item_vectors, item_biases);
    const RowsView targets{target_indptr.data(), target_items.data()};
    const RowsView excluded{excluded_indptr.data(), excluded_items.data()};
    const int64_t dim = user_vectors.shape(1), count = target_items.size();
    Array<int64_t> above(count), equal(count), before(count);
    const RankCounts counts{above.mutable_data(), equal.mutable_data(), before.mutable_data()};
    {
        py::gil_scoped_release release;
        rank_counts(users, items, dim, targets, excluded, threads, counts);
    }
    return py::make_tuple(above, equal, before);
}

inline py::tuple py_topk(const Array<float>& user_vectors, const OptionalBiases& user_biases,
                         const Array<float>& item_vectors, const OptionalBiases& item_biases,
                         const Array<int64_t>& excluded_indptr, const Array<int64_t>& excluded_items, int64_t k,
                         int threads) {
    const VectorsView users = vectors_view(user_vectors, user_biases), items = vectors_view(item_vectors, item_biases);
    const RowsView excluded{excluded_indptr.data(), excluded_items.data()};
    const int64_t dim = user_vectors.shape(1);
    Array<int64_t> ids({users.rows, k});
    Array<float> best({users.rows, k});
    int64_t* id_data = ids.mutable_data();
    float* score_data = best.mutable_data();
    {
        py::gil_scoped_release release;
        topk(users, items, dim, excluded, k, threads, id_data, score_data);
    }
    return py::make_tuple(ids, best);
}

inline void def_ranking(py::module_& m) {
    m.def("list_hits", &py_list_hits, py::arg("lists").noconvert(), py::arg("rows").noconvert(),
          py::arg("indptr").noconvert(), py::arg("items").noconvert(), py::arg("threads"));
    m.def("scores", &py_scores, py::arg("user_vectors").noconvert(), py::arg("user_biases").noconvert(),
          py::arg("item_vectors").noconvert(), py::arg("item_biases").noconvert(), py::arg("out").noconvert(),
          py::arg("threads"));
    m.def("pair_scores", &py_pair_scores, py::arg("user_vectors").noconvert(), py::arg("user_biases").noconvert(),
          py::arg("item_vectors").noconvert(), py::arg("item_biases").noconvert(), py::arg("user_index").noconvert(),
          py::arg("item_index").noconvert(), py::arg("threads"));
    m.def("rank_counts", &py_rank_counts, py::arg("user_vectors").noconvert(), py::arg("user_biases").noconvert(),
          py::arg("item_vectors").noconvert(), py::arg("item_biases").noconvert(), py::arg("target_indptr").noconvert(),
          py::arg("target_items").noconvert(), py::arg("excluded_indptr").noconvert(),
          py::arg("excluded_items").noconvert(), py::arg("threads"));
    m.def("topk", &py_topk, py::arg("user_vectors").noconvert(), py::arg("user_biases").noconvert(),
          py::arg("item_vectors").noconvert(), py::arg("item_biases").noconvert(),
          py::arg("excluded_indptr").noconvert(), py::arg("excluded_items").noconvert(), py::arg("k"),
          py::arg("threads"));
}

}  // namespace spotfast::bindings
