#include "pooling_epoch.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "lanes.h"
#include "team.h"
#include "thread_choice.h"
#include "trained_table.h"

namespace spotfast {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int32_t kPadding = 0;

template <class Rule>
class PoolingEpoch {
  public:
    PoolingEpoch(const TableView& items, const SequencesView& sequences, int64_t slots, int64_t num_items,
                 const EpochSettings& settings, Rule rule)
        : settings_(settings),
          sequences_(sequences),
          num_items_(num_items),
          slots_(slots),
          candidates_(1 + slots),
          length_(sequences.length),
          batch_size_(std::min(settings.batch_size, sequences.count)),
          rule_(std::move(rule)),
          team_(static_cast<int>(std::min<int64_t>(settings.threads, batch_size_))),
          items_(items, batch_size_ * length_ * candidates_, team_),
          width_(items_.blocks.width()),
          ids_(batch_size_ * length_ * candidates_, kNowhere),
          step_of_(ids_.size()),
          steps_(batch_size_),
          gradients_(ids_.size(), kPoison),
          losses_(batch_size_, kPoison),
          states_(batch_size_ * length_ * width_, kPoison),
          input_gradients_(batch_size_ * length_ * width_, kPoison),
          scratch_(team_.size(), Scratch(length_, candidates_, width_)) {
        for (size_t entry = 0; entry < step_of_.size(); ++entry) {
            step_of_[entry] = static_cast<int32_t>(entry / candidates_);
        }
    }

    EpochResult run(const Report& report) {
        ThreadChoice choice(team_.size());
        auto reported = Clock::now();
        bool go_on = true;
        for (int64_t start = 0; start < sequences_.count && go_on; start += batch_size_) {
            const int64_t count = std::min(batch_size_, sequences_.count - start);
            const auto started = Clock::now();
            train(start, count, choice.next());
            const auto now = Clock::now();
            choice.record(std::chrono::duration<double>(now - started).count() / static_cast<double>(count));
            if (rule_.full()) {
                items_.catch_up_all(team_, rule_, [](int64_t, int64_t) {});
                rule_.restart();
            }
            if (now - reported >= kReportEvery || start + count == sequences_.count) {
                go_on = report(start + count);
                reported = now;
            }
        }
        items_.finish(team_, rule_);
        return {loss_ / static_cast<double>(batches_), batches_};
    }

  private:
    // What a row's gradient is the sum of: of the state that it was scored with, and of its part in later states.
    struct Term {
        float factor;
        const float *state, *input_gradient;
    };

    // What a state's gradient is the sum of.
    struct Scored {
        float factor;
        const float* vector;
    };

    // Of the steps of one sequence that are not padding.
    struct Scratch {
        Scratch(int64_t length, int64_t candidates, int64_t width)
            : scores(length * candidates, kPoison),
              gradients(length * candidates, kPoison),
              losses(length, kPoison),
              sum(width, kPoison),
              scored(candidates) {}
        std::vector<float> scores, gradients, losses, sum;
        std::vector<int64_t> negatives;
        std::vector<Scored> scored;  // of one step
        std::vector<Term> terms;     // of one row
    };

    void train(int64_t start, int64_t count, int active) {
        const auto number = static_cast<uint32_t>(++batches_);
        team_.run(active, [&](int member) {
            const int64_t begin = count * member / active, end = count * (member + 1) / active;
            draw(start, begin, end, scratch_[member].negatives);
            team_.meet();  // all candidates are known
            items_.rows.select(member, active, ids_.data(), count * length_ * candidates_);
            items_.collect(member, active, number, ids_.data(), rule_);
            team_.meet();  // all rows are up to date
            if (member == 0) rule_.take();
            const int64_t steps = std::accumulate(steps_.begin(), steps_.begin() + count, int64_t{0});
            const float scale = steps > 0 ? 1.0f / static_cast<float>(steps) : 0.0f;
            for (int64_t sequence = begin; sequence < end; ++sequence) {
                score(sequence, sequences_.ids + (start + sequence) * length_, scale, scratch_[member]);
            }
            team_.meet();  // all gradients are known
            if (member == 0 && steps > 0) {
                loss_ += std::accumulate(losses_.begin(), losses_.begin() + count, 0.0) / static_cast<double>(steps);
            }
            update(number, member);
        });
    }

    // Notes the candidates of the sequences [begin, end) of the batch: at every step the item that follows, then
    // negatives. There are none at padding.
    void draw(int64_t start, int64_t begin, int64_t end, std::vector<int64_t>& negatives) {
        const int64_t draws = length_ * slots_, first = sequences_.start + start;
        negatives.resize((end - begin) * draws);
        const NegativesRequest request{settings_.seed, settings_.epoch, first + begin, first + end, draws, num_items_};
        uniform_negatives(request, kPadding + 1, 1, negatives.data());
        for (int64_t sequence = begin; sequence < end; ++sequence) {
            const int32_t* followed = sequences_.ids + (start + sequence) * length_;
            steps_[sequence] = length_ - std::count(followed, followed + length_, kPadding);
            for (int64_t step = 0; step < length_; ++step) {
                int32_t* ids = ids_.data() + (sequence * length_ + step) * candidates_;
                if (followed[step] == kPadding) {
                    std::fill(ids, ids + candidates_, kNoRow);
                    continue;
                }
                ids[0] = followed[step];
                const int64_t* drawn = negatives.data() + (sequence - begin) * draws + step * slots_;
                for (int64_t j = 0; j < slots_; ++j) ids[1 + j] = static_cast<int32_t>(drawn[j]);
            }
        }
    }

    // Forwards through a sequence for states and scores, backwards for the gradients of its items as inputs.
    void score(int64_t sequence, const int32_t* followed, float scale, Scratch& scratch) {
        const int64_t first = sequence * length_;
        int64_t steps = 0;
        std::fill(scratch.sum.begin(), scratch.sum.end(), 0.0f);
        for (int64_t step = 0; step < length_; ++step) {
            if (followed[step] == kPadding) continue;
            float* state = states_.data() + (first + step) * width_;
            scale_to(state, scratch.sum.data(), 1.0f / static_cast<float>(steps + 1));
            const int32_t* ids = ids_.data() + (first + step) * candidates_;
            for (int64_t j = 0; j < candidates_; ++j) {
                scratch.scores[steps * candidates_ + j] =
                    dot(state, items_.blocks.weights(ids[j]), width_) + items_.blocks.header(ids[j]).bias;
            }
            add_product(scratch.sum.data(), items_.blocks.weights(followed[step]), 1.0f, width_);
            ++steps;
        }
        score_loss(settings_.loss, {steps, candidates_, scratch.scores.data(), nullptr, nullptr, scale,
                                    scratch.losses.data(), scratch.gradients.data()});
        losses_[sequence] = std::accumulate(scratch.losses.begin(), scratch.losses.begin() + steps, 0.0);
        std::fill(scratch.sum.begin(), scratch.sum.end(), 0.0f);  // now of the gradients of later states
        for (int64_t step = length_ - 1; step >= 0; --step) {
            if (followed[step] == kPadding) continue;
            --steps;
            std::copy_n(scratch.sum.data(), width_, input_gradients_.data() + (first + step) * width_);
            const int64_t entry = (first + step) * candidates_;
            const float share = 1.0f / static_cast<float>(steps + 1);
            int64_t count = 0;
            for (int64_t j = 0; j < candidates_;
                 ++j) {  // no branch: which negatives have a gradient cannot be predicted
                const float gradient = gradients_[entry + j] = scratch.gradients[steps * candidates_ + j];
                scratch.scored[count] = {gradient * share, items_.blocks.weights(ids_[entry + j])};
                count += gradient != 0;
            }
            for (int64_t j = 0; j < count; ++j) {
                add_product(scratch.sum.data(), scratch.scored[j].vector, scratch.scored[j].factor, width_);
            }
        }
    }

    void update(uint32_t number, int member) {
        auto& terms = scratch_[member].terms;
        for (const auto& row : items_.rows.rows(member)) {
            int64_t count = 0;
            items_.rows.each(number, row, [&](int64_t entry) {  // no branch on what has a gradient here, either
                if (count == static_cast<int64_t>(terms.size())) terms.resize(2 * terms.size() + 1);
                const int64_t step = step_of_[entry];
                const bool follows = entry == step * candidates_;  // then it is an input of later steps, too
                terms[count] = {gradients_[entry], &states_[step * width_],
                                follows ? &input_gradients_[step * width_] : nullptr};
                count += (gradients_[entry] != 0) | follows;
            });
            if (count == 0 && !Rule::kMovesOnZero) continue;
            items_.update(row.row, rule_, [&](auto lanes, int64_t offset) {
                using V = decltype(lanes);
                V sum = V::all(0.0f);
                for (auto term = terms.begin(); term < terms.begin() + count; ++term) {
                    const V factor = V::all(term->factor);
                    if (is_bias<V>(offset)) {
                        sum = sum + factor;
                        continue;
                    }
                    sum = multiply_add(factor, V::load(term->state + offset), sum);
                    if (term->input_gradient != nullptr) sum = sum + V::load(term->input_gradient + offset);
                }
                return sum;
            });
        }
    }

    void scale_to(float* to, const float* from, float factor) const {
        for (int64_t i = 0; i < width_; i += Lanes::kSize) (Lanes::all(factor) * Lanes::load(from + i)).store(to + i);
    }

    EpochSettings settings_;
    SequencesView sequences_;
    int64_t num_items_, slots_, candidates_, length_, batch_size_;
    Rule rule_;
    Team team_;
    TrainedTable items_;
    int64_t width_;
    std::vector<int32_t> ids_;                     // candidates of every step of the batch
    std::vector<int32_t> step_of_;                 // by candidate
    std::vector<int64_t> steps_;                   // that are not padding, by sequence
    std::vector<float> gradients_;                 // of the candidates' scores
    std::vector<double> losses_;                   // summed, by sequence
    std::vector<float> states_, input_gradients_;  // vectors, by step
    std::vector<Scratch> scratch_;                 // by member
    double loss_ = 0;
    int64_t batches_ = 0;
};

}  // namespace

EpochResult pooling_epoch(const TableView& items, const SequencesView& sequences, int64_t slots, int64_t num_items,
                          const EpochSettings& settings, const Report& report) {
    return with_rule(settings.rule, settings.rule_settings, items.dim, [&](auto rule) {
        return PoolingEpoch<decltype(rule)>(items, sequences, slots, num_items, settings, std::move(rule)).run(report);
    });
}

}  // namespace spotfast
