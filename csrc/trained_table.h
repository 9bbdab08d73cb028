// A table while it is trained: its rows in blocks, and which of them the batch touches.
#pragma once

#include <chrono>
#include <cstdint>

#include "batch_rows.h"
#include "poison.h"
#include "row_blocks.h"
#include "team.h"
#include "vectors.h"

namespace spotfast {

constexpr std::chrono::milliseconds kReportEvery{50};  // progress

// Biases come one by one: known at compile time for several floats.
template <class V>
constexpr bool is_bias(int64_t offset) {
    return V::kSize == 1 && offset < 0;
}

class TrainedTable {
  public:
    // For batches of at most `entries` ids.
    TrainedTable(const TableView& table, int64_t entries, Team& team)
        : blocks(table, team), rows(entries, team.size()) {}

    // Brings the rows of the selected entries up to date, and sweeps the rows whose turn it is.
    template <class Rule>
    void collect(int member, int members, uint32_t batch, const int32_t* ids, const Rule& rule) {
        sweep(member, members, rule);
        const auto taken = static_cast<uint32_t>(rule.taken());
        rows.collect(member, blocks, batch, ids, [&](int32_t row, RowHeader& header) {
            rule.catch_up(blocks.view(row), header.last);
            header.last = taken;
        });
    }

    template <class Rule, class Gradient>
    void update(int32_t row, const Rule& rule, const Gradient& gradient) const {
        rule.update(blocks.view(row), gradient);
        blocks.header(row).last = static_cast<uint32_t>(rule.taken());
    }

    // Brings every row up to date, on all members; the rule must be restarted, or done with. `visit` is called for
    // ranges of rows that are.
    template <class Rule, class Visit>
    void catch_up_all(Team& team, const Rule& rule, const Visit& visit) const {
        const int members = team.size();
        team.run(members, [&](int member) {
            const int64_t begin = blocks.rows() * member / members, end = blocks.rows() * (member + 1) / members;
            for (int64_t row = begin; row < end; ++row) {
                RowHeader& header = blocks.header(row);
                rule.catch_up(blocks.view(row), header.last);
                header.last = 0;
            }
            visit(begin, end);
        });
    }

    // The same, and copies all rows back to where they came from.
    template <class Rule>
    void finish(Team& team, const Rule& rule) const {
        catch_up_all(team, rule, [&](int64_t begin, int64_t end) { blocks.unpack(begin, end); });
    }

    RowBlocks blocks;
    BatchRows rows;

  private:
    // Before any is collected: those should stay in the cache.
    template <class Rule>
    void sweep(int member, int members, const Rule& rule) const {
        const RowRange range = rule.to_sweep(blocks.rows());
        for (int64_t row = range.begin; row < range.end; ++row) {
            if (!owns(member, members, static_cast<int32_t>(row))) continue;
            RowHeader& header = blocks.header(row);
            header.last = static_cast<uint32_t>(rule.sweep(blocks.view(row), header.last));
        }
    }
};

// The rows of the selected entries of a batch, asked for from memory one by one while the batch before is computed
// with.
class NextRows {
  public:
    NextRows(const TrainedTable& table, const int32_t* ids, int member)
        : blocks_(table.blocks),
          ids_(ids),
          entries_(table.rows.entries(member)),
          count_(ids == nullptr ? 0 : table.rows.entry_count(member)) {}

    int64_t bytes() const { return count_ * blocks_.bytes(); }
    void drop() { count_ = 0; }
    // Returns whether there was one left.
    bool prefetch() {
        if (done_ >= count_) return false;
        blocks_.prefetch_row<Prefetch::second_level>(ids_[entries_[done_++]]);
        return true;
    }

  private:
    const RowBlocks& blocks_;
    const int32_t *ids_, *entries_;
    int64_t count_, done_ = 0;
};

}  // namespace spotfast
