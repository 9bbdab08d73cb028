"""How many items stand above target items, and how many beside them, in rows of scores."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from spotfast.parallel.membership import is_in
from spotfast.parallel.ranks import CHUNK, count_items
from spotfast.parallel.runtime import ParallelKernel, inlined


@inlined
def _count_before(row: NDArray[Any], excluded: NDArray[np.int64], target: int) -> int:
    """How many items that are not excluded have the target's score and a lower id."""
    before = 0
    for j in range(target):
        before += row[j] == row[target]
    for e in range(excluded.shape[0]):
        before -= excluded[e] < target and row[excluded[e]] == row[target]
    return before


def _rank_counts(
    scores: NDArray[Any],
    target_indptr: NDArray[np.int64],
    target_items: NDArray[np.int64],
    excluded_indptr: NDArray[np.int64],
    excluded_items: NDArray[np.int64],
    above: NDArray[np.int64],
    equal: NDArray[np.int64],
    before: NDArray[np.int64],
) -> None:
    for user in numba.prange(scores.shape[0]):
        row, begin, end = scores[user], target_indptr[user], target_indptr[user + 1]
        excluded = excluded_items[excluded_indptr[user] : excluded_indptr[user + 1]]
        above[begin:end], equal[begin:end], before[begin:end] = 0, 0, 0
        for first in range(0, row.shape[0], CHUNK):
            chunk = row[first : first + CHUNK]
            for t in range(begin, end):
                more, same = count_items(chunk, row[target_items[t]])
                above[t] += more
                equal[t] += same
        for t in range(begin, end):
            target = target_items[t]
            if is_in(excluded, target):
                above[t] = row.shape[0] - excluded.shape[0]
                equal[t] = excluded.shape[0]
                before[t] = np.searchsorted(excluded, target)
                continue
            for e in range(excluded.shape[0]):
                above[t] -= row[excluded[e]] > row[target]
                equal[t] -= row[excluded[e]] == row[target]
            if equal[t] > 1:
                before[t] = _count_before(row, excluded, target)


rank_counts = ParallelKernel(_rank_counts)
