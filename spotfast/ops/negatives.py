"""Negative items for a range of samples.

The draw of (position, slot) is number `position * slots + slot` of the stream, so negatives do not depend on the
batch size, the number of threads or the device. `position` counts the samples of an epoch in the order in which
`spotfast.ops.permutation` visits them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops.philox import MAX_DRAWS, check_range, check_stream
from spotfast.positives import Positives
from spotfast.reference import negatives as reference


def uniform(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    num_items: int,
    *,
    first: int = 0,
    device: torch.device | str = "cpu",
    backend: str = "auto",
) -> Tensor:
    """Negatives drawn uniformly from [first, num_items): `first + (word * (num_items - first) >> 32)`.

    Args:
        seed: an integer in [0, 2**64).
        epoch: an integer in [0, 2**32).
        start: the first position.
        stop: the end of the positions.
        slots: negatives per position, at least 1.
        num_items: the size of the catalogue, in [first + 1, 2**31 - 1].
        first: the first item that may be drawn; 1 in sequence models, where 0 is padding.
        device: where the result is made.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        int64 tensor of shape (stop - start, slots).

    Raises:
        ValueError: for a value out of range, naming it.

    Example:
        >>> uniform(seed=1, epoch=0, start=0, stop=2, slots=3, num_items=10).shape
        torch.Size([2, 3])
    """
    _check(seed, epoch, start, stop, slots)
    validation.integer("first", first, 0)
    validation.integer("num_items", num_items, first + 1, validation.MAX_ID + 1)
    device = torch.device(device)
    chosen = backends.choose("negatives", device, backend)
    if chosen == "native":
        threads = backends.num_threads()
        drawn = backends.native().uniform_negatives(seed, epoch, start, stop, slots, num_items, first, threads)
        return torch.from_numpy(drawn)
    if chosen == "triton":
        from spotfast.kernels import negatives as kernels

        with backends.FallingBack("negatives", backend):
            return kernels.uniform(seed, epoch, start, stop, slots, num_items, first, device)
    return reference.uniform(seed, epoch, start, stop, slots, num_items, first, device)


def unseen(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    positives: Positives,
    users: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Negatives drawn uniformly from the items that are not positives of the user: exact, with a single draw each.

    With `x = word * (num_items - len(row)) >> 32`, the negative is the x-th item (from 0) that is not in the user's
    row of positives: `x` + the number of `j` with `row[j] - j <= x`.

    Args:
        seed: an integer in [0, 2**64).
        epoch: an integer in [0, 2**32).
        start: the first position.
        stop: the end of the positions.
        slots: negatives per position, at least 1.
        positives: the items of every user, on the device where the result is to be.
        users: int64 tensor of shape (stop - start,), the user at each position, on the same device.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        int64 tensor of shape (stop - start, slots).

    Raises:
        ValueError: for a value out of range, and if every item is a positive of one of the users: nothing is left.

    Example:
        >>> positives = Positives.from_interactions(np.array([0, 0]), np.array([0, 2]), 1, 4)
        >>> drawn = unseen(1, 0, 0, 8, 1, positives, torch.zeros(8, dtype=torch.int64))
        >>> sorted(set(drawn.flatten().tolist()))
        [1, 3]
    """
    _check(seed, epoch, start, stop, slots)
    _check_users(users, stop - start, positives)
    return unseen_of_checked(seed, epoch, start, stop, slots, positives, users, backend=backend)


def unseen_of_checked(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    positives: Positives,
    users: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """`unseen`, for arguments that have been checked: to check users, the host waits for their device."""
    chosen = backends.choose("negatives", users.device, backend)
    if chosen == "native":
        drawn = backends.native().unseen_negatives(
            seed,
            epoch,
            start,
            stop,
            slots,
            positives.num_items,
            users.contiguous().numpy(),
            positives.indptr.numpy(),
            positives.items.numpy(),
            backends.num_threads(),
        )
        return torch.from_numpy(drawn)
    if chosen == "triton":
        from spotfast.kernels import negatives as kernels

        with backends.FallingBack("negatives", backend):
            return kernels.unseen(seed, epoch, start, stop, slots, positives, users)
    return reference.unseen(seed, epoch, start, stop, slots, positives, users)


def popularity(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    thresholds: Tensor,
    positives: Positives,
    users: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Negatives drawn by popularity from the items that are not positives of the user.

    At most 16 attempts: item = the number of thresholds <= word, taken unless it is a positive of the user. Then an
    `unseen` draw at attempt 16, so that no user, however popular their items, keeps the sampler busy.

    Args:
        seed: an integer in [0, 2**64).
        epoch: an integer in [0, 2**32).
        start: the first position.
        stop: the end of the positions.
        slots: negatives per position, at least 1.
        thresholds: int64 tensor of shape (num_items - 1,), made by `popularity_thresholds`.
        positives: the items of every user, on the device where the result is to be.
        users: int64 tensor of shape (stop - start,), the user at each position, on the same device.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        int64 tensor of shape (stop - start, slots).

    Raises:
        ValueError: for a value out of range, and if every item is a positive of one of the users: nothing is left.
    """
    _check(seed, epoch, start, stop, slots)
    _check_users(users, stop - start, positives)
    check_thresholds("thresholds", thresholds, positives.num_items)
    return popularity_of_checked(seed, epoch, start, stop, slots, thresholds, positives, users, backend=backend)


def popularity_of_checked(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    thresholds: Tensor,
    positives: Positives,
    users: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """`popularity`, for arguments that have been checked: to check users, the host waits for their device."""
    chosen = backends.choose("negatives", users.device, backend)
    if chosen == "native":
        drawn = backends.native().popularity_negatives(
            seed,
            epoch,
            start,
            stop,
            slots,
            positives.num_items,
            thresholds.numpy().astype(np.uint32),
            users.contiguous().numpy(),
            positives.indptr.numpy(),
            positives.items.numpy(),
            backends.num_threads(),
        )
        return torch.from_numpy(drawn)
    if chosen == "triton":
        from spotfast.kernels import negatives as kernels

        with backends.FallingBack("negatives", backend):
            return kernels.popularity(seed, epoch, start, stop, slots, thresholds, positives, users)
    return reference.popularity(seed, epoch, start, stop, slots, thresholds, positives, users)


def popularity_thresholds(counts: NDArray[Any], power: float = 1.0) -> Tensor:
    """Thresholds by which 32 random bits choose item i with probability proportional to `counts[i] ** power`.

    `thresholds[i] = floor(2**32 * sum(counts[:i + 1] ** power) / sum(counts ** power))`, in float64; the last item's
    would be 2**32 and is left out.

    Args:
        counts: (num_items,) interactions of every item, finite, >= 0, not all 0. Items with 0 are not drawn
            (those behind the last item with a count: with probability 2**-32).
        power: 1 for the distribution of the data, 0.75 as in word2vec, 0 for uniform over the items with a count.

    Returns:
        int64 tensor of shape (num_items - 1,), ascending, values in [0, 2**32).

    Example:
        >>> popularity_thresholds(np.array([1, 0, 3])).tolist() == [2**30, 2**30]
        True
    """
    counts = validation.weights("counts", counts, len(counts)).astype(np.float64)
    power = validation.real("power", power)
    shares = np.where(counts > 0, np.power(np.where(counts > 0, counts, 1.0), power), 0.0)
    total = shares.sum()
    if total <= 0:
        raise ValueError("counts must not all be 0, got no interactions of any item")
    sums = np.minimum(np.cumsum(shares) / total, 1.0)
    return torch.from_numpy(np.minimum(np.floor(sums[:-1] * 2.0**32), 2**32 - 1).astype(np.int64))


def _check(seed: int, epoch: int, start: int, stop: int, slots: int) -> None:
    check_stream(seed, epoch)
    validation.integer("slots", slots, 1)
    check_range(start, stop, MAX_DRAWS // slots)


def _check_users(users: Tensor, count: int, positives: Positives) -> None:
    if users.shape != (count,) or users.dtype != torch.int64:
        raise ValueError(
            f"users must be int64 of shape ({count},), one per position, "
            f"got {users.dtype} of shape {tuple(users.shape)}"
        )
    num_users = len(positives.indptr) - 1
    if count:
        low, high = (int(bound) for bound in torch.aminmax(users))
        if not 0 <= low <= high < num_users:
            raise ValueError(f"users must be in [0, {num_users}), got {low} .. {high}")
    check_left(users, positives)


def check_left(users: Tensor, positives: Positives) -> None:
    """Raise if every item is a positive of one of the users."""
    full = positives.counts() >= positives.num_items
    users = users.long()
    if bool(full.any()) and bool(full[users].any()):
        user = int(users[full[users]][0])
        raise ValueError(
            f"every one of the {positives.num_items} items is a positive of user {user}: nothing is left to sample"
        )


def check_thresholds(name: str, thresholds: Tensor | None, num_items: int) -> None:
    """Raise unless thresholds are of as many items."""
    if thresholds is None or thresholds.shape != (num_items - 1,):
        got = None if thresholds is None else tuple(thresholds.shape)
        raise ValueError(f"{name} must be of shape ({num_items - 1},), one less than the items, got {got}")
