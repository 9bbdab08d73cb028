// A few floats computed side by side: one SIMD register of the instruction set that the file is compiled for.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace spotfast {

#if defined(__AVX2__)

struct Lanes {
    static constexpr int kSize = 8;
    __m256 value;

    static Lanes all(float x) { return {_mm256_set1_ps(x)}; }
    static Lanes load(const float* from) { return {_mm256_loadu_ps(from)}; }
    void store(float* to) const { _mm256_storeu_ps(to, value); }
    // The same, but loaded once: compilers like to read it from memory again at each use, and loads are what binds.
    Lanes in_register() const {
        Lanes copy = *this;
#if defined(__GNUC__)
        asm("" : "+x"(copy.value));
#endif
        return copy;
    }
    friend Lanes operator+(Lanes a, Lanes b) { return {_mm256_add_ps(a.value, b.value)}; }
    friend Lanes operator*(Lanes a, Lanes b) { return {_mm256_mul_ps(a.value, b.value)}; }
};

#else

// Left to the compiler: SSE2 on x86-64, NEON on aarch64.
struct Lanes {
    static constexpr int kSize = 4;
    float value[kSize];

    static Lanes all(float x) { return {{x, x, x, x}}; }
    static Lanes load(const float* from) { return {{from[0], from[1], from[2], from[3]}}; }
    void store(float* to) const {
        for (int i = 0; i < kSize; ++i) to[i] = value[i];
    }
    Lanes in_register() const { return *this; }
    friend Lanes operator+(Lanes a, Lanes b) {
        for (int i = 0; i < kSize; ++i) a.value[i] += b.value[i];
        return a;
    }
    friend Lanes operator*(Lanes a, Lanes b) {
        for (int i = 0; i < kSize; ++i) a.value[i] *= b.value[i];
        return a;
    }
};

#endif

}  // namespace spotfast
