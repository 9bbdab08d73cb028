#include "philox.h"

#include "parallel_for.h"

namespace spotfast {

void draws(const DrawKey& key, uint64_t first, int64_t count, int threads, uint32_t* out) {
    parallel_for(count, threads, 1 << 15, [&](int64_t begin, int64_t end) {
        for_draws(key, first, begin, end, [&](int64_t offset, const uint32_t* words, int size) {
            std::copy(words, words + size, out + offset);
        });
    });
}

}  // namespace spotfast
