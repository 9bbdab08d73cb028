"""Relevant items in given lists."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from spotfast.parallel.runtime import ParallelKernel


def _list_hits(
    lists: NDArray[np.int64],
    rows: NDArray[np.int64],
    indptr: NDArray[np.int64],
    items: NDArray[np.int64],
    found: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    repeated: NDArray[np.int64],
) -> None:
    """Mark the relevant items of each list.

    Args:
        lists: (U, K) ids, -1 for none.
        rows: (U,) the row of `items` that is relevant for each list.
        indptr: relevant items in compressed rows ...
        items: ... ascending.
        found: (U, K), written.
        lengths: (U,), written: how many ids there are.
        repeated: (U,), written: a relevant id that a list holds twice, -1 if there is none.
    """
    for u in numba.prange(lists.shape[0]):
        relevant = items[indptr[rows[u]] : indptr[rows[u] + 1]]
        taken = np.zeros(relevant.shape[0], np.bool_)
        length, twice = 0, -1
        for j in range(lists.shape[1]):
            item = lists[u, j]
            length += item >= 0
            place = np.searchsorted(relevant, item)
            hit = place < relevant.shape[0] and relevant[place] == item
            found[u, j] = hit
            if hit:
                if taken[place]:
                    twice = item
                taken[place] = True
        lengths[u], repeated[u] = length, twice


list_hits = ParallelKernel(_list_hits)
