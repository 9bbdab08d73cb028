"""Checks of what is ranked: scores of rows or the vectors that they come from, and rows of item ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast.ops.scores import are_bounded, check_vectors
from spotfast.rows import Rows


def check_bounded(
    user_vectors: Tensor, user_biases: Tensor | None, item_vectors: Tensor, item_biases: Tensor | None
) -> None:
    """Raise unless the vectors and biases are valid and all their scores finite."""
    check_vectors(user_vectors, user_biases, item_vectors, item_biases)
    if not are_bounded(user_vectors, user_biases, item_vectors, item_biases):
        raise ValueError("vectors and biases must be finite and small enough for finite scores in float32")


def check_rows(name: str, rows: Rows, scores: NDArray[Any]) -> None:
    """Raise unless there is a row of valid ids for every row of scores."""
    if scores.ndim != 2 or scores.dtype not in (np.float32, np.float64):
        raise ValueError(
            f"scores must be float32 or float64 of shape (U, I), got {scores.dtype} of shape {scores.shape}"
        )
    check_ids(name, rows, *scores.shape)


def check_ids(name: str, rows: Rows, num_users: int, num_items: int) -> None:
    """Raise unless there is a row of valid ids for every user."""
    if len(rows) != num_users:
        raise ValueError(f"{name} must have one row per row of scores ({num_users}), got {len(rows)}")
    if len(rows.items) and not 0 <= rows.items.min() <= rows.items.max() < num_items:
        raise ValueError(f"{name} must hold item ids in [0, {num_items}), got {rows.items.min()} .. {rows.items.max()}")
