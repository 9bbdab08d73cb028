// Splits a range over threads. Results must not depend on the split: every caller writes disjoint outputs.
#pragma once

#include <algorithm>
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

}  // namespace spotfast
