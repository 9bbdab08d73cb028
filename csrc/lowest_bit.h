// Bits as sets of small numbers.
#pragma once

#include <cstdint>

namespace spotfast {

// The place of the lowest bit that is set; there must be one.
inline int lowest_bit(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int place = 0;
    for (; (bits & 1) == 0; bits >>= 1) ++place;
    return place;
#endif
}

}  // namespace spotfast
