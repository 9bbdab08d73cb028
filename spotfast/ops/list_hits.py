"""Relevant items in given lists."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spotfast import backends
from spotfast.reference import list_hits as reference
from spotfast.rows import Rows


class ListHits(NamedTuple):
    """What is relevant in U lists of K ids.

    Attributes:
        found: (U, K) whether each id is relevant.
        lengths: (U,) how many ids each list has.
        repeated: (U,) the last id that is relevant and there once more, -1 if there is none.
    """

    found: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    repeated: NDArray[np.int64]


def list_hits(
    lists: NDArray[np.int64], relevant: Rows, rows: NDArray[np.int64] | None = None, *, backend: str = "auto"
) -> ListHits:
    """Mark the relevant items of each list.

    Args:
        lists: (U, K) item ids, -1 for none.
        relevant: rows of relevant items.
        rows: (U,) the row of `relevant` for each list. Default: list u has row u.
        backend: "auto", "native" or "reference".

    Raises:
        ValueError: for lists of another shape, for another number of rows, and for rows out of range.

    Example:
        >>> list_hits(np.array([[4, 2, -1]]), Rows(np.array([0, 2]), np.array([2, 7])))
        ListHits(found=array([[False,  True, False]]), lengths=array([2]), repeated=array([-1]))
    """
    if lists.ndim != 2:
        raise ValueError(f"lists must be of shape (U, K), got {lists.shape}")
    rows = np.arange(len(lists)) if rows is None else rows
    if rows.shape != (len(lists),):
        raise ValueError(f"rows must be of shape ({len(lists)},), one for each list, got {rows.shape}")
    if len(rows) and not 0 <= rows.min() <= rows.max() < len(relevant):
        raise ValueError(f"rows must lie in [0, {len(relevant)}), got {rows.min()} .. {rows.max()}")
    if backends.choose("item_rows", "cpu", backend) == "native":
        arrays = lists, rows, relevant.indptr, relevant.items
        return ListHits(*backends.native().list_hits(*map(np.ascontiguousarray, arrays), backends.num_threads()))
    return ListHits(*reference.list_hits(lists, rows, relevant))
