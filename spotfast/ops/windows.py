"""Sequence windows of users' histories."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import backends, validation
from spotfast.reference import windows as reference

MOST_LENGTH = 2**31 - 1
MOST_STEP = 2**62  # so that positions do not overflow


def histories(
    user_ids: NDArray[np.integer[Any]],
    item_ids: NDArray[np.integer[Any]],
    timestamps: NDArray[Any],
    num_users: int,
    *,
    backend: str = "auto",
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Group items by user, each user's in the order of their timestamps; equal timestamps keep their order.

    Args:
        user_ids: (N,) integers in [0, num_users).
        item_ids: (N,) integers in [0, 2**31 - 2].
        timestamps: (N,) finite numbers or datetime64.
        num_users: the number of users.
        backend: "auto", "native" or "reference".

    Returns:
        indptr, int64 of shape (num_users + 1,), and items, int32 of shape (N,): the history of user u is
        `items[indptr[u]:indptr[u + 1]]`.

    Example:
        >>> indptr, items = histories(np.array([1, 0, 1]), np.array([5, 6, 7]), np.array([2, 1, 1]), 2)
        >>> indptr.tolist(), items.tolist()
        ([0, 1, 3], [6, 7, 5])
    """
    users = validation.ids("user_ids", user_ids, num_users, "num_users")
    items = validation.ids("item_ids", item_ids)
    times = validation.numbers("timestamps", timestamps, len(users), kinds="fiuM")
    if len(items) != len(users):
        raise ValueError(f"item_ids must have the length of user_ids ({len(users)}), got {len(items)}")
    if times.dtype == np.uint64 and len(times) and times.max() >= 2**63:
        raise ValueError(f"timestamps must be below 2**63, got {times.max()}")
    times = times.astype(np.float64 if times.dtype.kind == "f" else np.int64, copy=False)
    if backends.choose("windows", "cpu", backend) == "native":
        width = np.int64 if np.int64 in (users.dtype, items.dtype) else np.int32
        ids = (np.ascontiguousarray(array, width) for array in (users, items))
        return backends.native().histories(*ids, np.ascontiguousarray(times), num_users, backends.num_threads())
    return reference.histories(users, items.astype(np.int32), times, num_users)


def windows(
    indptr: NDArray[np.int64],
    items: NDArray[np.int32],
    length: int,
    min_length: int = 1,
    step: int = 1,
    *,
    backend: str = "auto",
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut histories into windows of `length`, padded on the left with 0.

    A history of n items gives the windows that end at n, n - step, n - 2 step, ... > 0, in this order.

    Args:
        indptr: (num_users + 1,) int64, from `histories`.
        items: (N,) int32, from `histories`.
        length: the length of a window, at least 1.
        min_length: windows with fewer items are left out.
        step: the distance between the ends of consecutive windows, at least 1.
        backend: "auto", "native" or "reference".

    Returns:
        sequences, int32 of shape (windows, length), and the user of each, int32 of shape (windows,).

    Example:
        >>> windows(np.array([0, 3]), np.array([1, 2, 3], np.int32), length=2)[0].tolist()
        [[2, 3], [1, 2], [0, 1]]
    """
    _check_shape(length, min_length, step)
    _check_indptr(indptr, len(items))
    if backends.choose("windows", "cpu", backend) == "native":
        threads = backends.num_threads()
        sequences, users = backends.native().windows(indptr, items, length, min_length, step, threads)
        return sequences, users
    return reference.windows(indptr, items, length, min_length, step)


def window_offsets(
    indptr: NDArray[np.int64], length: int, min_length: int = 1, step: int = 1, *, backend: str = "auto"
) -> NDArray[np.int64]:
    """Number the windows that `windows` cuts, without cutting them.

    A history of n items has `(n - m) // step + 1` windows if `m <= n` and `m <= length`, where
    `m = max(min_length, 1)`, and else none.

    Args:
        indptr: as `windows`.
        length: as `windows`.
        min_length: as `windows`.
        step: as `windows`.
        backend: as `windows`.

    Returns:
        int64 of shape (num_users + 1,): the windows of user u have the numbers `offsets[u]` to
        `offsets[u + 1] - 1`, and there are `offsets[-1]` of them.

    Example:
        >>> window_offsets(np.array([0, 3, 3, 5]), length=2).tolist()
        [0, 3, 3, 5]
    """
    _check_shape(length, min_length, step)
    _check_indptr(indptr, int(indptr[-1]))
    if backends.choose("windows", "cpu", backend) == "native":
        return backends.native().window_offsets(indptr, length, min_length, step)
    return reference.window_offsets(indptr, length, min_length, step)


def windows_at(
    indptr: NDArray[np.int64],
    items: NDArray[np.int32],
    offsets: NDArray[np.int64],
    index: ArrayLike,
    length: int,
    min_length: int = 1,
    step: int = 1,
    *,
    backend: str = "auto",
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Cut the windows with the given numbers: `windows(...)[0][index]` and `windows(...)[1][index]`.

    Takes time and memory for these windows only, beyond a binary search for the user of each.

    Args:
        indptr: (num_users + 1,) int64, from `histories`.
        items: (N,) int32, from `histories`.
        offsets: (num_users + 1,) int64, from `window_offsets` with the same arguments.
        index: (k,) integers in [0, offsets[-1]), in any order, repetitions allowed.
        length: as `windows`.
        min_length: as `windows`.
        step: as `windows`.
        backend: as `windows`.

    Returns:
        sequences, int32 of shape (k, length), and the user of each, int32 of shape (k,).

    Raises:
        ValueError: naming the argument, for an index out of range and for offsets of other histories or shapes.

    Example:
        >>> indptr, items = np.array([0, 3]), np.array([1, 2, 3], np.int32)
        >>> windows_at(indptr, items, window_offsets(indptr, 2), np.array([2, 0]), length=2)[0].tolist()
        [[0, 1], [2, 3]]
    """
    _check_shape(length, min_length, step)
    if len(offsets) != len(indptr):
        raise ValueError(f"offsets must have the length of indptr ({len(indptr)}), got {len(offsets)}")
    numbers = np.ascontiguousarray(validation.positions("index", index, int(offsets[-1])))
    if backends.choose("windows", "cpu", backend) == "native":
        threads = backends.num_threads()
        return backends.native().windows_at(indptr, items, offsets, numbers, length, min_length, step, threads)
    return reference.windows_at(indptr, items, offsets, numbers, length, min_length, step)


def _check_shape(length: int, min_length: int, step: int) -> None:
    validation.integer("length", length, 1, MOST_LENGTH)
    validation.integer("min_length", min_length, 0, MOST_STEP)
    validation.integer("step", step, 1, MOST_STEP)


def _check_indptr(indptr: NDArray[np.int64], num_items: int) -> None:
    if indptr[0] != 0 or indptr[-1] != num_items or (np.diff(indptr) < 0).any():
        raise ValueError(f"indptr must ascend from 0 to the number of items ({num_items})")
