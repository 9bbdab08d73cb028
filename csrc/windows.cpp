#include "windows.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "parallel_for.h"

namespace spotfast {

namespace {

template <class Timestamp>
struct Event {
    Timestamp time;
    int32_t item;
};

// Most histories are short or nearly sorted already: insertion is stable and needs no memory.
template <class Timestamp>
void sort_by_time(Event<Timestamp>* begin, Event<Timestamp>* end) {
    const auto earlier = [](const auto& a, const auto& b) { return a.time < b.time; };
    if (std::is_sorted(begin, end, earlier)) return;
    if (end - begin > 48) {
        std::stable_sort(begin, end, earlier);
        return;
    }
    for (auto* current = begin + 1; current < end; ++current) {
        const auto event = *current;
        auto* hole = current;
        for (; hole > begin && event.time < hole[-1].time; --hole) *hole = hole[-1];
        *hole = event;
    }
}

// Writes the window that holds the items before history[stop], up to shape.length of them.
void cut(const int32_t* history, int64_t stop, const WindowShape& shape, int32_t* row) {
    const int64_t size = std::min(stop, shape.length);
    std::fill(row, row + shape.length - size, 0);
    std::copy(history + stop - size, history + stop, row + shape.length - size);
}

}  // namespace

template <class Id, class Timestamp>
void histories(const Id* user_ids, const Id* item_ids, const Timestamp* timestamps, int64_t count, int64_t num_users,
               int threads, int64_t* indptr, int32_t* items) {
    std::fill(indptr, indptr + num_users + 1, 0);
    for (int64_t i = 0; i < count; ++i) ++indptr[user_ids[i] + 1];
    for (int64_t user = 0; user < num_users; ++user) indptr[user + 1] += indptr[user];

    std::vector<int64_t> next(indptr, indptr + num_users);
    std::vector<Event<Timestamp>> events(count);
    for (int64_t i = 0; i < count; ++i)
        events[next[user_ids[i]]++] = {timestamps[i], static_cast<int32_t>(item_ids[i])};

    parallel_for(num_users, threads, 1 << 10, [&](int64_t begin, int64_t end) {
        for (int64_t user = begin; user < end; ++user) {
            sort_by_time(events.data() + indptr[user], events.data() + indptr[user + 1]);
            for (int64_t i = indptr[user]; i < indptr[user + 1]; ++i) items[i] = events[i].item;
        }
    });
}

#define SPOTFAST_HISTORIES(Id, Timestamp)                                                                           \
    template void histories<Id, Timestamp>(const Id*, const Id*, const Timestamp*, int64_t, int64_t, int, int64_t*, \
                                           int32_t*)
SPOTFAST_HISTORIES(int32_t, int64_t);
SPOTFAST_HISTORIES(int32_t, double);
SPOTFAST_HISTORIES(int64_t, int64_t);
SPOTFAST_HISTORIES(int64_t, double);
#undef SPOTFAST_HISTORIES

void window_offsets(const int64_t* indptr, int64_t num_users, const WindowShape& shape, int64_t* offsets) {
    offsets[0] = 0;
    for (int64_t user = 0; user < num_users; ++user) {
        offsets[user + 1] = offsets[user] + shape.count(indptr[user + 1] - indptr[user]);
    }
}

void windows(const int64_t* indptr, const int32_t* items, int64_t num_users, const WindowShape& shape,
             const int64_t* offsets, int threads, int32_t* sequences, int32_t* user_ids) {
    parallel_for(num_users, threads, 1 << 10, [&](int64_t begin, int64_t end) {
        for (int64_t user = begin; user < end; ++user) {
            const int32_t* history = items + indptr[user];
            int64_t stop = indptr[user + 1] - indptr[user];
            for (int64_t window = offsets[user]; window < offsets[user + 1]; ++window, stop -= shape.step) {
                cut(history, stop, shape, sequences + window * shape.length);
                user_ids[window] = static_cast<int32_t>(user);
            }
        }
    });
}

void windows_at(const WindowsView& view, const WindowShape& shape, const int64_t* index, int64_t count, int threads,
                int32_t* sequences, int32_t* user_ids) {
    const int64_t *offsets = view.offsets, *last = offsets + view.num_users + 1;
    parallel_for(count, threads, 1 << 12, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            // The last user whose windows begin at or before this one; users without windows begin where the next do.
            const int64_t user = std::upper_bound(offsets, last, index[i]) - offsets - 1;
            if (user < 0 || user >= view.num_users || offsets[user] < 0)
                throw std::invalid_argument("no window has this number");
            const int64_t start = view.indptr[user], stop = view.indptr[user + 1];
            if (start < 0 || stop < start || stop > view.num_items_stored)
                throw std::invalid_argument("indptr does not belong to items");
            const int64_t window = index[i] - offsets[user];
            if (window >= shape.count(stop - start))
                throw std::invalid_argument("offsets do not belong to indptr and the windows' shape");
            cut(view.items + start, stop - start - window * shape.step, shape, sequences + i * shape.length);
            user_ids[i] = static_cast<int32_t>(user);
        }
    });
}

}  // namespace spotfast
