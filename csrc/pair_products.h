// How products of pairs are added to sums: by two instructions, or by one where the CPU has it.
//
// Integers that do not overflow: both ways give the same sums.
#pragma once

#include "pair_lanes.h"

namespace spotfast {

// With what all CPUs have that this file is compiled for.
struct PairProducts {
    static PairLanes add(PairLanes a, PairLanes b, PairLanes sums) { return a.add_products(b, sums).in_register(); }
};

#if defined(__AVX2__) && defined(__GNUC__)

// With AVX-512 VNNI, which has one instruction for it; its 256-bit form is AVX-512 VL. As this is the only instruction
// of these sets that makes anything here faster, it is chosen at run time, and written out since the compiler is not
// to use them elsewhere.
struct FusedPairProducts {
    static bool available() { return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl"); }

    static PairLanes add(PairLanes a, PairLanes b, PairLanes sums) {
        // In the order written (volatile): moved about, old sums would live beside new ones, in too few registers.
        asm volatile("vpdpwssd %2, %1, %0" : "+x"(sums.value) : "x"(a.value), "x"(b.value));
        return sums;
    }
};

#else

struct FusedPairProducts : PairProducts {
    static bool available() { return false; }
};

#endif

}  // namespace spotfast
