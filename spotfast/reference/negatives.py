"""Negative items: uniform, unseen by the user, or by popularity."""

from __future__ import annotations

import torch
from torch import Tensor

from spotfast.positives import Positives
from spotfast.reference import philox

NEGATIVES_STREAM = 2
POPULARITY_ATTEMPTS = 16


def uniform(
    seed: int, epoch: int, start: int, stop: int, slots: int, num_items: int, first: int, device: torch.device
) -> Tensor:
    """Uniform over [first, num_items), shape (stop - start, slots)."""
    words = philox.draws(seed, epoch, NEGATIVES_STREAM, start * slots, stop * slots, 0, device)
    return first + philox.below(words, num_items - first).view(-1, slots)


def unseen(seed: int, epoch: int, start: int, stop: int, slots: int, positives: Positives, users: Tensor) -> Tensor:
    """Uniform over the items that are not the user's positives: the x-th item that is left, x one draw."""
    words = philox.draws(seed, epoch, NEGATIVES_STREAM, start * slots, stop * slots, 0, users.device)
    return _unseen(words, users.repeat_interleave(slots), positives).view(-1, slots)


def popularity(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    thresholds: Tensor,
    positives: Positives,
    users: Tensor,
) -> Tensor:
    """By popularity, at most 16 attempts against the user's positives, then unseen at the next attempt number."""
    numbers = torch.arange(start * slots, stop * slots, device=users.device)
    users = users.repeat_interleave(slots)
    items = torch.empty_like(numbers)
    open_ = torch.arange(len(numbers), device=users.device)  # those without an accepted item
    for attempt in range(POPULARITY_ATTEMPTS):
        words = philox.draws_at(seed, epoch, NEGATIVES_STREAM, numbers[open_], attempt)
        items[open_] = torch.searchsorted(thresholds, words, right=True)
        open_ = open_[_is_positive(items[open_], users[open_], positives)]
    words = philox.draws_at(seed, epoch, NEGATIVES_STREAM, numbers[open_], POPULARITY_ATTEMPTS)
    items[open_] = _unseen(words, users[open_], positives)
    return items.view(-1, slots)


def _unseen(words: Tensor, users: Tensor, positives: Positives) -> Tensor:
    begin, end = positives.indptr[users], positives.indptr[users + 1]
    x = philox.below(words, positives.num_items - (end - begin))
    return x + _count_up_to(lambda at: positives.items[at] - (at - begin), begin, end, x)


def _is_positive(items: Tensor, users: Tensor, positives: Positives) -> Tensor:
    begin, end = positives.indptr[users], positives.indptr[users + 1]
    up_to = _count_up_to(lambda at: positives.items[at].long(), begin, end, items)
    below = _count_up_to(lambda at: positives.items[at].long(), begin, end, items - 1)
    return up_to > below


def _count_up_to(value_at, begin: Tensor, end: Tensor, bound: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """How many of the ascending values at [begin, end) are <= bound, by bisection of all rows side by side."""
    low, high = begin.clone(), end.clone()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        right = open_ & (value_at(torch.where(open_, middle, 0)) <= bound)
        low = torch.where(right, middle + 1, low)
        high = torch.where(open_ & ~right, middle, high)
    return low - begin
