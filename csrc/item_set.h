// Item ids that are sorted by marking them: one bit each, and one for every 64 of these bits, so that few ids of many
// are found without a look at every word.
#pragma once

#include <cstdint>
#include <vector>

#include "lowest_bit.h"

namespace spotfast {

class ItemSet {
  public:
    // Holds ids in [0, size).
    explicit ItemSet(int64_t size) : words_(size / 64 + 1), summary_(size / 4096 + 1) {}

    void insert(int64_t id) {
        words_[id >> 6] |= uint64_t{1} << (id & 63);
        summary_[id >> 12] |= uint64_t{1} << (id >> 6 & 63);
    }

    // Writes the ids, ascending, and empties the set; returns where they end.
    int64_t* drain(int64_t* out) {
        for (size_t s = 0; s < summary_.size(); ++s) {
            for (; summary_[s] != 0; summary_[s] &= summary_[s] - 1) {
                const int64_t word = static_cast<int64_t>(s) * 64 + lowest_bit(summary_[s]);
                for (; words_[word] != 0; words_[word] &= words_[word] - 1)
                    *out++ = word * 64 + lowest_bit(words_[word]);
            }
        }
        return out;
    }

  private:
    std::vector<uint64_t> words_, summary_;
};

}  // namespace spotfast
