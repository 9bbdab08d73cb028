"""Relevant items in given lists, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spotfast.rows import Rows


def list_hits(
    lists: NDArray[np.int64], rows: NDArray[np.int64], relevant: Rows
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Mark relevant items (U, K), count the ids of each list, and note a relevant id that is there twice."""
    found, repeated = np.zeros(lists.shape, np.bool_), np.full(len(lists), -1)
    for u, (items, row) in enumerate(zip(lists, rows, strict=True)):
        found[u] = np.isin(items, relevant.items[relevant.indptr[row] : relevant.indptr[row + 1]])
        hits = items[found[u]].tolist()
        again = [item for place, item in enumerate(hits) if item in hits[:place]]
        repeated[u] = again[-1] if again else -1
    return found, (lists >= 0).sum(axis=1), repeated
