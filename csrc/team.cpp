#include "team.h"

#include <algorithm>
#include <chrono>
#include <system_error>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace spotfast {

namespace {

constexpr std::chrono::microseconds kSpin{50};
constexpr int kLooks = 16;  // between two looks at the clock

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && defined(__GNUC__)
    asm volatile("yield");
#endif
}

}  // namespace

void Signal::advance() {
    value_.fetch_add(1);
    if (sleepers_.load() > 0) {  // either we see the sleeper here, or it sees the new value before it sleeps
        const std::lock_guard<std::mutex> lock(mutex_);
        changed_.notify_all();
    }
}

void Signal::wait_while(uint64_t old) {
    const auto deadline = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < kLooks; ++i) {
            if (value() != old) return;
            pause();
        }
    } while (std::chrono::steady_clock::now() < deadline);
    sleepers_.fetch_add(1);
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return value_.load() != old; });
    }
    sleepers_.fetch_sub(1);
}

Team::Team(int members) {
    for (int member = 1; member < members; ++member) {
        starts_.push_back(std::make_unique<Signal>());
        try {
            threads_.emplace_back(&Team::serve, this, member, std::ref(*starts_.back()));
        } catch (const std::system_error&) {
            break;
        }
    }
}

Team::~Team() {
    work_ = nullptr;
    for (size_t i = 0; i < threads_.size(); ++i) starts_[i]->advance();
    for (auto& thread : threads_) thread.join();
}

void Team::serve(int member, Signal& start) {
    for (uint64_t runs = 0;; ++runs) {
        start.wait_while(runs);
        if (work_ == nullptr) return;
        (*work_)(member);
        meet(active_);
    }
}

void Team::run(int active, const std::function<void(int)>& work) {
    active_ = std::clamp(active, 1, size());
    if (active_ == 1) return work(0);
    work_ = &work;
    for (int member = 1; member < active_; ++member) starts_[member - 1]->advance();
    work(0);
    meet(active_);
}

void Team::meet(int active) {
    if (active == 1) return;
    const uint64_t generation = passed_.value();
    if (arrived_.fetch_add(1) + 1 == active) {
        arrived_.store(0);
        passed_.advance();
    } else {
        passed_.wait_while(generation);
    }
}

}  // namespace spotfast
