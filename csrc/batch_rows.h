// Which rows of a table a batch touches, and where in the batch: for each row the list of its entries, in order.
//
// Every thread keeps the rows that it owns.
#pragma once

#include <cstdint>
#include <vector>

#include "owners.h"
#include "poison.h"
#include "row_blocks.h"

namespace spotfast {

constexpr int32_t kNoRow = -1;

class BatchRows {
  public:
    struct Entries {
        int32_t row, first, last;
    };

    // Room for batches of `entries`, worked on by `members`.
    BatchRows(int64_t entries, int members)
        : next_{std::vector<int32_t>(entries, kNowhere), std::vector<int32_t>(entries, kNowhere)},
          own_(members, std::vector<int32_t>(entries + 1, kNowhere)),
          own_count_(members),
          rows_(members) {}

    // Selects the entries of a batch, ids[0 .. count), whose rows `member` owns. An entry of kNoRow is nobody's.
    void select(int member, int members, const int32_t* ids, int64_t count) {
        int32_t* own = own_[member].data();
        int64_t owned = 0;
        for (int64_t i = 0; i < count; ++i) {  // no branch: which rows are whose cannot be predicted
            own[owned] = static_cast<int32_t>(i);
            owned += static_cast<int>(ids[i] >= 0) & static_cast<int>(owns(member, members, ids[i]));
        }
        own_count_[member] = owned;
    }

    // Notes the rows of the entries that were selected. Calls on_new(row, header) when one is met for the first time.
    template <class OnNew>
    void collect(int member, const RowBlocks& blocks, uint32_t batch, const int32_t* ids, const OnNew& on_new) {
        const int32_t* own = own_[member].data();
        const int64_t owned = own_count_[member];
        auto& rows = rows_[member];
        int32_t* next = next_[batch % 2].data();
        rows.clear();
        for (int64_t i = 0; i < owned; ++i) {
            if (i + kAhead < owned) blocks.prefetch_row<Prefetch::write>(ids[own[i + kAhead]]);
            const int32_t entry = own[i], row = ids[entry];
            next[entry] = -1;
            RowHeader& header = blocks.header(row);
            if (header.batch == batch) {
                int32_t& last = rows[header.slot].last;
                next[last] = entry;
                last = entry;
            } else {
                header.batch = batch;
                header.slot = static_cast<int32_t>(rows.size());
                rows.push_back({row, entry, entry});
                on_new(row, header);
            }
        }
    }

    // The rows that `member` collected, and the entries that it selected.
    const std::vector<Entries>& rows(int member) const { return rows_[member]; }
    const int32_t* entries(int member) const { return own_[member].data(); }
    int64_t entry_count(int member) const { return own_count_[member]; }

    // Calls visit(entry) for the entries of a row of the batch, in order.
    template <class Visit>
    void each(uint32_t batch, const Entries& entries, const Visit& visit) const {
        const int32_t* next = next_[batch % 2].data();
        for (int32_t entry = entries.first; entry >= 0; entry = next[entry]) visit(entry);
    }

  private:
    static constexpr int64_t kAhead = 12;

    // By entry, for even and for odd batches: one member may collect the next batch while another still updates.
    std::vector<int32_t> next_[2];
    std::vector<std::vector<int32_t>> own_;  // by member; one more, for the loop that writes before it knows
    std::vector<int64_t> own_count_;
    std::vector<std::vector<Entries>> rows_;
};

}  // namespace spotfast
