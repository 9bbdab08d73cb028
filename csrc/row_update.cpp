#include "row_update.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "owners.h"
#include "parallel_for.h"
#include "poison.h"

namespace spotfast {

namespace {

constexpr int32_t kUntouched = -1;           // moments of zero: nothing is owed, ever, until there is a gradient
constexpr int64_t kEntriesPerThread = 2048;  // at least: fewer are not worth a thread
constexpr int64_t kRowsPerThread = 4096;     // likewise, in a flush
constexpr int64_t kAhead = 8;                // rows that are on their way to the cache

// A number below kUntouched for each place, and back.
int32_t marked(int32_t place) { return -2 - place; }
int32_t place_of(int32_t mark) { return -2 - mark; }

int members_for(int64_t entries, int threads) {
    return static_cast<int>(std::clamp<int64_t>(entries / kEntriesPerThread, 1, std::max(threads, 1)));
}

void prefetch_row(const RowView& row) {
    const int64_t bytes = row.width * static_cast<int64_t>(sizeof(float));
    prefetch<Prefetch::write>(row.weights, bytes);
    prefetch<Prefetch::write>(row.first, bytes);
    prefetch<Prefetch::write>(row.second, bytes);
}

}  // namespace

DeferredRows::DeferredRows(int64_t rows, const AdamSettings& settings, int64_t steps)
    : owed_(settings, steps), last_(rows, steps == 0 && settings.weight_decay == 0 ? kUntouched : 0) {}

bool DeferredRows::catch_up(const AdamTable& table, const int64_t* ids, int64_t count, int threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    check(ids, count);
    if (owed_.taken() == 0) return false;
    const int members = members_for(count, threads);
    make_room(count, table.dim, members);
    parallel_parts(members, threads, [&](int64_t part) {
        const auto member = static_cast<int>(part);
        select(member, members, ids, count);
        bool moved = false;
        each_own(member, table, ids, [&](int32_t, int64_t row) {
            if (!owes(row)) return;
            owed_.catch_up(table.row(row), last_[row]);
            last_[row] = static_cast<int32_t>(owed_.taken());
            moved = true;
        });
        members_[member].moved = moved;
    });
    return std::any_of(members_.begin(), members_.begin() + members, [](const Member& m) { return m.moved; });
}

void DeferredRows::update(const AdamTable& table, const int64_t* ids, const float* gradients, int64_t entries,
                          double learning_rate, int threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    check(ids, entries);
    if (owed_.full()) flush_all(table, threads);
    const int members = members_for(entries, threads);
    make_room(entries, table.dim, members);
    parallel_parts(members, threads, [&](int64_t part) {
        const auto member = static_cast<int>(part);
        sweep(member, members, table);
        select(member, members, ids, entries);
        collect(member, table, ids);
    });
    owed_.take(learning_rate);
    parallel_parts(members, threads, [&](int64_t part) { step(static_cast<int>(part), table, gradients); });
}

void DeferredRows::flush(const AdamTable& table, int threads) {
    const std::lock_guard<std::mutex> lock(mutex_);
    flush_all(table, threads);
}

void DeferredRows::flush_all(const AdamTable& table, int threads) {
    if (owed_.taken() == 0) return;
    const auto rows = static_cast<int64_t>(last_.size());
    parallel_for(rows, threads, kRowsPerThread, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            if (owes(row)) owed_.catch_up(table.row(row), last_[row]);
            if (last_[row] != kUntouched) last_[row] = 0;
        }
    });
    owed_.restart();
}

void DeferredRows::check(const int64_t* ids, int64_t count) const {
    const auto rows = static_cast<uint64_t>(last_.size());
    for (int64_t i = 0; i < count; ++i) {
        if (static_cast<uint64_t>(ids[i]) >= rows) {
            throw std::out_of_range("ids must be in [0, " + std::to_string(rows) + "), got " + std::to_string(ids[i]));
        }
    }
}

// Nothing is allocated after it: marks in `last_` must not be left there by an exception.
void DeferredRows::make_room(int64_t count, int64_t dim, int members) {
    owed_.make_room();
    if (members_.size() < static_cast<size_t>(members)) members_.resize(members);
    if (next_.size() < static_cast<size_t>(count)) next_.resize(count, kNowhere);
    for (int member = 0; member < members; ++member) {
        Member& mine = members_[member];
        if (mine.own.size() <= static_cast<size_t>(count)) mine.own.resize(count + 1, kNowhere);
        mine.rows.reserve(count);
        mine.sum.resize(dim, kPoison);
    }
}

void DeferredRows::select(int member, int members, const int64_t* ids, int64_t count) {
    int32_t* own = members_[member].own.data();
    int64_t owned = 0;
    for (int64_t i = 0; i < count; ++i) {  // no branch: which rows are whose cannot be predicted
        own[owned] = static_cast<int32_t>(i);
        owned += owns(member, members, static_cast<int32_t>(ids[i]));
    }
    members_[member].own_count = owned;
}

// Calls visit(entry, row) for the entries that a member selected, in order, with the rows that owe something on their
// way to the cache.
template <class Visit>
void DeferredRows::each_own(int member, const AdamTable& table, const int64_t* ids, const Visit& visit) {
    const int32_t* own = members_[member].own.data();
    const int64_t count = members_[member].own_count;
    for (int64_t i = 0; i < count; ++i) {
        if (i + 2 * kAhead < count) prefetch<Prefetch::write>(&last_[ids[own[i + 2 * kAhead]]], 1);
        if (i + kAhead < count && owes(ids[own[i + kAhead]])) prefetch_row(table.row(ids[own[i + kAhead]]));
        visit(own[i], ids[own[i]]);
    }
}

// Keeps what rows owe small that nobody looks up. Before any row of the step is collected, and so marked.
void DeferredRows::sweep(int member, int members, const AdamTable& table) {
    const RowRange range = owed_.to_sweep(static_cast<int64_t>(last_.size()));
    for (int64_t row = range.begin; row < range.end; ++row) {
        if (!owns(member, members, static_cast<int32_t>(row))) continue;
        last_[row] = static_cast<int32_t>(owed_.sweep(table.row(row), last_[row]));
    }
}

// Brings the rows of a step up to date, and notes the entries of each.
void DeferredRows::collect(int member, const AdamTable& table, const int64_t* ids) {
    auto& rows = members_[member].rows;
    rows.clear();
    each_own(member, table, ids, [&](int32_t entry, int64_t row) {
        next_[entry] = -1;
        int32_t& last = last_[row];
        if (last < kUntouched) {
            int32_t& end = rows[place_of(last)].last;
            next_[end] = entry;
            end = entry;
            return;
        }
        if (owes(row)) owed_.catch_up(table.row(row), last);
        last = marked(static_cast<int32_t>(rows.size()));
        rows.push_back({row, entry, entry});
    });
}

void DeferredRows::step(int member, const AdamTable& table, const float* gradients) {
    const auto& rows = members_[member].rows;
    float* sum = members_[member].sum.data();
    for (size_t i = 0; i < rows.size(); ++i) {
        if (i + kAhead < rows.size()) prefetch_row(table.row(rows[i + kAhead].row));
        const float* gradient = gradients + rows[i].first * table.dim;
        if (rows[i].first != rows[i].last) {
            std::copy_n(gradient, table.dim, sum);
            for (int32_t entry = next_[rows[i].first]; entry >= 0; entry = next_[entry]) {
                const float* more = gradients + entry * table.dim;
                for (int64_t d = 0; d < table.dim; ++d) sum[d] += more[d];
            }
            gradient = sum;
        }
        for_lanes(table.row(rows[i].row), [&](auto lanes, float* weight, float* first, float* second, int64_t offset) {
            owed_.step(decltype(lanes)::load(gradient + offset), weight, first, second);
        });
        last_[rows[i].row] = static_cast<int32_t>(owed_.taken());
    }
}

}  // namespace spotfast
