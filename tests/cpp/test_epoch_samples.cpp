// Samples at positions, of interactions and of positives that 32 bits do not count.

#include <sys/mman.h>

#include <vector>

#include "check.h"
#include "epoch_samples.h"
#include "philox.h"

using namespace spotfast;

namespace {

// Of so many numbers that they do not fit into memory: only pages that are written to take any.
template <class T>
class Sparse {
  public:
    explicit Sparse(int64_t count) : bytes_(count * sizeof(T)) {
        void* memory =
            mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        CHECK(memory != MAP_FAILED);
        data_ = static_cast<T*>(memory);
    }
    ~Sparse() { munmap(data_, bytes_); }
    Sparse(const Sparse&) = delete;
    Sparse& operator=(const Sparse&) = delete;

    T* data() const { return data_; }
    T& operator[](int64_t i) const { return data_[i]; }

  private:
    size_t bytes_;
    T* data_;
};

constexpr int64_t kCount = (int64_t{1} << 32) + 3001, kRange = 1000, kSlots = 3, kItems = 500;
constexpr uint64_t kSeed = 7;
constexpr uint32_t kEpoch = 2;

int32_t user_at(int64_t position) { return static_cast<int32_t>(1 + position % 3); }
int32_t item_at(int64_t position) { return static_cast<int32_t>(position % (kItems - 1)); }

uint32_t draw_at(int64_t position, int64_t slot) {
    return draw({kSeed, kEpoch, Stream::negatives}, static_cast<uint64_t>(position) * kSlots + slot);
}

// Calls check(position, samples, place) for samples of positions below, across and beyond what 32 bits hold.
template <class Check>
void each_sample(const SamplingSettings& sampling, const Check& check) {
    const Sparse<int32_t> pairs(2 * kCount);
    const Sparse<float> ratings(kCount);
    EpochSamples samples({pairs.data(), ratings.data(), nullptr, kCount}, sampling, kSeed, kEpoch, 50, kRange);
    for (const int64_t start : {int64_t{0}, (int64_t{1} << 31) - 500, (int64_t{1} << 32) - 500, kCount - kRange}) {
        std::vector<int64_t> order(kRange);
        permutation(kSeed, kEpoch, kCount, start, kRange, 1, order.data());
        for (int64_t i = 0; i < kRange; ++i) {
            pairs[2 * order[i]] = user_at(start + i);
            pairs[2 * order[i] + 1] = item_at(start + i);
            ratings[order[i]] = static_cast<float>(i);
        }
        samples.begin(start);
        for (int member = 0; member < 3; ++member) samples.fill(member, 3, kRange);
        for (int64_t i = 0; i < kRange; ++i) {
            CHECK(*samples.ratings(i) == static_cast<float>(i));
            CHECK(*samples.users(i) == user_at(start + i) && *samples.items(i) == item_at(start + i));
            check(start + i, samples.items(i) + 1);
        }
    }
}

}  // namespace

TEST(samples_of_positions_beyond_32_bits) {
    each_sample({Sampler::uniform, kSlots, kItems, 1, {}, nullptr}, [](int64_t position, const int32_t* negatives) {
        for (int64_t slot = 0; slot < kSlots; ++slot) {
            CHECK(negatives[slot] == 1 + static_cast<int32_t>(below(draw_at(position, slot), kItems - 1)));
        }
    });
}

// User 1 has all items but the first two, user 2 the last two, user 3 none; before them comes a user with more than 32
// bits count, who has no interactions.
TEST(positives_beyond_32_bits) {
    const std::vector<int64_t> indptr = {0, kCount, kCount + kItems - 2, kCount + kItems, kCount + kItems};
    const Sparse<int32_t> positives(kCount + kItems);
    for (int32_t item = 2; item < kItems; ++item) positives[kCount + item - 2] = item;
    for (int32_t item = kItems - 2; item < kItems; ++item) positives[kCount + item] = item;
    const SamplingSettings sampling{Sampler::unseen, kSlots, kItems, 0, {indptr.data(), positives.data()}, nullptr};
    each_sample(sampling, [](int64_t position, const int32_t* negatives) {
        constexpr int64_t kUnseen[] = {0, 2, kItems - 2, kItems};
        for (int64_t slot = 0; slot < kSlots; ++slot) {
            const uint32_t negative = below(draw_at(position, slot), kUnseen[user_at(position)]);
            CHECK(negatives[slot] == static_cast<int32_t>(negative));
        }
    });
}
