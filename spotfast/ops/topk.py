"""The best k items, given rows of scores or the vectors that they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends, threads, validation
from spotfast.ops.scored_rows import check_bounded, check_ids, check_rows, scored_blocks
from spotfast.ops.scores import to_numpy
from spotfast.reference import topk as reference
from spotfast.rows import Rows

MOST_ITEMS = (1 << 31) - 1


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


def vector_topk(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    k: int,
    excluded: Rows | None = None,
    *,
    backend: str = "auto",
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Find the k items with the highest scores: `topk(scores(...), k, excluded)`, without a matrix of scores.

    Args:
        user_vectors: float32 tensor of shape (U, D), contiguous, on the CPU or on a CUDA device.
        user_biases: float32 tensor of shape (U,), or None.
        item_vectors: float32 tensor of shape (I, D), contiguous, on the same device, as the biases.
        item_biases: float32 tensor of shape (I,), or None.
        k: how many, at least 1.
        excluded: U rows of item ids that must not appear, or None.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        int64 ids of shape (U, k), -1 where fewer than k items are left, and their float32 scores, -inf there.

    Raises:
        ValueError: for a k below 1, wrong shapes, dtypes or ids, and for vectors so large that scores may not be
            finite (`spotfast.ops.scores.are_bounded`).

    Example:
        >>> import torch
        >>> ids, scores = vector_topk(torch.ones(1, 1), None, torch.tensor([[1.0], [3.0], [2.0]]), None, k=2)
        >>> ids.tolist(), scores.tolist()
        ([[1, 2]], [[3.0, 2.0]])
    """
    vectors = (user_vectors, user_biases, item_vectors, item_biases)
    validation.integer("k", k, 1)
    excluded = Rows.empty(len(user_vectors)) if excluded is None else excluded
    check_bounded(*vectors)
    check_ids("excluded", excluded, len(user_vectors), len(item_vectors))
    chosen = _choose(user_vectors.device, len(item_vectors), backend)
    if chosen == "native":
        rows = excluded.indptr, excluded.items
        return backends.native().topk(*map(to_numpy, vectors), *rows, k, backends.num_threads())
    if chosen == "triton":
        from spotfast.kernels import topk as kernels

        with backends.FallingBack("vector_topk", backend):
            found, of_found = kernels.topk(*vectors, k, excluded)
            return found.numpy(), of_found.numpy()
    lists = [np.zeros((0, k), np.int64)]
    best = [np.zeros((0, k), np.float32)]
    for table, out in scored_blocks(*vectors, excluded):
        ids = reference.topk(table, k, out)
        lists.append(ids)
        best.append(_scores_at(table, ids))
    return np.concatenate(lists), np.concatenate(best)


def _scores_at(table: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the scores at ids (S, k) in a table (S, I), -inf for an id of -1."""
    found = np.full(ids.shape, -np.inf, np.float32)
    rows, columns = np.nonzero(ids >= 0)
    found[rows, columns] = table[rows, ids[rows, columns]]
    return found


def _choose(device: torch.device, num_items: int, backend: str) -> str:
    """Choose a backend: other than the reference have 31 bits for an id."""
    chosen = backends.choose("vector_topk", device, backend)
    if chosen != "reference" and num_items > MOST_ITEMS:
        if backend == chosen:
            raise ValueError(
                f"item_vectors must have at most {MOST_ITEMS} rows for backend {backend!r}, got {num_items}"
            )
        return "reference"
    return chosen


def vector_topk_bytes(users: int, k: int, num_items: int, dim: int) -> int:
    """Return the memory that `vector_topk` takes at most, in C++, beyond arguments and result.

    The sizes are those of `csrc/rough_topk.cpp`: an item and a user in whole numbers, the entries of a user's list, the
    users whom a thread ranks at once. A few users are ranked by `csrc/topk.cpp`: all threads have lists for each.
    """
    entries = min(k if k <= 32 else 2 * k, num_items)
    num_threads = threads.get_num_threads()
    at_once = min(max((1 << 21) // max(entries, 1), 5), 400)
    of_user = 8 * entries + 2 * dim + 300
    many = 2 * (dim + 5) * num_items + of_user * min(users, at_once * num_threads) + 10 * (k + 100) * num_threads
    if k > 1000:
        return many
    parts, tile = min(num_threads, max(num_items >> 14, 1)), min(max((1 << 15) // max(dim, 1), 16), 1024)
    return max(many, (parts + 1) * 8 * entries * min(users, 24) + parts * 4 * (dim + 6) * tile)
