"""Ranks of target items in rows of scores."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from spotfast.parallel.membership import is_in
from spotfast.parallel.runtime import ParallelKernel, inlined

# Counting costs a pass over the row per target; from here on sorting the row once is cheaper.
SORTED_FROM = 256


# Rows are read in pieces that stay in the first-level cache while all targets look at them.
CHUNK = 2048


@inlined
def count_items(scores: NDArray[Any], score: Any) -> tuple[np.int32, np.int32]:
    """How many are above, and how many equal. Sums of 32 bits, as wide as the scores, so that SIMD applies."""
    above, equal = np.int32(0), np.int32(0)
    for j in range(scores.shape[0]):
        above = np.int32(above + np.int32(scores[j] > score))
        equal = np.int32(equal + np.int32(scores[j] == score))
    return above, equal


@inlined
def _ranks_by_counting(
    row: NDArray[Any], targets: NDArray[np.int64], excluded: NDArray[np.int64], ranks: NDArray[np.float64]
) -> None:
    above, equal = np.zeros(targets.shape[0], np.int64), np.zeros(targets.shape[0], np.int64)
    for begin in range(0, row.shape[0], CHUNK):
        chunk = row[begin : begin + CHUNK]
        for t in range(targets.shape[0]):
            more, same = count_items(chunk, row[targets[t]])
            above[t] += more
            equal[t] += same
    for t in range(targets.shape[0]):
        if not is_in(excluded, targets[t]):
            score = row[targets[t]]
            for e in range(excluded.shape[0]):
                above[t] -= row[excluded[e]] > score
                equal[t] -= row[excluded[e]] == score
            ranks[t] = above[t] + (equal[t] + 1) / 2


@inlined
def _ranks_by_sorting(
    row: NDArray[Any], targets: NDArray[np.int64], excluded: NDArray[np.int64], ranks: NDArray[np.float64]
) -> None:
    kept = np.ones(row.shape[0], np.bool_)
    kept[excluded] = False
    ascending = np.sort(row[kept])
    for t in range(targets.shape[0]):
        if kept[targets[t]]:
            below = np.searchsorted(ascending, row[targets[t]], side="left")
            up_to = np.searchsorted(ascending, row[targets[t]], side="right")
            ranks[t] = ascending.shape[0] - up_to + (up_to - below + 1) / 2


def _ranks(
    scores: NDArray[Any],
    target_indptr: NDArray[np.int64],
    target_items: NDArray[np.int64],
    excluded_indptr: NDArray[np.int64],
    excluded_items: NDArray[np.int64],
    ranks: NDArray[np.float64],
) -> None:
    for user in numba.prange(scores.shape[0]):
        begin, end = target_indptr[user], target_indptr[user + 1]
        targets = target_items[begin:end]
        excluded = excluded_items[excluded_indptr[user] : excluded_indptr[user + 1]]
        # Excluded items tie behind all others: this is the rank of those among the targets.
        ranks[begin:end] = scores.shape[1] - (excluded.shape[0] - 1) / 2
        if end - begin < SORTED_FROM:
            _ranks_by_counting(scores[user], targets, excluded, ranks[begin:end])
        else:
            _ranks_by_sorting(scores[user], targets, excluded, ranks[begin:end])


ranks = ParallelKernel(_ranks)
