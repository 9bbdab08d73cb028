// Dense Adam at the cost of the rows touched, for a plain table in memory that is not ours.
//
// A row without a gradient takes its steps when it is next read: `catch_up` before a lookup, `flush` before anything
// else reads the table. With an L2 penalty, `update` sweeps rows, too, so that a flush is never long. Each row is moved
// by the thread that owns it, and gradients of a row are summed in the order in which they come, so the number of
// threads does not change a bit.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "owed_steps.h"

namespace spotfast {

// Weights and moments: rows of `dim` floats each.
struct AdamTable {
    float *weights, *first, *second;
    int64_t dim;

    RowView row(int64_t id) const {
        const int64_t at = id * dim;
        return {weights + at, first + at, second + at, dim, nullptr, nullptr, nullptr};
    }
};

// Up to which step each row of a table is done. Methods take the same table each time; one thread at a time is let in.
class DeferredRows {
  public:
    // All rows are up to date after `steps` steps. After 0 steps, their moments are zero.
    DeferredRows(int64_t rows, const AdamSettings& settings, int64_t steps);

    // Brings rows up to date; ids may repeat. Returns whether any was behind.
    // Throws std::out_of_range, and changes nothing, for an id that is not in [0, rows).
    bool catch_up(const AdamTable& table, const int64_t* ids, int64_t count, int threads);

    // Takes a step. Entry i is a gradient of row ids[i]; those of one row are summed. Throws as `catch_up` does.
    void update(const AdamTable& table, const int64_t* ids, const float* gradients, int64_t entries,
                double learning_rate, int threads);

    // Brings all rows up to date.
    void flush(const AdamTable& table, int threads);

  private:
    // The entries of one row in a step: a list through `Scratch::next`.
    struct Entries {
        int64_t row;
        int32_t first, last;
    };
    struct Member {
        std::vector<int32_t> own;  // the entries whose rows it owns
        int64_t own_count = 0;
        std::vector<Entries> rows;
        std::vector<float> sum;  // the gradient of one row
        bool moved = false;
    };

    void check(const int64_t* ids, int64_t count) const;
    void make_room(int64_t count, int64_t dim, int members);
    void select(int member, int members, const int64_t* ids, int64_t count);
    template <class Visit>
    void each_own(int member, const AdamTable& table, const int64_t* ids, const Visit& visit);
    bool owes(int64_t row) const { return last_[row] >= 0 && last_[row] < owed_.taken(); }
    void sweep(int member, int members, const AdamTable& table);
    void collect(int member, const AdamTable& table, const int64_t* ids);
    void step(int member, const AdamTable& table, const float* gradients);
    void flush_all(const AdamTable& table, int threads);

    OwedSteps owed_;
    // By row, the last step that it took, counted as `owed_` does; kUntouched; or, within `update`, the place in
    // `Member::rows` of a row that has a gradient, as `marked` writes it.
    std::vector<int32_t> last_;
    std::vector<int32_t> next_;  // by entry, the next one of the same row
    std::vector<Member> members_;
    std::mutex mutex_;
};

}  // namespace spotfast
