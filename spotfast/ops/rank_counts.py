"""How many items stand above target items, how many have equal scores, and how many of those have lower ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends
from spotfast.ops.scored_rows import check_bounded, check_ids, check_rows, scored_blocks
from spotfast.ops.scores import to_numpy
from spotfast.reference import rank_counts as reference
from spotfast.rows import Rows


@dataclass(frozen=True)
class RankCounts:
    """Counts for T target items, over the items of their row that are not excluded.

    Excluded items come behind all others and tie there: for targets among them, the counts are over all items.

    Attributes:
        above: (T,) int64, items with higher scores.
        equal: (T,) int64, items with equal scores, the target itself included.
        before: (T,) int64, items with equal scores and lower ids.
    """

    above: NDArray[np.int64]
    equal: NDArray[np.int64]
    before: NDArray[np.int64]

    @property
    def average_ranks(self) -> NDArray[np.float64]:
        """The ranks (T,) of `spotfast.ops.ranks.ranks`, where ties share their average."""
        return self.above + (self.equal + 1) / 2


def rank_counts(
    scores: NDArray[Any], targets: Rows, excluded: Rows | None = None, *, backend: str = "auto"
) -> RankCounts:
    """Count what the ranks of target items follow from, whatever is done about ties.

    Args:
        scores: (U, I) float32 or float64, without NaN.
        targets: U rows of item ids in [0, I).
        excluded: U rows of item ids in [0, I), or None.
        backend: "auto", "numba" or "reference".

    Raises:
        ValueError: for different numbers of rows and for ids out of range.

    Example:
        >>> targets = Rows(np.array([0, 2]), np.array([0, 2]))
        >>> rank_counts(np.array([[2.0, 1.0, 1.0]]), targets)
        RankCounts(above=array([0, 1]), equal=array([1, 2]), before=array([0, 1]))
    """
    excluded = Rows.empty(len(scores)) if excluded is None else excluded
    check_rows("targets", targets, scores)
    check_rows("excluded", excluded, scores)
    above, equal, before = (np.empty(len(targets.items), np.int64) for _ in range(3))
    if backends.choose("ranks", "cpu", backend) == "numba":
        from spotfast.parallel import rank_counts as kernels

        rows = targets.indptr, targets.items, excluded.indptr, excluded.items
        kernels.rank_counts(scores, *rows, above, equal, before)
    else:
        reference.rank_counts(scores, targets, excluded, above, equal, before)
    return RankCounts(above, equal, before)


def vector_rank_counts(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    targets: Rows,
    excluded: Rows | None = None,
    *,
    backend: str = "auto",
) -> RankCounts:
    """Count by score: `rank_counts(scores(...), targets, excluded)`, without a matrix of scores.

    Args:
        user_vectors: float32 tensor of shape (U, D), contiguous, on the CPU or on a CUDA device.
        user_biases: float32 tensor of shape (U,), or None.
        item_vectors: float32 tensor of shape (I, D), contiguous, on the same device, as the biases.
        item_biases: float32 tensor of shape (I,), or None.
        targets: U rows of item ids in [0, I).
        excluded: U rows of item ids in [0, I), or None.
        backend: "auto", "native", "triton" or "reference".

    Raises:
        ValueError: for wrong shapes, dtypes or ids, and for vectors so large that scores may not be finite
            (`spotfast.ops.scores.are_bounded`).

    Example:
        >>> import torch
        >>> items = torch.tensor([[2.0], [1.0], [1.0]])
        >>> vector_rank_counts(torch.ones(1, 1), None, items, None, Rows(np.array([0, 1]), np.array([2])))
        RankCounts(above=array([1]), equal=array([2]), before=array([1]))
    """
    vectors = (user_vectors, user_biases, item_vectors, item_biases)
    excluded = Rows.empty(len(user_vectors)) if excluded is None else excluded
    check_bounded(*vectors)
    check_ids("targets", targets, len(user_vectors), len(item_vectors))
    check_ids("excluded", excluded, len(user_vectors), len(item_vectors))
    chosen = backends.choose("vector_ranks", user_vectors.device, backend)
    if chosen == "native":
        rows = targets.indptr, targets.items, excluded.indptr, excluded.items
        return RankCounts(*backends.native().rank_counts(*map(to_numpy, vectors), *rows, backends.num_threads()))
    if chosen == "triton":
        from spotfast.kernels import ranks as kernels

        with backends.FallingBack("vector_ranks", backend):
            counts = kernels.rank_counts(*vectors, targets, excluded)
            return RankCounts(*(count.cpu().numpy() for count in counts))
    parts = [rank_counts(*block, backend="reference") for block in scored_blocks(*vectors, targets, excluded)]
    nothing = np.zeros(0, np.int64)
    columns = ([nothing, *(getattr(part, name) for part in parts)] for name in ("above", "equal", "before"))
    return RankCounts(*map(np.concatenate, columns))
