// Splits a range over threads. Results must not depend on the split: every caller writes disjoint outputs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

#include "openmp.h"

namespace spotfast {

// Calls body(part) for the parts 0 .. parts - 1, on up to `threads` threads; those that are free first take what is
// left. An exception, the first if there are several, is rethrown when all have ended.
template <class Body>
void parallel_parts(int64_t parts, int threads, const Body& body) {
    std::exception_ptr failure;
    std::atomic<bool> failed{false};
    std::atomic<int64_t> next{0};
    auto work = [&]() noexcept {
        for (int64_t part = next++; part < parts; part = next++) {
            try {
                body(part);
            } catch (...) {
                if (!failed.exchange(true)) failure = std::current_exception();
            }
        }
    };
    const auto call = [](void* of) { (*static_cast<decltype(work)*>(of))(); };
    // All threads, however few the parts: OpenMP would end those that are left out, and start them for torch again.
    if (parts == 1 || threads == 1 || !run_on_openmp(threads, call, &work)) {
        std::vector<std::thread> workers;
        try {
            workers.reserve(std::min<int64_t>(parts, threads) - 1);
            while (workers.size() < workers.capacity()) workers.emplace_back(work);
        } catch (...) {  // no more threads: the others do the work
        }
        work();
        for (auto& worker : workers) worker.join();
    }
    if (failure) std::rethrow_exception(failure);
}

// Calls body(begin, end) on up to `threads` threads for ranges of at least `grain` that together cover [0, count).
template <class Body>
void parallel_for(int64_t count, int threads, int64_t grain, const Body& body) {
    const int64_t parts = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, std::max(threads, 1));
    const auto boundary = [&](int64_t part) { return count / parts * part + std::min(part, count % parts); };
    parallel_parts(parts, threads, [&](int64_t part) { body(boundary(part), boundary(part + 1)); });
}

// The same in chunks of at most `most`, each for the thread that is free first: one that is held up by another process
// holds up little. Chunks become smaller towards the end, down to `least`, so that all threads end together.
template <class Body>
void parallel_chunks(int64_t count, int threads, int64_t least, int64_t most, const Body& body) {
    const int64_t share = (count + threads - 1) / threads, smallest = std::min({least, share, most});
    std::atomic<int64_t> next{0};
    parallel_parts(std::clamp<int64_t>(count, 1, threads), threads, [&](int64_t) {
        for (int64_t begin = next; begin < count;) {
            const int64_t end = std::min(begin + std::clamp((count - begin) / (2 * threads), smallest, most), count);
            if (!next.compare_exchange_weak(begin, end)) continue;  // `begin` is now where the others have come to
            body(begin, end);
            begin = next;
        }
    });
}

}  // namespace spotfast
