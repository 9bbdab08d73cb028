"""Relevant items in given lists, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spotfast.rows import Rows


def list_hits(
    lists: NDArray[np.int64],
    rows: NDArray[np.int64],
    relevant: Rows,
    found: NDArray[np.bool_],
    lengths: NDArray[np.int64],
    repeated: NDArray[np.int64],
) -> None:
    """Mark relevant items (U, K), count the ids of each list, and note a relevant id that is there twice."""
    lengths[:] = (lists >= 0).sum(axis=1)
    for u, (items, row) in enumerate(zip(lists, rows, strict=True)):
        found[u] = np.isin(items, relevant.items[relevant.indptr[row] : relevant.indptr[row + 1]])
        ids, counts = np.unique(items[found[u]], return_counts=True)
        if (counts > 1).any():
            repeated[u] = ids[counts > 1][-1]
