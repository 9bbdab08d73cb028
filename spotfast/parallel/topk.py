"""The best k items in rows of scores."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from spotfast.parallel.membership import is_in
from spotfast.parallel.runtime import ParallelKernel, inlined

# Insertion into a sorted list costs k; from here on sorting the row is cheaper.
SORTED_FROM = 512


# Items are first looked at so many at once: most pieces hold none that is good enough.
CHUNK = 64


@inlined
def _any_above(scores: NDArray[Any], score: Any) -> bool:
    above = np.int32(0)
    for j in range(scores.shape[0]):
        above = np.int32(above + np.int32(scores[j] > score))
    return bool(above > 0)


@inlined
def _best_by_insertion(row: NDArray[Any], excluded: NDArray[np.int64], best: NDArray[np.int64]) -> None:
    k, filled = best.shape[0], 0
    scores = np.empty(k, row.dtype)
    for begin in range(0, row.shape[0], CHUNK):
        end = min(begin + CHUNK, row.shape[0])
        # An equal score does not displace: of equals, the lower id comes first.
        if filled == k and not _any_above(row[begin:end], scores[k - 1]):
            continue
        for item in range(begin, end):
            score = row[item]
            if (filled == k and score <= scores[k - 1]) or is_in(excluded, item):
                continue
            place = filled if filled < k else k - 1
            while place > 0 and scores[place - 1] < score:
                scores[place], best[place] = scores[place - 1], best[place - 1]
                place -= 1
            scores[place], best[place] = score, item
            filled = min(filled + 1, k)


@inlined
def _best_by_sorting(row: NDArray[Any], excluded: NDArray[np.int64], best: NDArray[np.int64]) -> None:
    filled = 0
    for item in np.argsort(-row, kind="mergesort"):
        if filled == best.shape[0]:
            break
        if not is_in(excluded, item):
            best[filled] = item
            filled += 1


def _topk(
    scores: NDArray[Any],
    excluded_indptr: NDArray[np.int64],
    excluded_items: NDArray[np.int64],
    best: NDArray[np.int64],
) -> None:
    for user in numba.prange(scores.shape[0]):
        excluded = excluded_items[excluded_indptr[user] : excluded_indptr[user + 1]]
        best[user] = -1
        if best.shape[1] < SORTED_FROM:
            _best_by_insertion(scores[user], excluded, best[user])
        else:
            _best_by_sorting(scores[user], excluded, best[user])


topk = ParallelKernel(_topk)
