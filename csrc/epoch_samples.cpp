#include "epoch_samples.h"

#include <algorithm>
#include <numeric>

#include "lanes.h"
#include "owners.h"
#include "poison.h"

namespace spotfast {

namespace {

constexpr int64_t kMostBlock = 512;  // positions at a time: what is between the steps stays in the first-level cache
constexpr int64_t kAhead = 24;       // interactions are in memory in another order

}  // namespace

EpochSamples::EpochSamples(const InteractionsView& interactions, const SamplingSettings& sampling, uint64_t seed,
                           uint32_t epoch, int64_t batch_size, int64_t capacity)
    : interactions_(interactions),
      sampling_(sampling),
      seed_(seed),
      epoch_(epoch),
      sorted_(batch_size >= kLeastShared),
      block_(sorted_ ? std::min(kMostBlock, batch_size) : kMostBlock),
      order_(seed, epoch, static_cast<uint64_t>(interactions.count)),
      candidates_(1 + sampling.slots),
      users_(capacity, kNowhere),
      items_(capacity * candidates_, kNowhere),
      ratings_(interactions.ratings != nullptr ? capacity : 0, kPoison),
      weights_(interactions.weights != nullptr ? capacity : 0, kPoison) {}

void EpochSamples::fill(int member, int members, int64_t count) {
    const int64_t blocks = (count + block_ - 1) / block_;
    for (int64_t block = blocks * member / members; block < blocks * (member + 1) / members; ++block) {
        const int64_t begin = block * block_;
        fill_block(begin, std::min(block_, count - begin));
    }
}

void EpochSamples::fill_block(int64_t begin, int64_t count) {
    int64_t order[kMostBlock], users[kMostBlock];
    int32_t pairs[kMostBlock][2];
    order_.read(start_ + begin, count, order);
    const auto look_ahead = [&](int64_t i) {
        if (i < count) prefetch(interactions_.pairs + 2 * order[i], 1);
    };
    for (int64_t i = 0; i < kAhead; ++i) look_ahead(i);
    for (int64_t i = 0; i < count; ++i) {
        look_ahead(i + kAhead);
        pairs[i][0] = interactions_.pairs[2 * order[i]];
        pairs[i][1] = interactions_.pairs[2 * order[i] + 1];
        users[i] = pairs[i][0];
    }
    std::vector<int64_t> negatives(count * sampling_.slots);
    draw(begin, count, users, negatives.data());
    int32_t places[kMostBlock];
    choose_places(pairs, count, places);
    for (int64_t i = 0; i < count; ++i) {
        const int64_t place = begin + places[i];
        users_[place] = pairs[i][0];
        int32_t* candidates = items_.data() + place * candidates_;
        candidates[0] = pairs[i][1];
        for (int64_t j = 0; j < sampling_.slots; ++j) {
            candidates[1 + j] = static_cast<int32_t>(negatives[i * sampling_.slots + j]);
        }
        if (interactions_.ratings != nullptr) ratings_[place] = interactions_.ratings[order[i]];
        if (interactions_.weights != nullptr) weights_[place] = interactions_.weights[order[i]];
    }
}

// Sorts by owner, stably: threads that write to neighbouring places hold each other up.
void EpochSamples::choose_places(const int32_t (*pairs)[2], int64_t count, int32_t* places) const {
    if (!sorted_) return std::iota(places, places + count, 0);
    int32_t starts[kOwnerGroups + 1] = {};
    for (int64_t i = 0; i < count; ++i) ++starts[owner_group(pairs[i][0]) + 1];
    std::partial_sum(starts, starts + kOwnerGroups + 1, starts);
    for (int64_t i = 0; i < count; ++i) places[i] = starts[owner_group(pairs[i][0])]++;
}

void EpochSamples::draw(int64_t begin, int64_t count, const int64_t* users, int64_t* negatives) const {
    const int64_t start = start_ + begin;
    const NegativesRequest request{seed_, epoch_, start, start + count, sampling_.slots, sampling_.num_items};
    switch (sampling_.sampler) {
        case Sampler::none:
            return;
        case Sampler::uniform:
            return uniform_negatives(request, sampling_.first_item, 1, negatives);
        case Sampler::unseen:
            return unseen_negatives(request, users, sampling_.positives, 1, negatives);
        case Sampler::popularity:
            return popularity_negatives(request, sampling_.thresholds, users, sampling_.positives, 1, negatives);
    }
}

}  // namespace spotfast
