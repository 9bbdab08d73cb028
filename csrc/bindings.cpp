// The only file that knows Python. Shapes and ranges are checked in spotfast/ops; here only dtypes are
// (noconvert).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "factorization_epoch.h"
#include "item_rows.h"
#include "list_hits.h"
#include "mixture_scores.h"
#include "negatives.h"
#include "permutation.h"
#include "philox.h"
#include "pooling_epoch.h"
#include "ranks.h"
#include "row_update.h"
#include "scores.h"
#include "sequence_loss.h"
#include "topk.h"
#include "windows.h"

namespace py = pybind11;
using namespace spotfast;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

Array<uint32_t> py_draws(uint64_t seed, uint32_t epoch, uint32_t stream, uint64_t start, int64_t count,
                         uint32_t attempt, int threads) {
    Array<uint32_t> out(count);
    uint32_t* data = out.mutable_data();
    py::gil_scoped_release release;
    draws({seed, epoch, static_cast<Stream>(stream), attempt}, start, count, threads, data);
    return out;
}

Array<int64_t> py_permutation(uint64_t seed, uint32_t epoch, uint64_t n, uint64_t start, int64_t count, int threads) {
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

Array<int64_t> py_uniform(uint64_t seed, uint32_t epoch, int64_t start, int64_t stop, int64_t slots, int64_t num_items,
                          int64_t first_item, int threads) {
    const NegativesRequest request{seed, epoch, start, stop, slots, num_items};
    return negatives_array(request, [&](int64_t* out) { uniform_negatives(request, first_item, threads, out); });
}

Array<int64_t> py_unseen(uint64_t seed, uint32_t epoch, int64_t start, int64_t stop, int64_t slots, int64_t num_items,
                         const Array<int64_t>& users, const Array<int64_t>& indptr, const Array<int32_t>& items,
                         int threads) {
    const NegativesRequest request{seed, epoch, start, stop, slots, num_items};
    const PositivesView positives{indptr.data(), items.data()};
    const int64_t* user_data = users.data();
    return negatives_array(request,
                           [&](int64_t* out) { unseen_negatives(request, user_data, positives, threads, out); });
}

Array<int64_t> py_popularity(uint64_t seed, uint32_t epoch, int64_t start, int64_t stop, int64_t slots,
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
                              num_users,       num_items,       wanted ? wanted->data() : nullptr};
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

int64_t py_num_common(const Array<int64_t>& indptr, const Array<int64_t>& items, const Array<int64_t>& other_indptr,
                      const Array<int64_t>& other_items, int threads) {
    const int64_t *one = indptr.data(), *one_items = items.data();
    const int64_t *other = other_indptr.data(), *others = other_items.data();
    const int64_t rows = indptr.size() - 1;
    py::gil_scoped_release release;
    return num_common(one, one_items, other, others, rows, threads);
}

py::tuple py_list_hits(const Array<int64_t>& lists, const Array<int64_t>& rows, const Array<int64_t>& indptr,
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

py::tuple py_windows(const Array<int64_t>& indptr, const Array<int32_t>& items, int64_t length, int64_t min_length,
                     int64_t step, int threads) {
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

Array<int64_t> py_window_offsets(const Array<int64_t>& indptr, int64_t length, int64_t min_length, int64_t step) {
    Array<int64_t> offsets(indptr.size());
    window_offsets(indptr.data(), indptr.size() - 1, {length, min_length, step}, offsets.mutable_data());
    return offsets;
}

py::tuple py_windows_at(const Array<int64_t>& indptr, const Array<int32_t>& items, const Array<int64_t>& offsets,
                        const Array<int64_t>& index, int64_t length, int64_t min_length, int64_t step, int threads) {
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

using OptionalBiases = std::optional<Array<float>>;

VectorsView view(const Array<float>& vectors, const OptionalBiases& biases) {
    return {vectors.data(), biases ? biases->data() : nullptr, vectors.shape(0)};
}

void py_scores(const Array<float>& user_vectors, const OptionalBiases& user_biases, const Array<float>& item_vectors,
               const OptionalBiases& item_biases, Array<float>& out, int threads) {
    const VectorsView users = view(user_vectors, user_biases), items = view(item_vectors, item_biases);
    const int64_t dim = user_vectors.shape(1);
    float* data = out.mutable_data();
    py::gil_scoped_release release;
    scores(users, items, dim, threads, data);
}

Array<float> py_pair_scores(const Array<float>& user_vectors, const OptionalBiases& user_biases,
                            const Array<float>& item_vectors, const OptionalBiases& item_biases,
                            const Array<int64_t>& user_index, const Array<int64_t>& item_index, int threads) {
    const VectorsView users = view(user_vectors, user_biases), items = view(item_vectors, item_biases);
    const int64_t dim = user_vectors.shape(1), pairs = user_index.size();
    Array<float> out(pairs);
    const int64_t *user_data = user_index.data(), *item_data = item_index.data();
    float* data = out.mutable_data();
    py::gil_scoped_release release;
    pair_scores(users, items, dim, user_data, item_data, pairs, threads, data);
    return out;
}

py::tuple py_rank_counts(const Array<float>& user_vectors, const OptionalBiases& user_biases,
                         const Array<float>& item_vectors, const OptionalBiases& item_biases,
                         const Array<int64_t>& target_indptr, const Array<int64_t>& target_items,
                         const Array<int64_t>& excluded_indptr, const Array<int64_t>& excluded_items, int threads) {
    const VectorsView users = view(user_vectors, user_biases), items = view(item_vectors, item_biases);
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

py::tuple py_topk(const Array<float>& user_vectors, const OptionalBiases& user_biases, const Array<float>& item_vectors,
                  const OptionalBiases& item_biases, const Array<int64_t>& excluded_indptr,
                  const Array<int64_t>& excluded_items, int64_t k, int threads) {
    const VectorsView users = view(user_vectors, user_biases), items = view(item_vectors, item_biases);
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

MixtureShape mixture_shape(const Array<float>& states, const Array<float>& vectors) {
    return {states.shape(0), states.shape(1) / 2, vectors.shape(1), states.shape(2)};
}

Array<float> py_mixture_scores(const Array<float>& states, const Array<float>& vectors, int threads) {
    const MixtureShape shape = mixture_shape(states, vectors);
    Array<float> scores({shape.steps, shape.candidates});
    const float *state_data = states.data(), *vector_data = vectors.data();
    float* data = scores.mutable_data();
    py::gil_scoped_release release;
    mixture_scores(state_data, vector_data, shape, threads, data);
    return scores;
}

py::tuple py_mixture_gradients(const Array<float>& states, const Array<float>& vectors,
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
StatesView states_view(const py::array_t<float>& states) {
    const auto stride = [&](int axis) { return states.strides(axis) / static_cast<int64_t>(sizeof(float)); };
    return {states.data(), states.shape(0), states.shape(1), states.shape(2), stride(0), stride(1)};
}

py::tuple py_sequence_loss(const py::array_t<float>& states, const Array<float>& vectors, const Array<float>& biases,
                           const Array<int64_t>& positives, const Array<int64_t>& negatives, const Array<float>& mask,
                           Loss loss, int threads) {
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

ScoreGradients score_gradients(const Array<int64_t>& positives, const Array<int64_t>& chosen,
                               const Array<float>& coefficients, float scale) {
    return {positives.data(), chosen.data(), coefficients.data(), scale};
}

Array<float> py_sequence_state_gradients(const py::array_t<float>& states, const Array<float>& vectors,
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
py::tuple py_sequence_item_gradients(const py::array_t<float>& states, const Array<int64_t>& positives,
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

// The states that an update rule does not keep are None.
using OptionalState = std::optional<Array<float>>;
using TableArrays = std::tuple<Array<float>, Array<float>, OptionalState, OptionalState, OptionalState, OptionalState>;

// From (vectors, biases, first state, second state, first state of the biases, second state of the biases).
TableView table_view(TableArrays& arrays) {
    auto& [vectors, biases, first, second, bias_first, bias_second] = arrays;
    const auto data = [](OptionalState& state) { return state ? state->mutable_data() : nullptr; };
    return {vectors.mutable_data(), data(first),      data(second),     biases.mutable_data(),      data(bias_first),
            data(bias_second),      vectors.shape(0), vectors.shape(1), first ? first->shape(1) : 0};
}

// Calls `function` from code that runs without the interpreter's lock. What it raises ends the training, and is raised
// again when all rows are up to date.
class PythonReport {
  public:
    explicit PythonReport(py::function function) : function_(std::move(function)) {}
    bool operator()(int64_t positions) {
        const py::gil_scoped_acquire acquire;
        try {
            return function_(positions).cast<bool>();
        } catch (...) {
            failure_ = std::current_exception();
            return false;
        }
    }
    void rethrow() const {
        if (failure_) std::rethrow_exception(failure_);
    }

  private:
    py::function function_;
    std::exception_ptr failure_;
};

template <class T>
const T* data_or_null(const std::optional<Array<T>>& array) {
    return array ? array->data() : nullptr;
}

py::tuple py_factorization_epoch(TableArrays users, TableArrays items, const Array<int32_t>& pairs,
                                 const std::optional<Array<float>>& ratings, const std::optional<Array<float>>& weights,
                                 Sampler sampler, int64_t slots, int64_t num_items, int64_t first_item,
                                 const std::optional<Array<int64_t>>& indptr,
                                 const std::optional<Array<int32_t>>& positives,
                                 const std::optional<Array<uint32_t>>& thresholds, uint64_t seed, uint32_t epoch,
                                 int64_t batch_size, Loss loss, RuleKind rule, const RuleSettings& rule_settings,
                                 int threads, const py::function& report) {
    const TableView user_table = table_view(users), item_table = table_view(items);
    const InteractionsView interactions{pairs.data(), data_or_null(ratings), data_or_null(weights), pairs.shape(0)};
    const SamplingSettings sampling{sampler,
                                    slots,
                                    num_items,
                                    first_item,
                                    {data_or_null(indptr), data_or_null(positives)},
                                    data_or_null(thresholds)};
    const EpochSettings settings{seed, epoch, batch_size, loss, rule, rule_settings, threads};
    PythonReport python_report(report);
    EpochResult result;
    {
        py::gil_scoped_release release;
        result = factorization_epoch(user_table, item_table, interactions, sampling, settings, std::ref(python_report));
    }
    python_report.rethrow();
    return py::make_tuple(result.loss, result.batches);
}

py::tuple py_pooling_epoch(TableArrays items, const Array<int32_t>& sequences, int64_t start, int64_t slots,
                           int64_t num_items, uint64_t seed, uint32_t epoch, int64_t batch_size, Loss loss,
                           RuleKind rule, const RuleSettings& rule_settings, int threads, const py::function& report) {
    const TableView table = table_view(items);
    const SequencesView view{sequences.data(), start, sequences.shape(0), sequences.shape(1)};
    const EpochSettings settings{seed, epoch, batch_size, loss, rule, rule_settings, threads};
    PythonReport python_report(report);
    EpochResult result;
    {
        py::gil_scoped_release release;
        result = pooling_epoch(table, view, slots, num_items, settings, std::ref(python_report));
    }
    python_report.rethrow();
    return py::make_tuple(result.loss, result.batches);
}

void def_training(py::module_& m) {
    py::enum_<Sampler>(m, "Sampler", py::module_local())
        .value("none", Sampler::none)
        .value("uniform", Sampler::uniform)
        .value("unseen", Sampler::unseen)
        .value("popularity", Sampler::popularity);
    py::enum_<Loss>(m, "Loss", py::module_local())
        .value("pointwise", Loss::pointwise)
        .value("bpr", Loss::bpr)
        .value("hinge", Loss::hinge)
        .value("adaptive_hinge", Loss::adaptive_hinge)
        .value("regression", Loss::regression)
        .value("poisson", Loss::poisson)
        .value("logistic", Loss::logistic);
    py::enum_<RuleKind>(m, "Rule", py::module_local())
        .value("adam", RuleKind::adam)
        .value("sparse_adam", RuleKind::sparse_adam)
        .value("sgd", RuleKind::sgd)
        .value("momentum", RuleKind::momentum)
        .value("adagrad", RuleKind::adagrad)
        .value("rowwise_adagrad", RuleKind::rowwise_adagrad);
    py::class_<RuleSettings>(m, "RuleSettings", py::module_local())
        .def(py::init([](double learning_rate, double beta1, double beta2, double eps, double weight_decay,
                         bool decoupled, double momentum, double lr_decay, int64_t steps) {
                 return RuleSettings{
                     learning_rate, {beta1, beta2, eps, weight_decay, decoupled}, momentum, eps, lr_decay, steps};
             }),
             py::kw_only(), py::arg("learning_rate"), py::arg("beta1"), py::arg("beta2"), py::arg("eps"),
             py::arg("weight_decay"), py::arg("decoupled"), py::arg("momentum"), py::arg("lr_decay"), py::arg("steps"));
    m.def("factorization_epoch", &py_factorization_epoch, py::kw_only(), py::arg("users").noconvert(),
          py::arg("items").noconvert(), py::arg("pairs").noconvert(), py::arg("ratings").noconvert(),
          py::arg("weights").noconvert(), py::arg("sampler"), py::arg("slots"), py::arg("num_items"),
          py::arg("first_item"), py::arg("indptr").noconvert(), py::arg("positives").noconvert(),
          py::arg("thresholds").noconvert(), py::arg("seed"), py::arg("epoch"), py::arg("batch_size"), py::arg("loss"),
          py::arg("rule"), py::arg("rule_settings"), py::arg("threads"), py::arg("report"));
    m.def("pooling_epoch", &py_pooling_epoch, py::kw_only(), py::arg("items").noconvert(),
          py::arg("sequences").noconvert(), py::arg("start"), py::arg("slots"), py::arg("num_items"), py::arg("seed"),
          py::arg("epoch"), py::arg("batch_size"), py::arg("loss"), py::arg("rule"), py::arg("rule_settings"),
          py::arg("threads"), py::arg("report"));
}

AdamTable adam_table(Array<float>& weights, Array<float>& first, Array<float>& second) {
    return {weights.mutable_data(), first.mutable_data(), second.mutable_data(), weights.shape(1)};
}

bool py_catch_up(DeferredRows& rows, Array<float>& weights, Array<float>& first, Array<float>& second,
                 const Array<int64_t>& ids, int threads) {
    const AdamTable table = adam_table(weights, first, second);
    const int64_t *data = ids.data(), count = ids.size();
    py::gil_scoped_release release;
    return rows.catch_up(table, data, count, threads);
}

void py_update(DeferredRows& rows, Array<float>& weights, Array<float>& first, Array<float>& second,
               const Array<int64_t>& ids, const Array<float>& gradients, double learning_rate, int threads) {
    const AdamTable table = adam_table(weights, first, second);
    const int64_t *data = ids.data(), count = ids.size();
    const float* gradient_data = gradients.data();
    py::gil_scoped_release release;
    rows.update(table, data, gradient_data, count, learning_rate, threads);
}

void py_flush(DeferredRows& rows, Array<float>& weights, Array<float>& first, Array<float>& second, int threads) {
    const AdamTable table = adam_table(weights, first, second);
    py::gil_scoped_release release;
    rows.flush(table, threads);
}

void def_row_update(py::module_& m) {
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

// Whether this CPU can run the build with AVX2 and FMA.
bool cpu_has_avx2_fma() {
#if defined(__GNUC__) && defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return false;
#endif
}

}  // namespace

PYBIND11_MODULE(SPOTFAST_MODULE, m) {
    m.doc() = "C++ engine of spotfast. Called through spotfast.ops, which checks the arguments.";
    m.attr("popularity_attempts") = kPopularityAttempts;
    m.def("cpu_has_avx2_fma", &cpu_has_avx2_fma);
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
    def_histories<int32_t, int64_t>(m);
    def_histories<int32_t, double>(m);
    def_histories<int64_t, int64_t>(m);
    def_histories<int64_t, double>(m);
    def_item_rows<int32_t>(m);
    def_item_rows<int64_t>(m);
    m.def("num_common", &py_num_common, py::arg("indptr").noconvert(), py::arg("items").noconvert(),
          py::arg("other_indptr").noconvert(), py::arg("other_items").noconvert(), py::arg("threads"));
    m.def("list_hits", &py_list_hits, py::arg("lists").noconvert(), py::arg("rows").noconvert(),
          py::arg("indptr").noconvert(), py::arg("items").noconvert(), py::arg("threads"));
    m.def("windows", &py_windows, py::arg("indptr").noconvert(), py::arg("items").noconvert(), py::arg("length"),
          py::arg("min_length"), py::arg("step"), py::arg("threads"));
    m.def("window_offsets", &py_window_offsets, py::arg("indptr").noconvert(), py::arg("length"), py::arg("min_length"),
          py::arg("step"));
    m.def("windows_at", &py_windows_at, py::arg("indptr").noconvert(), py::arg("items").noconvert(),
          py::arg("offsets").noconvert(), py::arg("index").noconvert(), py::arg("length"), py::arg("min_length"),
          py::arg("step"), py::arg("threads"));
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
    def_training(m);
    def_row_update(m);
}
