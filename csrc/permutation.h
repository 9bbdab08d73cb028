// The epoch's order: a bijection on [0, n) that needs no memory and can be read at any position.
//
// An unbalanced Feistel network over the smallest power of two that holds n, with cycle walking: values
// beyond n are sent through again. Six rounds, sixteen for n < 1024, where with six neighbours are visibly
// not independent.
#pragma once

#include <cstdint>

namespace spotfast {

class Permutation {
  public:
    Permutation(uint64_t seed, uint32_t epoch, uint64_t n);

    // out[i] = index at position start + i, for start + count <= n.
    void read(uint64_t start, int64_t count, int64_t* out) const;

  private:
    static constexpr int kMaxRounds = 16;

    template <int kCount>
    void pass(uint64_t (&values)[kCount], int used) const;

    uint64_t n_;
    int rounds_, bits_;
    uint32_t keys_[kMaxRounds];
};

// The same on several threads.
void permutation(uint64_t seed, uint32_t epoch, uint64_t n, uint64_t start, int64_t count, int threads, int64_t* out);

}  // namespace spotfast
