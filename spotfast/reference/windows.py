"""Users' histories in time order, and the left-padded windows cut from them, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def histories(
    user_ids: NDArray[np.integer[Any]], item_ids: NDArray[np.int32], timestamps: NDArray[Any], num_users: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Items grouped by user, each user's by time; equal times keep their order."""
    order = np.lexsort((timestamps, user_ids))
    indptr = np.zeros(num_users + 1, np.int64)
    np.cumsum(np.bincount(user_ids, minlength=num_users), out=indptr[1:])
    return indptr, item_ids[order]


def windows(
    indptr: NDArray[np.int64], items: NDArray[np.int32], length: int, min_length: int, step: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """All windows of all users, newest first."""
    sequences, users = [], []
    for user, (begin, end) in enumerate(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)):
        for stop in range(end, begin, -step):
            window = items[max(begin, stop - length) : stop]
            if len(window) >= min_length:
                sequences.append(np.pad(window, (length - len(window), 0)))
                users.append(user)
    return np.array(sequences, np.int32).reshape(-1, length), np.array(users, np.int32)


def window_offsets(indptr: NDArray[np.int64], length: int, min_length: int, step: int) -> NDArray[np.int64]:
    """The number of windows of the users before each, and of all of them."""
    least = max(min_length, 1)
    sizes = np.diff(indptr)
    counts = np.where((sizes >= least) & (least <= length), (sizes - least) // step + 1, 0)
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def windows_at(
    indptr: NDArray[np.int64],
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    index: NDArray[np.int64],
    length: int,
    min_length: int,
    step: int,
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The windows with the given numbers."""
    if not np.array_equal(offsets, window_offsets(indptr, length, min_length, step)):
        raise ValueError("offsets do not belong to indptr and the windows' shape")
    users = np.searchsorted(offsets, index, side="right") - 1
    stops = indptr[users + 1] - (index - offsets[users]) * step
    positions = stops[:, None] + np.arange(-length, 0)
    inside = positions >= indptr[users][:, None]
    sequences = np.zeros((len(index), length), np.int32)
    sequences[inside] = items[positions[inside]]
    return sequences, users.astype(np.int32)
