// An epoch of training a factorization model: order, negatives, scores, loss, gradients, updates.
//
// A batch is scored with the weights from before it; the gradients of a row are summed over the batch before it moves.
// A row is moved by the thread that owns it, and its gradients are summed in the order of the samples, so the results
// have the same bits for any number of threads.
#pragma once

#include <cstdint>
#include <functional>

#include "epoch_samples.h"
#include "row_blocks.h"
#include "score_loss.h"
#include "update_rules.h"

namespace spotfast {

struct EpochSettings {
    uint64_t seed;
    uint32_t epoch;
    int64_t batch_size;
    Loss loss;
    RuleKind rule;
    RuleSettings rule_settings;
    int threads;
};

struct EpochResult {
    double loss;      // the mean of the batches' losses
    int64_t batches;  // that were trained: fewer than the epoch has if it was stopped
};

// Called now and then, and at the end, with the number of positions done; returns whether to go on.
using Report = std::function<bool(int64_t)>;

// Trains in place. When it returns, stopped or not, every row is up to date.
EpochResult factorization_epoch(const TableView& users, const TableView& items, const InteractionsView& interactions,
                                const SamplingSettings& sampling, const EpochSettings& settings, const Report& report);

}  // namespace spotfast
