"""The rank of target items among all items, given rows of scores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import backends
from spotfast.reference import ranks as reference
from spotfast.rows import Rows


def ranks(
    scores: NDArray[Any], targets: Rows, excluded: Rows | None = None, *, backend: str = "auto"
) -> NDArray[np.float64]:
    """Rank target items by descending score, exact to the last tie.

    `rank = #(scores above) + (#(equal scores, itself included) + 1) / 2`, counted over the items that are not
    excluded: ties share their average rank. Excluded items come behind all others and tie there, targets among them
    too.

    Args:
        scores: (U, I) float32 or float64, without NaN.
        targets: U rows of item ids in [0, I).
        excluded: U rows of item ids in [0, I), or None.
        backend: "auto", "numba" or "reference".

    Returns:
        float64 array, one rank (from 1) for each of `targets.items`.

    Raises:
        ValueError: for different numbers of rows and for ids out of range.

    Example:
        >>> targets = Rows(np.array([0, 2]), np.array([0, 1]))
        >>> ranks(np.array([[2.0, 1.0, 1.0]]), targets)
        array([1. , 2.5])
    """
    excluded = Rows.empty(len(scores)) if excluded is None else excluded
    check_rows("targets", targets, scores)
    check_rows("excluded", excluded, scores)
    if backends.choose("ranks", "cpu", backend) == "numba":
        from spotfast.parallel import ranks as kernels

        result = np.empty(len(targets.items))
        kernels.ranks(scores, targets.indptr, targets.items, excluded.indptr, excluded.items, result)
        return result
    return reference.ranks(scores, targets, excluded)


def check_rows(name: str, rows: Rows, scores: NDArray[Any]) -> None:
    """Raise unless there is a row of valid ids for every row of scores."""
    if scores.ndim != 2 or scores.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"scores must be float32 or float64 of shape (U, I), got {scores.dtype} of shape {scores.shape}"
        )
    if len(rows) != len(scores):
        raise ValueError(f"{name} must have one row per row of scores ({len(scores)}), got {len(rows)}")
    if len(rows.items) and not 0 <= rows.items.min() <= rows.items.max() < scores.shape[1]:
        raise ValueError(
            f"{name} must hold item ids in [0, {scores.shape[1]}), got {rows.items.min()} .. {rows.items.max()}"
        )
