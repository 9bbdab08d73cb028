#include "factorization_epoch.h"

#include <algorithm>
#include <chrono>

#include "team.h"
#include "thread_choice.h"
#include "trained_table.h"

namespace spotfast {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kChunk = 1 << 13;    // positions whose samples are prepared at once, at least
constexpr int64_t kStretch = 1 << 10;  // positions between two looks at the clock, at least
constexpr int64_t kScored = 32;        // samples scored side by side
constexpr int64_t kAhead = 12;         // samples
constexpr size_t kRowsAhead = 6;
constexpr int64_t kSecondLevel = 1 << 19;  // bytes of rows that the second-level cache has room for

// Of the gradient of a user.
struct Term {
    float factor;
    const float* vector;
};

// Of the samples that a thread scores side by side.
struct Scratch {
    explicit Scratch(int64_t candidates)
        : scores(kScored * candidates, kPoison), gradients(kScored * candidates, kPoison), terms(candidates) {
        for (float* numbers : {ratings, weights, losses}) std::fill_n(numbers, kScored, kPoison);
    }

    std::vector<float> scores, gradients;
    std::vector<Term> terms;                 // of one sample
    std::vector<BatchRows::Entries> moving;  // of the rows of a batch
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
          users_(users, batch_size_, team_),
          items_(items, batch_size_ * candidates_, team_),
          width_(users_.blocks.width()),
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
                if (now - reported >= kReportEvery || start + end == count_) {
                    go_on = report(start + end);
                    reported = now;
                }
            }
        }
        for (const TrainedTable* table : {&users_, &items_}) table->finish(team_, rule_);
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
                users_.collect(member, active, ++number, samples_.users(batch.start), rule_);
                items_.collect(member, active, number, samples_.items(batch.start), rule_);
                team_.meet();  // all rows are up to date
                if (member == 0) rule_.take();
                score(batch, member);
                team_.meet();  // all gradients are known
                if (member == 0) add_loss(batch.count);
                next = {batch.start + batch.count, std::min(batch_size_, end - batch.start - batch.count)};
                if (next.count > 0) select(next, member, active);
                update(number, member, next);
            }
        });
        batches_ += (end - begin + batch_size_ - 1) / batch_size_;
    }

    void select(const Batch& batch, int member, int active) {
        users_.rows.select(member, active, samples_.users(batch.start), batch.count);
        items_.rows.select(member, active, samples_.items(batch.start), batch.count * candidates_);
    }

    // A sample is scored by the owner of its user, whose row it has in its cache.
    void score(const Batch& batch, int member) {
        const int32_t* samples = users_.rows.entries(member);
        const int64_t count = users_.rows.entry_count(member);
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
                users_.blocks.prefetch_weights(users[samples[i + kAhead]]);
                const int32_t* ahead = items + samples[i + kAhead] * candidates_;
                for (int64_t j = 0; j < candidates_; ++j) items_.blocks.prefetch_weights(ahead[j]);
            }
            const int64_t sample = samples[i];
            const float* user = users_.blocks.weights(users[sample]);
            const float bias = users_.blocks.header(users[sample]).bias;
            float* scores = scratch.scores.data() + i * candidates_;
            for (int64_t j = 0; j < candidates_; ++j) {
                const int32_t item = items[sample * candidates_ + j];
                scores[j] = dot(user, items_.blocks.weights(item), width_) + bias + items_.blocks.header(item).bias;
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
            stage(sample, users[sample], items + sample * candidates_, scratch.terms.data());
        }
    }

    // Keeps what the updates need of the weights from before the batch.
    void stage(int64_t sample, int32_t user, const int32_t* items, Term* terms) {
        const float* gradients = gradients_.data() + sample * candidates_;
        float bias_gradient = 0.0f;
        int64_t count = 0;
        for (int64_t j = 0; j < candidates_; ++j) {  // no branch: which negative has a gradient cannot be predicted
            bias_gradient += gradients[j];
            terms[count] = {gradients[j], items_.blocks.weights(items[j])};
            count += gradients[j] != 0;
        }
        user_bias_gradients_[sample] = bias_gradient;
        const float* weights = users_.blocks.weights(user);
        float *vector = user_vectors_.data() + sample * width_, *gradient = user_gradients_.data() + sample * width_;
        for (int64_t i = 0; i < width_; i += Lanes::kSize) {
            Lanes sum = Lanes::all(0.0f);
            for (const Term* term = terms; term < terms + count; ++term) {
                sum = multiply_add(Lanes::all(term->factor), Lanes::load(term->vector + i), sum);
            }
            sum.store(gradient + i);
            Lanes::load(weights + i).store(vector + i);
        }
    }

    void update(uint32_t number, int member, const Batch& next) {
        NextRows next_users(users_, next.count > 0 ? samples_.users(next.start) : nullptr, member);
        NextRows next_items(items_, next.count > 0 ? samples_.items(next.start) : nullptr, member);
        if (next_users.bytes() + next_items.bytes() > kSecondLevel) {  // they would drive each other out
            next_users.drop();
            next_items.drop();
        }
        const auto& user_rows = users_.rows.rows(member);
        for (size_t i = 0; i < user_rows.size(); ++i) {
            const auto& row = user_rows[i];
            if (i + kRowsAhead < user_rows.size()) {
                users_.blocks.prefetch_row<Prefetch::write>(user_rows[i + kRowsAhead].row);
                prefetch(&user_gradients_[user_rows[i + kRowsAhead].first * width_], width_ * 4);
            }
            if (!next_users.prefetch()) next_items.prefetch();
            const auto gradient = [&](auto lanes, int64_t offset) {
                using V = decltype(lanes);
                V sum = V::all(0.0f);
                users_.rows.each(number, row, [&](int64_t sample) {
                    sum = sum + V::load(is_bias<V>(offset) ? &user_bias_gradients_[sample]
                                                           : &user_gradients_[sample * width_ + offset]);
                });
                return sum;
            };
            users_.update(row.row, rule_, gradient);
        }
        const auto& item_rows = rows_to_move(number, member);
        for (size_t i = 0; i < item_rows.size(); ++i) {
            const auto& row = item_rows[i];
            if (i + kRowsAhead < item_rows.size()) {
                items_.blocks.prefetch_row<Prefetch::write>(item_rows[i + kRowsAhead].row);
                prefetch(&user_vectors_[sample_of_[item_rows[i + kRowsAhead].first] * width_], width_ * 4);
            }
            if (!next_users.prefetch()) next_items.prefetch();
            const auto gradient = [&](auto lanes, int64_t offset) {
                using V = decltype(lanes);
                V sum = V::all(0.0f);
                items_.rows.each(number, row, [&](int64_t entry) {
                    const V factor = V::all(gradients_[entry]);
                    const float* vector = user_vectors_.data() + sample_of_[entry] * width_;
                    sum = is_bias<V>(offset) ? sum + factor : multiply_add(factor, V::load(vector + offset), sum);
                });
                return sum;
            };
            items_.update(row.row, rule_, gradient);
        }
    }

    // The rows of the items, but for those whose gradient is zero if that does not move them.
    const std::vector<BatchRows::Entries>& rows_to_move(uint32_t number, int member) {
        const auto& rows = items_.rows.rows(member);
        if (Rule::kMovesOnZero) return rows;
        auto& moving = scratch_[member].moving;
        moving.resize(rows.size());
        size_t count = 0;
        for (const auto& row : rows) {  // no branch: which of many negatives have a gradient cannot be predicted
            moving[count] = row;
            count += has_gradient(number, row);
        }
        moving.resize(count);
        return moving;
    }

    bool has_gradient(uint32_t number, const BatchRows::Entries& row) const {
        bool found = false;
        items_.rows.each(number, row, [&](int64_t entry) { found |= gradients_[entry] != 0; });
        return found;
    }

    void add_loss(int64_t count) {
        double sum = 0;
        for (int64_t i = 0; i < count; ++i) sum += losses_[i];
        loss_ += sum / static_cast<double>(count);
    }

    void flush() {
        for (const TrainedTable* table : {&users_, &items_}) {
            table->catch_up_all(team_, rule_, [](int64_t, int64_t) {});
        }
        rule_.restart();
    }

    EpochSettings settings_;
    int64_t count_, batch_size_, chunk_;
    EpochSamples samples_;
    int64_t candidates_;
    Rule rule_;
    Team team_;
    TrainedTable users_, items_;
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
    return with_rule(settings.rule, settings.rule_settings, users.dim, [&](auto rule) {
        return Epoch<decltype(rule)>(users, items, interactions, sampling, settings, std::move(rule)).run(report);
    });
}

}  // namespace spotfast
