"""How popular items are in a training set, for "mean_popularity"."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation.plan import Plan
from spotfast.rows import Rows


def popularity_of(plan: Plan, train: Any) -> NDArray[np.float64] | None:
    """Return the popularity of the items in the training set, if it is asked for.

    Raises:
        ValueError: if there is no training set.
    """
    if "mean_popularity" not in plan.metrics:
        return None
    if train is None:
        raise ValueError("train is needed for 'mean_popularity', got None")
    return plan.popularity(np.bincount(Rows.from_matrix("train", train).items))


def of_all_items(popularity: NDArray[np.float64], num_items: int) -> NDArray[np.float64]:
    """Return the popularity of items 0 .. num_items - 1: those beyond the training set have no users.

    Example:
        >>> of_all_items(np.array([2.0, 1.0]), 3)
        array([2., 1., 0.])
    """
    known = np.zeros(num_items)
    known[: len(popularity)] = popularity[:num_items]
    return known
