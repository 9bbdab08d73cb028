// Threads that work in step: they are told what to do together, and meet between the parts of it.
//
// A team lives as long as one call of the library: no threads wait in the background, none is lost in a fork.
// Waiting spins for 50 microseconds, longer than members who share their work evenly are apart, then sleeps.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace spotfast {

// A counter that can be waited for.
class Signal {
  public:
    uint64_t value() const { return value_.load(std::memory_order_acquire); }
    void advance();
    // Returns once the value is another than `old`.
    void wait_while(uint64_t old);

  private:
    std::atomic<uint64_t> value_{0};
    std::atomic<int> sleepers_{0};
    std::mutex mutex_;
    std::condition_variable changed_;
};

class Team {
  public:
    // Starts members - 1 threads; the caller is member 0. Has fewer members where a thread cannot be started.
    explicit Team(int members);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return static_cast<int>(threads_.size()) + 1; }

    // Calls work(member), which must not throw, for the members 0 .. active - 1; returns when all are done.
    void run(int active, const std::function<void(int)>& work);

    // Called inside `run` by all active members: none goes on before the last has come.
    void meet() { meet(active_); }

  private:
    void serve(int member, Signal& start);
    void meet(int active);

    std::vector<std::unique_ptr<Signal>> starts_;  // of the members 1, 2, ...
    std::vector<std::thread> threads_;
    const std::function<void(int)>* work_ = nullptr;  // null: the team is dismissed
    int active_ = 1;
    std::atomic<int> arrived_{0};
    Signal passed_;
};

}  // namespace spotfast
