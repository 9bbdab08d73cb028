"""The best k items, given rows of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import backends, validation
from spotfast.ops.ranks import check_rows
from spotfast.reference import topk as reference
from spotfast.rows import Rows


def topk(scores: NDArray[Any], k: int, excluded: Rows | None = None, *, backend: str = "auto") -> NDArray[np.int64]:
    """Find the k items with the highest scores, best first; of equal scores, the lower id first.

    Args:
        scores: (U, I) float32 or float64, without NaN.
        k: how many, at least 1.
        excluded: U rows of item ids that must not appear, or None.
        backend: "auto", "numba" or "reference".

    Returns:
        int64 array of shape (U, k), -1 where fewer than k items are left.

    Raises:
        ValueError: for a k below 1, different numbers of rows and ids out of range.

    Example:
        >>> topk(np.array([[1.0, 3.0, 2.0]]), 2, Rows(np.array([0, 1]), np.array([1])))
        array([[2, 0]])
    """
    validation.integer("k", k, 1)
    excluded = Rows.empty(len(scores)) if excluded is None else excluded
    check_rows("excluded", excluded, scores)
    if backends.choose("topk", "cpu", backend) == "numba":
        from spotfast.parallel import topk as kernels

        best = np.empty((len(scores), k), np.int64)
        kernels.topk(scores, excluded.indptr, excluded.items, best)
        return best
    return reference.topk(scores, k, excluded)
