// Users' histories in time order, and the left-padded windows cut from them.
#pragma once

#include <cstdint>

namespace spotfast {

// Groups interactions by user, each user's in the order of their timestamps, equal timestamps in input order.
// indptr has num_users + 1 entries, items and user_ids `count`.
// Ids are int32 or int64, timestamps int64 or double.
template <class Id, class Timestamp>
void histories(const Id* user_ids, const Id* item_ids, const Timestamp* timestamps, int64_t count, int64_t num_users,
               int threads, int64_t* indptr, int32_t* items);

struct WindowShape {
    int64_t length, min_length, step;

    // How many windows a history of `size` items gives: they end at size, size - step, ... and hold >=
    // min_length.
    int64_t count(int64_t size) const {
        const int64_t least = min_length > 1 ? min_length : 1;
        return least > length || size < least ? 0 : (size - least) / step + 1;
    }
};

// offsets[u] = number of windows of the users before u; offsets has num_users + 1 entries.
void window_offsets(const int64_t* indptr, int64_t num_users, const WindowShape& shape, int64_t* offsets);

// Writes all windows of all users: newest first, padded on the left with 0.
void windows(const int64_t* indptr, const int32_t* items, int64_t num_users, const WindowShape& shape,
             const int64_t* offsets, int threads, int32_t* sequences, int32_t* user_ids);

// The histories of num_users users, and where the windows of each begin in the numbering of `windows`.
struct WindowsView {
    const int64_t* indptr;
    const int32_t* items;
    const int64_t* offsets;
    int64_t num_users, num_items_stored;  // num_items_stored: the length of `items`
};

// Writes the windows with the given numbers: row i of `windows` for i in index. Nothing is trusted: throws
// std::invalid_argument for a number that is not a window's, and for arrays that do not belong together.
void windows_at(const WindowsView& view, const WindowShape& shape, const int64_t* index, int64_t count, int threads,
                int32_t* sequences, int32_t* user_ids);

}  // namespace spotfast
