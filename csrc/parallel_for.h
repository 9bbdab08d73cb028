// Splits a range over threads. Results must not depend on the split: every caller writes disjoint outputs.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

namespace spotfast {

// Calls body(begin, end) on up to `threads` threads for ranges of at least `grain` that together cover [0, count).
// Where a thread cannot be started, its range is worked on here. An exception is rethrown when all have ended.
template <class Body>
void parallel_for(int64_t count, int threads, int64_t grain, const Body& body) {
    const int64_t parts = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, std::max(threads, 1));
    const auto boundary = [&](int64_t part) { return count / parts * part + std::min(part, count % parts); };
    std::vector<std::exception_ptr> failures(parts);
    const auto work = [&](int64_t part) noexcept {
        try {
            body(boundary(part), boundary(part + 1));
        } catch (...) {
            failures[part] = std::current_exception();
        }
    };
    std::vector<std::thread> workers;
    workers.reserve(parts - 1);
    int64_t started = 1;  // part 0 is ours
    try {
        for (; started < parts; ++started) workers.emplace_back(work, started);
    } catch (const std::system_error&) {
    }
    work(0);
    for (int64_t part = started; part < parts; ++part) work(part);
    for (auto& worker : workers) worker.join();
    for (const auto& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

// The same in chunks of at most `most`, each for the thread that is free first: one that is held up by another process
// holds up little. Chunks become smaller towards the end, down to `least`, so that all threads end together.
template <class Body>
void parallel_chunks(int64_t count, int threads, int64_t least, int64_t most, const Body& body) {
    const int64_t share = (count + threads - 1) / threads, smallest = std::min({least, share, most});
    std::atomic<int64_t> next{0};
    parallel_for(std::min<int64_t>(threads, count), threads, 1, [&](int64_t, int64_t) {
        for (int64_t begin = next; begin < count;) {
            const int64_t end = std::min(begin + std::clamp((count - begin) / (2 * threads), smallest, most), count);
            if (!next.compare_exchange_weak(begin, end)) continue;  // `begin` is now where the others have come to
            body(begin, end);
            begin = next;
        }
    });
}

}  // namespace spotfast
