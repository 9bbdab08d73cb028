#include "windows.h"

#include <algorithm>
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
                const int64_t size = std::min(stop, shape.length);
                int32_t* row = sequences + window * shape.length;
                std::fill(row, row + shape.length - size, 0);
                std::copy(history + stop - size, history + stop, row + shape.length - size);
                user_ids[window] = static_cast<int32_t>(user);
            }
        }
    });
}

}  // namespace spotfast
