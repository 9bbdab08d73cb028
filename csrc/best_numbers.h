// The few largest of the numbers seen so far.
#pragma once

#include <cstdint>

namespace spotfast {

// The `count` largest, at most kMost, in descending order: so few that moving them costs less than a heap's branches.
class BestNumbers {
  public:
    static constexpr int64_t kMost = 32;

    void begin(int64_t count) {
        count_ = count;
        size_ = 0;
    }

    bool empty() const { return size_ == 0; }
    bool full() const { return size_ == count_; }

    // The smallest of them; there must be one.
    int32_t least() const { return numbers_[size_ - 1]; }

    void add(int32_t number) {
        if (full()) {
            if (number <= least()) return;
        } else {
            ++size_;
        }
        int64_t place = size_ - 1;
        for (; place > 0 && numbers_[place - 1] < number; --place) numbers_[place] = numbers_[place - 1];
        numbers_[place] = number;
    }

    void add(const BestNumbers& others) {
        for (int64_t i = 0; i < others.size_; ++i) add(others.numbers_[i]);
    }

  private:
    int64_t count_ = 0, size_ = 0;
    int32_t numbers_[kMost];
};

}  // namespace spotfast
