// Splits a range over threads. Results must not depend on the split: every caller writes disjoint outputs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

namespace spotfast {

// Calls body(begin, end) on up to `threads` threads for ranges of at least `grain` that together cover [0,
// count).
template <class Body>
void parallel_for(int64_t count, int threads, int64_t grain, const Body& body) {
    const int64_t parts = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, std::max(threads, 1));
    const auto boundary = [&](int64_t part) { return count / parts * part + std::min(part, count % parts); };
    std::vector<std::thread> workers;
    workers.reserve(parts - 1);
    for (int64_t part = 1; part < parts; ++part) {
        workers.emplace_back([&body, begin = boundary(part), end = boundary(part + 1)] { body(begin, end); });
    }
    body(boundary(0), boundary(1));
    for (auto& worker : workers) worker.join();
}

}  // namespace spotfast
