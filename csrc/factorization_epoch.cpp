#include "factorization_epoch.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "batch_rows.h"
#include "team.h"
#include "thread_choice.h"

namespace spotfast {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kChunk = 1 << 13;        // positions whose samples are prepared at once, at least
constexpr int64_t kStretch = 1 << 10;      // positions between two looks at the clock, at least
constexpr int64_t kScored = 32;            // samples scored side by side
constexpr int64_t kAhead = 12;             // samples
constexpr int64_t kSecondLevel = 1 << 19;  // bytes of rows that the second-level cache has room for
constexpr std::chrono::milliseconds kReportEvery{50};

constexpr float kPoison = std::numeric_limits<float>::quiet_NaN();  // scratch that is read before it is written shows

float dot(const float* a, const float* b, int64_t width) {
    Lanes even = Lanes::all(0.0f), odd = even;
    int64_t i = 0;
    for (; i + 2 * Lanes::kSize <= width; i += 2 * Lanes::kSize) {
        even = multiply_add(Lanes::load(a + i), Lanes::load(b + i), even);
        odd = multiply_add(Lanes::load(a + i + Lanes::kSize), Lanes::load(b + i + Lanes::kSize), odd);
    }
    if (i < width) even = multiply_add(Lanes::load(a + i), Lanes::load(b + i), even);
    return (even + odd).sum();
}

// Biases come one by one: known at compile time for several floats.
template <class V>
constexpr bool is_bias(int64_t offset) {
    return V::kSize == 1 && offset < 0;
}

// Of the samples that a thread scores side by side.
struct Scratch {
    explicit Scratch(int64_t candidates)
        : scores(kScored * candidates, kPoison), gradients(kScored * candidates, kPoison) {}

    std::vector<float> scores, gradients;
    float ratings[kScored], weights[kScored], losses[kScored];
};

struct Batch {
    int64_t start, count;  // positions, from the start of the chunk
};

template <class Rule>
class Epoch {
  public:
    Epoch(const TableView& users, const TableView& items, const InteractionsView& interactions,
          const SamplingSettings& sampling, const EpochSettings& settings, Rule rule)
        : settings_(settings),
          count_(interactions.count),
          batch_size_(std::min(settings.batch_size, interactions.count)),
          chunk_(std::max<int64_t>(1, kChunk / batch_size_) * batch_size_),
          samples_(interactions, sampling, settings.seed, settings.epoch, batch_size_, std::min(chunk_, count_)),
          candidates_(samples_.candidates()),
          rule_(std::move(rule)),
          team_(batch_size_ < kLeastShared ? 1 : settings.threads),
          users_(users, settings.threads),
          items_(items, settings.threads),
          user_rows_(batch_size_, team_.size()),
          item_rows_(batch_size_ * candidates_, team_.size()),
          width_(users_.width()),
          gradients_(batch_size_ * candidates_, kPoison),
          losses_(batch_size_, kPoison),
          user_vectors_(batch_size_ * width_, kPoison),
          user_gradients_(batch_size_ * width_, kPoison),
          user_bias_gradients_(batch_size_, kPoison),
          sample_of_(batch_size_ * candidates_),
          scratch_(team_.size(), Scratch(candidates_)) {
        for (size_t entry = 0; entry < sample_of_.size(); ++entry) {
            sample_of_[entry] = static_cast<int32_t>(entry / candidates_);
        }
    }

    EpochResult run(const Report& report) {
        ThreadChoice choice(team_.size());
        auto reported = Clock::now();
        bool go_on = true;
        for (int64_t start = 0; start < count_ && go_on; start += chunk_) {
            const int64_t size = std::min(chunk_, count_ - start);
            prepare(start, size, choice.next());
            const int64_t stretch = std::max<int64_t>(1, kStretch / batch_size_) * batch_size_;
            for (int64_t begin = 0; begin < size && go_on; begin += stretch) {
                const int64_t end = std::min(size, begin + stretch);
                const auto started = Clock::now();
                train(begin, end, choice.next());
                const auto now = Clock::now();
                choice.record(std::chrono::duration<double>(now - started).count() / static_cast<double>(end - begin));
                if (rule_.full()) flush();
                if (now - reported >= kReportEvery) {
                    go_on = report(start + end);
                    reported = now;
                }
            }
        }
        finish();
        return {loss_ / static_cast<double>(batches_), batches_};
    }

  private:
    void prepare(int64_t start, int64_t size, int active) {
        samples_.begin(start);
        team_.run(active, [&](int member) { samples_.fill(member, active, size); });
    }

    // Trains on the positions [begin, end) of the chunk, whole batches.
    void train(int64_t begin, int64_t end, int active) {
        const auto first_batch = static_cast<uint32_t>(batches_);
        team_.run(active, [&](int member) {
            uint32_t number = first_batch;
            Batch next{begin, std::min(batch_size_, end - begin)};
            select(next, member, active);
            while (next.count > 0) {
                const Batch batch = next;
                collect(batch, ++number, member);
                team_.meet();  // all rows are up to date
                if (member == 0) rule_.take();
                score(batch, member);
                team_.meet();  // all gradients are known
                if (member == 0) add_loss(batch.count);
                next = {batch.start + batch.count, std::min(batch_size_, end - batch.start - batch.count)};
                if (next.count > 0) select(next, member, active);
                update(number, member, NextRows(*this, next, member));
            }
        });
        batches_ += (end - begin + batch_size_ - 1) / batch_size_;
    }

    void select(const Batch& batch, int member, int active) {
        user_rows_.select(member, active, samples_.users(batch.start), batch.count);
        item_rows_.select(member, active, samples_.items(batch.start), batch.count * candidates_);
    }

    void collect(const Batch& batch, uint32_t number, int member) {
        const auto taken = static_cast<uint32_t>(rule_.taken());
        const auto catch_up_in = [&](const RowBlocks& blocks) {
            return [&, taken](int32_t row, RowHeader& header) {
                rule_.catch_up(blocks.view(row), header.last);
                header.last = taken;
            };
        };
        user_rows_.collect(member, users_, number, samples_.users(batch.start), catch_up_in(users_));
        item_rows_.collect(member, items_, number, samples_.items(batch.start), catch_up_in(items_));
    }

    // A sample is scored by the owner of its user, whose row it has in its cache.
    void score(const Batch& batch, int member) {
        const int32_t* samples = user_rows_.entries(member);
        const int64_t count = user_rows_.entry_count(member);
        for (int64_t begin = 0; begin < count; begin += kScored) {
            score_block(batch, samples + begin, std::min(kScored, count - begin), count - begin, scratch_[member]);
        }
    }

    // Scores samples[0 .. count), and asks for those up to `known`.
    void score_block(const Batch& batch, const int32_t* samples, int64_t count, int64_t known, Scratch& scratch) {
        const int32_t* users = samples_.users(batch.start);
        const int32_t* items = samples_.items(batch.start);
        const float *ratings = samples_.ratings(batch.start), *weights = samples_.weights(batch.start);
        for (int64_t i = 0; i < count; ++i) {
            if (i + kAhead < known) {
                const int32_t* ahead = items + samples[i + kAhead] * candidates_;
                for (int64_t j = 0; j < candidates_; ++j) items_.prefetch_weights(ahead[j]);
            }
            const int64_t sample = samples[i];
            const float* user = users_.weights(users[sample]);
            const float bias = users_.header(users[sample]).bias;
            float* scores = scratch.scores.data() + i * candidates_;
            for (int64_t j = 0; j < candidates_; ++j) {
                const int32_t item = items[sample * candidates_ + j];
                scores[j] = dot(user, items_.weights(item), width_) + bias + items_.header(item).bias;
            }
            scratch.ratings[i] = ratings != nullptr ? ratings[sample] : 0.0f;
            scratch.weights[i] = weights != nullptr ? weights[sample] : 1.0f;
        }
        score_loss(settings_.loss, {count, candidates_, scratch.scores.data(), scratch.ratings, scratch.weights,
                                    1.0f / static_cast<float>(batch.count), scratch.losses, scratch.gradients.data()});
        for (int64_t i = 0; i < count; ++i) {
            const int64_t sample = samples[i];
            losses_[sample] = scratch.losses[i];
            std::copy_n(scratch.gradients.data() + i * candidates_, candidates_,
                        gradients_.data() + sample * candidates_);
            stage(sample, users[sample], items + sample * candidates_);
        }
    }

    // Keeps what the updates need of the weights from before the batch.
    void stage(int64_t sample, int32_t user, const int32_t* items) {
        const float* gradients = gradients_.data() + sample * candidates_;
        const float* weights = users_.weights(user);
        float *vector = user_vectors_.data() + sample * width_, *gradient = user_gradients_.data() + sample * width_;
        for (int64_t i = 0; i < width_; i += Lanes::kSize) {
            Lanes sum = Lanes::all(0.0f);
            for (int64_t j = 0; j < candidates_; ++j) {
                if (gradients[j] == 0) continue;
                sum = multiply_add(Lanes::all(gradients[j]), Lanes::load(items_.weights(items[j]) + i), sum);
            }
            sum.store(gradient + i);
            Lanes::load(weights + i).store(vector + i);
        }
        float bias_gradient = 0.0f;
        for (int64_t j = 0; j < candidates_; ++j) bias_gradient += gradients[j];
        user_bias_gradients_[sample] = bias_gradient;
    }

    // The rows of the batch after this one, asked for from memory while this one is computed with. Not if they are so
    // many that they would drive each other out.
    class NextRows {
      public:
        NextRows(const Epoch& epoch, const Batch& batch, int member)
            : users_(epoch.users_, epoch.samples_.users(batch.start), epoch.user_rows_, member),
              items_(epoch.items_, epoch.samples_.items(batch.start), epoch.item_rows_, member) {
            const int64_t bytes = users_.count * epoch.users_.bytes() + items_.count * epoch.items_.bytes();
            if (batch.count <= 0 || bytes > kSecondLevel) users_.count = items_.count = 0;
        }
        void prefetch() {
            if (!users_.prefetch()) items_.prefetch();
        }

      private:
        struct Cursor {
            Cursor(const RowBlocks& of, const int32_t* batch_ids, const BatchRows& rows, int member)
                : blocks(of), ids(batch_ids), entries(rows.entries(member)), count(rows.entry_count(member)) {}
            bool prefetch() {
                if (done >= count) return false;
                blocks.prefetch_row<Prefetch::second_level>(ids[entries[done++]]);
                return true;
            }
            const RowBlocks& blocks;
            const int32_t *ids, *entries;
            int64_t count, done = 0;
        };
        Cursor users_, items_;
    };

    void update(uint32_t number, int member, NextRows next_rows) {
        const auto taken = static_cast<uint32_t>(rule_.taken());
        for (const auto& row : user_rows_.rows(member)) {
            next_rows.prefetch();
            const auto gradient = [&](auto lanes, int64_t offset) {
                using V = decltype(lanes);
                V sum = V::all(0.0f);
                user_rows_.each(number, row, [&](int64_t sample) {
                    sum = sum + V::load(is_bias<V>(offset) ? &user_bias_gradients_[sample]
                                                           : &user_gradients_[sample * width_ + offset]);
                });
                return sum;
            };
            rule_.update(users_.view(row.row), gradient);
            users_.header(row.row).last = taken;
        }
        for (const auto& row : item_rows_.rows(member)) {
            next_rows.prefetch();
            if (!Rule::kMovesOnZero && !has_gradient(number, row)) continue;
            const auto gradient = [&](auto lanes, int64_t offset) {
                using V = decltype(lanes);
                V sum = V::all(0.0f);
                item_rows_.each(number, row, [&](int64_t entry) {
                    const V factor = V::all(gradients_[entry]);
                    const float* vector = user_vectors_.data() + sample_of_[entry] * width_;
                    sum = is_bias<V>(offset) ? sum + factor : multiply_add(factor, V::load(vector + offset), sum);
                });
                return sum;
            };
            rule_.update(items_.view(row.row), gradient);
            items_.header(row.row).last = taken;
        }
    }

    bool has_gradient(uint32_t number, const BatchRows::Entries& row) const {
        bool found = false;
        item_rows_.each(number, row, [&](int64_t entry) { found |= gradients_[entry] != 0; });
        return found;
    }

    void add_loss(int64_t count) {
        double sum = 0;
        for (int64_t i = 0; i < count; ++i) sum += losses_[i];
        loss_ += sum / static_cast<double>(count);
    }

    // Brings every row up to date. `visit` gets ranges of rows that are.
    template <class Visit>
    void catch_up_all(const RowBlocks& blocks, const Visit& visit) {
        const int members = team_.size();
        team_.run(members, [&](int member) {
            const int64_t begin = blocks.rows() * member / members, end = blocks.rows() * (member + 1) / members;
            for (int64_t row = begin; row < end; ++row) {
                RowHeader& header = blocks.header(row);
                rule_.catch_up(blocks.view(row), header.last);
                header.last = 0;
            }
            visit(begin, end);
        });
    }

    void flush() {
        for (const RowBlocks* blocks : {&users_, &items_}) catch_up_all(*blocks, [](int64_t, int64_t) {});
        rule_.restart();
    }

    void finish() {
        for (const RowBlocks* blocks : {&users_, &items_}) {
            catch_up_all(*blocks, [&](int64_t begin, int64_t end) { blocks->unpack(begin, end); });
        }
    }

    EpochSettings settings_;
    int64_t count_, batch_size_, chunk_;
    EpochSamples samples_;
    int64_t candidates_;
    Rule rule_;
    Team team_;
    RowBlocks users_, items_;
    BatchRows user_rows_, item_rows_;
    int64_t width_;
    // Of the samples of a batch: of every candidate; loss; vector of the user; gradient of the user.
    std::vector<float> gradients_, losses_, user_vectors_, user_gradients_, user_bias_gradients_;
    std::vector<int32_t> sample_of_;  // by candidate
    std::vector<Scratch> scratch_;    // by member
    double loss_ = 0;
    int64_t batches_ = 0;
};

}  // namespace

EpochResult factorization_epoch(const TableView& users, const TableView& items, const InteractionsView& interactions,
                                const SamplingSettings& sampling, const EpochSettings& settings, const Report& report) {
    const auto run = [&](auto rule) {
        return Epoch<decltype(rule)>(users, items, interactions, sampling, settings, std::move(rule)).run(report);
    };
    const RuleSettings& rule = settings.rule_settings;
    switch (settings.rule) {
        case RuleKind::adam:
            return run(AdamRule(rule));
        case RuleKind::sparse_adam:
            return run(SparseAdamRule(rule));
        case RuleKind::sgd:
            return run(SgdRule(rule));
        case RuleKind::momentum:
            return run(MomentumRule(rule));
        case RuleKind::adagrad:
            return run(AdagradRule(rule));
        case RuleKind::rowwise_adagrad:
            return run(RowwiseAdagradRule(rule, users.dim));
    }
    return {};
}

}  // namespace spotfast
