// The best of the items seen so far, by their scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace spotfast {

// A score and an item in one number: the higher the score, the higher the number; of equal scores, the lower the item.
// The score is finite, the item below 2**32.
class ScoredItem {
  public:
    ScoredItem(float score, int64_t item) {
        score += 0.0f;  // no negative zero, which would not be equal to zero
        int32_t bits;
        std::memcpy(&bits, &score, sizeof bits);
        key_ = static_cast<int64_t>(in_order(bits)) * (int64_t{1} << 32) + (UINT32_MAX - item);
    }

    float score() const {
        const int32_t bits = in_order(static_cast<int32_t>(key_ >> 32));
        float score;
        std::memcpy(&score, &bits, sizeof score);
        return score;
    }
    int64_t item() const { return UINT32_MAX - (key_ & UINT32_MAX); }

    friend bool operator>(ScoredItem a, ScoredItem b) { return a.key_ > b.key_; }

  private:
    // Bits of floats as integers in the same order, and back again.
    static int32_t in_order(int32_t bits) { return bits ^ (bits >> 31 & INT32_MAX); }

    int64_t key_;
};

// Short lists are kept in order; long ones grow to twice their length before the worse half is dropped.
class BestItems {
  public:
    static constexpr int64_t kShort = 32;  // so few that moving them costs less than anything else

    // How many are held at most.
    static int64_t room(int64_t wanted, int64_t num_items) {
        if (wanted <= kShort) return std::min(wanted, num_items);
        return wanted > num_items / 2 ? num_items : 2 * wanted;
    }

    BestItems() = default;
    BestItems(int64_t wanted, int64_t num_items) : wanted_(wanted), room_(room(wanted, num_items)) {
        items_.reserve(room_);
    }

    // Whether an item may be among the best.
    bool accepts(ScoredItem item) const { return !full_ || item > worst_; }

    // Whether it is known which scores are too low.
    bool full() const { return full_; }
    // Items with lower scores are not among the best; -infinity as long as that is not known.
    float least() const { return worst_.score(); }

    // Takes in an item that is accepted.
    void add(ScoredItem item) {
        if (wanted_ <= kShort) {
            insert(item);
        } else {
            items_.push_back(item);
            if (static_cast<int64_t>(items_.size()) == room_) settle();
        }
    }

    void add(const BestItems& others) {
        for (const ScoredItem item : others.items_) {
            if (accepts(item)) add(item);
        }
    }

    // Drops all but the best: then it is known which scores are too low, if there are so many.
    void settle() {
        if (static_cast<int64_t>(items_.size()) < wanted_) return;
        std::nth_element(items_.begin(), items_.begin() + (wanted_ - 1), items_.end(), std::greater<>());
        items_.erase(items_.begin() + wanted_, items_.end());
        be_full();
    }

    // Writes the best in order; -1 and -infinity where there are fewer.
    void write(int64_t* ids, float* scores) {
        settle();
        std::sort(items_.begin(), items_.end(), std::greater<>());
        const auto found = static_cast<int64_t>(items_.size());
        for (int64_t i = 0; i < wanted_; ++i) {
            ids[i] = i < found ? items_[i].item() : -1;
            scores[i] = i < found ? items_[i].score() : -INFINITY;
        }
    }

  private:
    void insert(ScoredItem item) {
        int64_t place = 0;
        for (const ScoredItem other : items_) place += other > item;
        if (full_) items_.pop_back();
        items_.insert(items_.begin() + place, item);
        if (static_cast<int64_t>(items_.size()) == wanted_) be_full();
    }

    void be_full() {
        full_ = true;
        worst_ = items_.back();
    }

    int64_t wanted_ = 0, room_ = 0;
    bool full_ = false;
    ScoredItem worst_{-INFINITY, 0};  // so until full
    std::vector<ScoredItem> items_;
};

}  // namespace spotfast
