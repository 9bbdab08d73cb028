// The counter-based random stream: Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2,
// 3", 2011).
//
// Draw number d of a stream in an epoch, at a given attempt, is word d & 3 of the block with the counters
// (block low, block high, epoch, stream << 16 | attempt), where block = d >> 2. The key is the seed.
#pragma once

#include <algorithm>
#include <cstdint>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace spotfast {

enum class Stream : uint32_t { initial = 0, permutation = 1, negatives = 2, rounding = 3 };

// Everything that tells one sequence of draws from another.
struct DrawKey {
    uint64_t seed;
    uint32_t epoch;
    Stream stream;
    uint32_t attempt = 0;
};

// out[0 .. 4) = the draws of one block.
inline void philox_block(const DrawKey& key, uint64_t block, uint32_t* out) {
    uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32);
    uint32_t c2 = key.epoch, c3 = static_cast<uint32_t>(key.stream) << 16 | key.attempt;
    uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t{0xD2511F53} * c0, p1 = uint64_t{0xCD9E8D57} * c2;
        c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
        c1 = static_cast<uint32_t>(p1);
        c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
        c3 = static_cast<uint32_t>(p0);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

// A single draw, for the places that need few.
inline uint32_t draw(const DrawKey& key, uint64_t d) {
    uint32_t words[4];
    philox_block(key, d >> 2, words);
    return words[d & 3];
}

constexpr int kBlocks = 8;           // blocks computed side by side: one AVX2 register per counter
constexpr int kDraws = 4 * kBlocks;  // and the draws they hold

#if defined(__AVX2__)

// out[0 .. kDraws) = the draws of the blocks first_block .. first_block + kBlocks.
inline void philox_blocks(const DrawKey& key, uint64_t first_block, uint32_t* out) {
    alignas(32) uint32_t low[kBlocks], high[kBlocks];
    for (int i = 0; i < kBlocks; ++i) {
        low[i] = static_cast<uint32_t>(first_block + i);
        high[i] = static_cast<uint32_t>((first_block + i) >> 32);
    }
    __m256i c0 = _mm256_load_si256(reinterpret_cast<const __m256i*>(low));
    __m256i c1 = _mm256_load_si256(reinterpret_cast<const __m256i*>(high));
    __m256i c2 = _mm256_set1_epi32(static_cast<int>(key.epoch));
    __m256i c3 = _mm256_set1_epi32(static_cast<int>(static_cast<uint32_t>(key.stream) << 16 | key.attempt));
    uint32_t k0 = static_cast<uint32_t>(key.seed), k1 = static_cast<uint32_t>(key.seed >> 32);
    const __m256i m0 = _mm256_set1_epi32(static_cast<int>(0xD2511F53)),
                  m1 = _mm256_set1_epi32(static_cast<int>(0xCD9E8D57));
    for (int round = 0; round < 10; ++round) {
        // A multiplication takes the even lanes; the odd ones come down first.
        const __m256i even0 = _mm256_mul_epu32(c0, m0), odd0 = _mm256_mul_epu32(_mm256_srli_epi64(c0, 32), m0);
        const __m256i even1 = _mm256_mul_epu32(c2, m1), odd1 = _mm256_mul_epu32(_mm256_srli_epi64(c2, 32), m1);
        const __m256i high0 = _mm256_blend_epi32(_mm256_srli_epi64(even0, 32), odd0, 0xAA);
        const __m256i high1 = _mm256_blend_epi32(_mm256_srli_epi64(even1, 32), odd1, 0xAA);
        c0 = _mm256_xor_si256(_mm256_xor_si256(high1, c1), _mm256_set1_epi32(static_cast<int>(k0)));
        c1 = _mm256_blend_epi32(even1, _mm256_slli_epi64(odd1, 32), 0xAA);
        c2 = _mm256_xor_si256(_mm256_xor_si256(high0, c3), _mm256_set1_epi32(static_cast<int>(k1)));
        c3 = _mm256_blend_epi32(even0, _mm256_slli_epi64(odd0, 32), 0xAA);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    // Transpose (4 words, 8 blocks) to (8 blocks, 4 words).
    const __m256i a = _mm256_unpacklo_epi32(c0, c1), b = _mm256_unpackhi_epi32(c0, c1);
    const __m256i c = _mm256_unpacklo_epi32(c2, c3), d = _mm256_unpackhi_epi32(c2, c3);
    const __m256i r0 = _mm256_unpacklo_epi64(a, c), r1 = _mm256_unpackhi_epi64(a, c);
    const __m256i r2 = _mm256_unpacklo_epi64(b, d), r3 = _mm256_unpackhi_epi64(b, d);
    auto* rows = reinterpret_cast<__m256i*>(out);
    _mm256_storeu_si256(rows + 0, _mm256_permute2x128_si256(r0, r1, 0x20));
    _mm256_storeu_si256(rows + 1, _mm256_permute2x128_si256(r2, r3, 0x20));
    _mm256_storeu_si256(rows + 2, _mm256_permute2x128_si256(r0, r1, 0x31));
    _mm256_storeu_si256(rows + 3, _mm256_permute2x128_si256(r2, r3, 0x31));
}

#else

// out[0 .. kDraws) = the draws of the blocks first_block .. first_block + kBlocks.
inline void philox_blocks(const DrawKey& key, uint64_t first_block, uint32_t* out) {
    for (int i = 0; i < kBlocks; ++i) philox_block(key, first_block + i, out + 4 * i);
}

#endif

// Calls visit(offset, words, count) for the draws first + offset .. first + offset + count, in groups of at
// most kDraws, for all offsets in [begin, end).
template <class Visit>
void for_draws(const DrawKey& key, uint64_t first, int64_t begin, int64_t end, const Visit& visit) {
    uint32_t words[kDraws];
    for (int64_t offset = begin; offset < end;) {
        const uint64_t d = first + offset;
        const int skip = static_cast<int>(d & 3);  // only the first group may start inside a block
        const int count = static_cast<int>(std::min<int64_t>(kDraws - skip, end - offset));
        philox_blocks(key, d >> 2, words);
        visit(offset, words + skip, count);
        offset += count;
    }
}

// A number in [0, n), n <= 2^32: the high half of the product.
inline uint32_t below(uint32_t word, uint64_t n) { return static_cast<uint32_t>(word * n >> 32); }

// out[i] = draw first + i.
void draws(const DrawKey& key, uint64_t first, int64_t count, int threads, uint32_t* out);

}  // namespace spotfast
