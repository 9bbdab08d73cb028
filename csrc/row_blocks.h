// A table in the layout of the training engine: everything about a row in one block of memory.
//
//     | header: bias, its states, what training notes about the row | weights | first state | second state |
//
// Each part is padded with zeros to whole registers. A row costs one stretch of cache lines, whatever the update rule
// keeps, and a random access to a table one page of memory.
#pragma once

#include <cstdint>
#include <memory>

#include "owed_steps.h"
#include "team.h"

namespace spotfast {

// A table and its optimizer state as torch has them: vectors of `dim` floats and one bias per row. States have
// `state_dim` floats per row, and one for the bias; those that the update rule does not keep are null.
struct TableView {
    float *weights, *first, *second;
    float *bias, *bias_first, *bias_second;
    int64_t rows, dim, state_dim;
};

struct RowHeader {
    float bias, bias_first, bias_second;
    uint32_t last;   // the step up to which the row is done, counted from when all rows were
    uint32_t batch;  // the last batch, counted from 1, that has the row
    int32_t slot;    // and which of its rows it is
};

class RowBlocks {
  public:
    // Copies a table in, on all members.
    RowBlocks(const TableView& table, Team& team);
    // Copies the rows [begin, end) back.
    void unpack(int64_t begin, int64_t end) const;

    int64_t rows() const { return table_.rows; }
    int64_t width() const { return width_; }  // of the weights, with padding
    float* weights(int64_t row) const { return blocks_.get() + row * stride_ + kHeader; }
    RowHeader& header(int64_t row) const { return *reinterpret_cast<RowHeader*>(blocks_.get() + row * stride_); }
    RowView view(int64_t row) const {
        float* own = weights(row);
        RowHeader& notes = header(row);
        // A state that is not kept is never touched: any address will do.
        return {own, own + first_, own + second_, width_, &notes.bias, &notes.bias_first, &notes.bias_second};
    }
    int64_t bytes() const { return stride_ * int64_t{sizeof(float)}; }  // of a row
    template <Prefetch kind>
    void prefetch_row(int64_t row) const {
        prefetch<kind>(&header(row), bytes());
    }
    void prefetch_weights(int64_t row) const { prefetch(&header(row), (kHeader + width_) * int64_t{sizeof(float)}); }

  private:
    static constexpr int64_t kRegister = 8;  // floats
    static constexpr int64_t kHeader = 8;    // floats that the header takes
    static_assert(sizeof(RowHeader) <= kHeader * sizeof(float));

    struct Free {
        void operator()(float* memory) const;
    };

    TableView table_;
    int64_t width_, first_, second_, stride_;
    std::unique_ptr<float[], Free> blocks_;
};

}  // namespace spotfast
