// Whether all threads or one is faster, measured while the work is done: the results are the same.
//
// On an idle machine all threads win unless batches are tiny; beside another process that keeps a core busy, threads
// that wait for each other at every batch are slower than one.
#pragma once

#include <algorithm>
#include <cstdint>

namespace spotfast {

class ThreadChoice {
  public:
    explicit ThreadChoice(int threads) : threads_(threads) {}

    // How many threads are to do the next stretch of work.
    int next() const { return trial_ ? other() : chosen(); }

    // Takes in how long a stretch took, in seconds per unit of work.
    void record(double seconds) {
        if (threads_ == 1) return;
        if (!settled_) {  // what the work needs is still in the caches of other threads, or in none
            settled_ = true;
            return;
        }
        double& average = seconds_[trial_ ? !all_ : all_];
        const bool slowed_down = average != 0 && seconds > kSuspicious * average;
        average = average == 0 ? seconds : 0.75 * average + 0.25 * seconds;
        if (trial_) {
            trial_ = false;
            if (seconds_[!all_] < seconds_[all_]) {
                all_ = !all_;
                interval_ = kShortest;
            } else {
                interval_ = std::min(2 * interval_, kLongest);
                settled_ = false;
            }
            until_trial_ = interval_;
        } else if (--until_trial_ <= 0 || slowed_down) {
            trial_ = true;
            settled_ = false;
            seconds_[!all_] = 0;  // what was measured long ago does not count
        }
    }

  private:
    static constexpr int64_t kShortest = 8, kLongest = 512;  // stretches between trials
    static constexpr double kSuspicious = 1.5;               // a stretch this much slower calls for one

    int other() const { return all_ ? 1 : threads_; }
    int chosen() const { return all_ ? threads_ : 1; }

    int threads_;
    bool all_ = true, trial_ = false, settled_ = false;
    double seconds_[2] = {0, 0};  // per unit of work: of one thread, of all
    int64_t interval_ = kShortest, until_trial_ = 1;
};

}  // namespace spotfast
