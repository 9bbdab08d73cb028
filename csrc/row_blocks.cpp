#include "row_blocks.h"

#include <algorithm>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace spotfast {

namespace {

constexpr int64_t kLine = 16;                            // floats
constexpr std::align_val_t kHugePage{int64_t{1} << 21};  // bytes
constexpr int64_t kGrain = 1 << 12;                      // rows per thread, at least

int64_t padded(int64_t count, int64_t to) { return (count + to - 1) / to * to; }

// Rows are read in random order: with small pages, each would cost a walk through the page table.
float* allocate(int64_t count) {
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(float);
    void* memory = ::operator new(bytes, kHugePage);
#if defined(__linux__)
    madvise(memory, bytes, MADV_HUGEPAGE);  // a wish: without it, all works as well, slower
#endif
    return static_cast<float*>(memory);
}

}  // namespace

void RowBlocks::Free::operator()(float* memory) const { ::operator delete(memory, kHugePage); }

RowBlocks::RowBlocks(const TableView& table, Team& team) : table_(table), width_(padded(table.dim, kRegister)) {
    const int64_t state = padded(table.state_dim, kRegister);
    first_ = width_;
    second_ = first_ + (table.first != nullptr ? state : 0);
    stride_ = padded(kHeader + second_ + (table.second != nullptr ? state : 0), kLine);
    blocks_.reset(allocate(table.rows * stride_));
    const int members = static_cast<int>(std::clamp<int64_t>(table.rows / kGrain, 1, team.size()));
    team.run(members, [&](int member) {
        const int64_t begin = table.rows * member / members, end = table.rows * (member + 1) / members;
        std::fill(blocks_.get() + begin * stride_, blocks_.get() + end * stride_, 0.0f);
        for (int64_t row = begin; row < end; ++row) {
            const RowView own = view(row);
            std::copy_n(table.weights + row * table.dim, table.dim, own.weights);
            *own.bias = table.bias[row];
            if (table.first != nullptr) {
                std::copy_n(table.first + row * table.state_dim, table.state_dim, own.first);
                *own.bias_first = table.bias_first[row];
            }
            if (table.second != nullptr) {
                std::copy_n(table.second + row * table.state_dim, table.state_dim, own.second);
                *own.bias_second = table.bias_second[row];
            }
        }
    });
}

void RowBlocks::unpack(int64_t begin, int64_t end) const {
    for (int64_t row = begin; row < end; ++row) {
        const RowView own = view(row);
        std::copy_n(own.weights, table_.dim, table_.weights + row * table_.dim);
        table_.bias[row] = *own.bias;
        if (table_.first != nullptr) {
            std::copy_n(own.first, table_.state_dim, table_.first + row * table_.state_dim);
            table_.bias_first[row] = *own.bias_first;
        }
        if (table_.second != nullptr) {
            std::copy_n(own.second, table_.state_dim, table_.second + row * table_.state_dim);
            table_.bias_second[row] = *own.bias_second;
        }
    }
}

}  // namespace spotfast
