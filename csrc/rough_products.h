// How products of integers are added to sums: in pairs, as words of two numbers of 16 bits; or four at once, as words
// of four numbers of 8 bits, where the CPU has an instruction for that.
#pragma once

#include <cstdint>
#include <cstring>

#include "integer_lanes.h"

namespace spotfast {

struct PairProducts {
    static constexpr int kPerWord = 2, kMost = 32767;

    // The words of integers of a user, and of an item.
    static int32_t user_word(const int16_t* integers) {
        int32_t word;
        std::memcpy(&word, integers, sizeof word);
        return word;
    }
    static int32_t item_word(const int16_t* integers) { return user_word(integers); }

    // Where a sum starts that is to be `sum` more than the products. `integers` is the sum of all those of the user.
    static int32_t start(int32_t sum, int32_t /* integers */) { return sum; }

    static IntegerLanes add(IntegerLanes user, IntegerLanes item, IntegerLanes sums) {
        return add_products(user, item, sums).in_register();
    }
};

// A word of four integers.
inline int32_t word_of_bytes(const int16_t* integers) {
    const int8_t bytes[] = {static_cast<int8_t>(integers[0]), static_cast<int8_t>(integers[1]),
                            static_cast<int8_t>(integers[2]), static_cast<int8_t>(integers[3])};
    int32_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
}

#if defined(__AVX2__) && defined(__GNUC__)

// With AVX-512 VNNI, whose 256-bit form is AVX-512 VL. As this is the only instruction of these sets that makes
// anything here faster, it is chosen at run time, and written out since the compiler is not to use them elsewhere.
struct QuadProducts {
    static constexpr int kPerWord = 4, kMost = 127;
    static bool available() { return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl"); }

    static int32_t user_word(const int16_t* integers) { return word_of_bytes(integers); }
    // It takes bytes without a sign for one of the factors: they are 128 higher.
    static int32_t item_word(const int16_t* integers) { return user_word(integers) ^ static_cast<int32_t>(0x80808080); }
    static int32_t start(int32_t sum, int32_t integers) {
        return static_cast<int32_t>(static_cast<uint32_t>(sum) - 128u * static_cast<uint32_t>(integers));  // mod 2**32
    }

    static IntegerLanes add(IntegerLanes user, IntegerLanes item, IntegerLanes sums) {
        // In the order written (volatile): moved about, old sums would live beside new ones, in too few registers.
        asm volatile("vpdpbusd %2, %1, %0" : "+x"(sums.value) : "x"(item.value), "x"(user.value));
        return sums;
    }
};

#elif defined(SPOTFAST_NEON) && defined(__ARM_FEATURE_DOTPROD)

struct QuadProducts {
    static constexpr int kPerWord = 4, kMost = 127;
    static bool available() { return true; }

    static int32_t user_word(const int16_t* integers) { return word_of_bytes(integers); }
    static int32_t item_word(const int16_t* integers) { return user_word(integers); }
    static int32_t start(int32_t sum, int32_t /* integers */) { return sum; }

    static IntegerLanes add(IntegerLanes user, IntegerLanes item, IntegerLanes sums) {
        return {vdotq_s32(sums.value, vreinterpretq_s8_s32(user.value), vreinterpretq_s8_s32(item.value))};
    }
};

#else

struct QuadProducts : PairProducts {
    static bool available() { return false; }
};

#endif

}  // namespace spotfast
