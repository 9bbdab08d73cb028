"""What is ranked: scores of rows or the vectors that they come from, and rows of item ids."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast.ops.scores import are_bounded, check_vectors, scores
from spotfast.rows import Rows

MOST_SCORES = 1 << 24  # of the reference at a time: 64 MiB


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
    if not rows.within(num_items):
        raise ValueError(f"{name} must hold item ids in [0, {num_items}), got {rows.items.min()} .. {rows.items.max()}")


def scored_blocks(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    *rows: Rows,
) -> Iterator[tuple[Any, ...]]:
    """Yield the scores of all items, by the reference, for some users at a time, (S, I), and these users' rows.

    What the reference ranks by: it makes no matrix of all scores either.
    """
    size = max(1, MOST_SCORES // max(1, len(item_vectors)))
    for first in range(0, len(user_vectors), size):
        some = slice(first, first + size)
        biases = None if user_biases is None else user_biases[some]
        table = scores(user_vectors[some], biases, item_vectors, item_biases, backend="reference")
        users = np.arange(first, first + len(table))
        yield table.cpu().numpy(), *(each.take(users) for each in rows)
