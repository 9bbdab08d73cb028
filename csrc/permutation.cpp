#include "permutation.h"

#include "parallel_for.h"
#include "philox.h"

namespace spotfast {

namespace {

constexpr int kBlock = 256;

uint32_t low_mask(int bits) { return static_cast<uint32_t>((uint64_t{1} << bits) - 1); }

int bits_of(uint64_t value) {
    int bits = 0;
    for (; value != 0; value >>= 1) ++bits;
    return bits;
}

}  // namespace

Permutation::Permutation(uint64_t seed, uint32_t epoch, uint64_t n)
    : n_(n), rounds_(n >= 1024 ? 6 : kMaxRounds), bits_(std::max(2, bits_of(n - 1))) {
    const DrawKey key{seed, epoch, Stream::permutation};
    for (int round = 0; round < rounds_; ++round) keys_[round] = draw(key, round);
}

// One pass through the network; both halves fit 32 bits.
template <int kCount>
void Permutation::pass(uint64_t (&values)[kCount], int used) const {
    int left_bits = bits_ / 2, right_bits = bits_ - left_bits;
    uint32_t left[kCount], right[kCount];
    for (int i = 0; i < used; ++i) {
        left[i] = static_cast<uint32_t>(values[i] >> right_bits);
        right[i] = static_cast<uint32_t>(values[i]) & low_mask(right_bits);
    }
    for (int round = 0; round < rounds_; ++round) {
        const uint32_t key = keys_[round], mask = low_mask(left_bits);
        for (int i = 0; i < used; ++i) {
            uint32_t h = (right[i] + key) * 0x9E3779B1u;
            h ^= h >> 15;
            h *= 0x85EBCA77u;
            h ^= h >> 13;
            const uint32_t mixed = (left[i] + h) & mask;
            left[i] = right[i];
            right[i] = mixed;
        }
        std::swap(left_bits, right_bits);
    }
    for (int i = 0; i < used; ++i) values[i] = uint64_t{left[i]} << right_bits | right[i];
}

void Permutation::read(uint64_t start, int64_t count, int64_t* out) const {
    for (int64_t done = 0; done < count; done += kBlock) {
        uint64_t values[kBlock];
        int64_t place[kBlock];  // where in `out` each value belongs
        int used = static_cast<int>(std::min<int64_t>(kBlock, count - done));
        for (int i = 0; i < used; ++i) {
            values[i] = start + done + i;
            place[i] = done + i;
        }
        while (used > 0) {  // those still beyond n walk on, packed together
            pass(values, used);
            int walking = 0;
            for (int i = 0; i < used; ++i) {
                out[place[i]] = static_cast<int64_t>(values[i]);
                values[walking] = values[i];
                place[walking] = place[i];
                walking += values[i] >= n_;
            }
            used = walking;
        }
    }
}

void permutation(uint64_t seed, uint32_t epoch, uint64_t n, uint64_t start, int64_t count, int threads, int64_t* out) {
    const Permutation order(seed, epoch, n);
    parallel_for(count, threads, 1 << 14,
                 [&](int64_t begin, int64_t end) { order.read(start + begin, end - begin, out + begin); });
}

}  // namespace spotfast
