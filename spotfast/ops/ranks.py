"""The rank of target items among all items, given rows of scores or the vectors that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends
from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.scored_rows import check_rows
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


def vector_ranks(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    targets: Rows,
    excluded: Rows | None = None,
    *,
    backend: str = "auto",
) -> NDArray[np.float64]:
    """Rank target items by score: `ranks(scores(...), targets, excluded)`, without a matrix of scores.

    Users share a tile of items that stays in cache; what is counted there is never written to memory.

    Args:
        user_vectors: float32 tensor of shape (U, D), contiguous, on the CPU or on a CUDA device.
        user_biases: float32 tensor of shape (U,), or None.
        item_vectors: float32 tensor of shape (I, D), contiguous, on the same device, as the biases.
        item_biases: float32 tensor of shape (I,), or None.
        targets: U rows of item ids in [0, I).
        excluded: U rows of item ids in [0, I), or None.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        float64 array, one rank (from 1) for each of `targets.items`.

    Raises:
        ValueError: for wrong shapes, dtypes or ids, and for vectors so large that scores may not be finite
            (`spotfast.ops.scores.are_bounded`).

    Example:
        >>> import torch
        >>> items = torch.tensor([[2.0], [1.0], [1.0]])
        >>> vector_ranks(torch.ones(1, 1), None, items, None, Rows(np.array([0, 2]), np.array([0, 1])))
        array([1. , 2.5])
    """
    counts = vector_rank_counts(
        user_vectors, user_biases, item_vectors, item_biases, targets, excluded, backend=backend
    )
    return counts.average_ranks
