// What is done with vectors of any length.
#pragma once

#include <cstdint>

#include "lanes.h"

namespace spotfast {

// Summed always in the same order.
inline float dot(const float* a, const float* b, int64_t dim) {
    Lanes even = Lanes::all(0.0f), odd = even;
    int64_t i = 0;
    for (; i + 2 * Lanes::kSize <= dim; i += 2 * Lanes::kSize) {
        even = multiply_add(Lanes::load(a + i), Lanes::load(b + i), even);
        odd = multiply_add(Lanes::load(a + i + Lanes::kSize), Lanes::load(b + i + Lanes::kSize), odd);
    }
    for (; i + Lanes::kSize <= dim; i += Lanes::kSize) {
        even = multiply_add(Lanes::load(a + i), Lanes::load(b + i), even);
    }
    float rest = 0.0f;
    for (; i < dim; ++i) rest += a[i] * b[i];
    return (even + odd).sum() + rest;
}

// to += factor * from
inline void add_product(float* to, const float* from, float factor, int64_t dim) {
    int64_t i = 0;
    for (; i + Lanes::kSize <= dim; i += Lanes::kSize) {
        multiply_add(Lanes::all(factor), Lanes::load(from + i), Lanes::load(to + i)).store(to + i);
    }
    for (; i < dim; ++i) to[i] += factor * from[i];
}

}  // namespace spotfast
