// Which thread moves which row: that depends on the row's number alone.
#pragma once

#include <cstdint>

namespace spotfast {

// Batches with fewer samples are not shared between threads.
constexpr int64_t kLeastShared = 64;

// Spreads rows, so that neighbours, which are often alike, have different owners.
inline uint32_t owner_hash(int32_t row) { return static_cast<uint32_t>(row) * 0x9E3779B1u; }

inline bool owns(int member, int members, int32_t row) {
    return static_cast<int>((uint64_t{owner_hash(row)} * static_cast<uint32_t>(members)) >> 32) == member;
}

// Rows in groups: sorted by group, the rows of an owner are next to each other, but for those of a group that two
// share.
constexpr int kOwnerGroups = 64;
inline int owner_group(int32_t row) { return static_cast<int>(owner_hash(row) >> 26); }

}  // namespace spotfast
