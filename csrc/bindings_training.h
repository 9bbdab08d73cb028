// Bindings of epochs in the engine: of factorization models, and of the pooling sequence model.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <tuple>
#include <utility>

#include "bindings_arrays.h"
#include "factorization_epoch.h"
#include "pooling_epoch.h"

namespace spotfast::bindings {

// The states that an update rule does not keep are None.
using OptionalState = std::optional<Array<float>>;
using TableArrays = std::tuple<Array<float>, Array<float>, OptionalState, OptionalState, OptionalState, OptionalState>;

// From (vectors, biases, first state, second state, first state of the biases, second state of the biases).
inline TableView table_view(TableArrays& arrays) {
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

inline py::tuple py_factorization_epoch(
    TableArrays users, TableArrays items, const Array<int32_t>& pairs, const std::optional<Array<float>>& ratings,
    const std::optional<Array<float>>& weights, Sampler sampler, int64_t slots, int64_t num_items, int64_t first_item,
    const std::optional<Array<int64_t>>& indptr, const std::optional<Array<int32_t>>& positives,
    const std::optional<Array<uint32_t>>& thresholds, uint64_t seed, uint32_t epoch, int64_t batch_size, Loss loss,
    RuleKind rule, const RuleSettings& rule_settings, int threads, const py::function& report) {
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

inline py::tuple py_pooling_epoch(TableArrays items, const Array<int32_t>& sequences, int64_t start, int64_t slots,
                                  int64_t num_items, uint64_t seed, uint32_t epoch, int64_t batch_size, Loss loss,
                                  RuleKind rule, const RuleSettings& rule_settings, int threads,
                                  const py::function& report) {
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

inline void def_training(py::module_& m) {
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

}  // namespace spotfast::bindings
