"""Items, or users, with the most similar vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spotfast import validation
from spotfast.inference import evaluating
from spotfast.recommendation.exclusion import Exclusion
from spotfast.recommendation.lists import Ids, Lists, Scores
from spotfast.recommendation.queries import VectorQueries
from spotfast.rows import Rows
from spotfast.vector_tables import VectorTables, ranking_device

METRICS = ("cosine", "dot")


class _Neighbourhoods(VectorQueries):
    """Rows of a table that look for others in it."""

    def name(self, number: int) -> str:
        return f"of vector {self.asked[number]}"

    def exclusion(self, exclude: None) -> Exclusion:
        """Leave each row itself out of its list."""

        def rows(some: slice) -> Rows:
            own = self.asked[some]
            return Rows(np.arange(len(own) + 1), own)

        return Exclusion(np.ones(len(self), np.int64), 0, rows)


def most_similar(name: str, ids: Any, vectors: Tensor, k: int, metric: str, first: int = 0) -> tuple[Ids, Scores]:
    """Find the k rows of a table that are most similar to some of its rows, themselves left out.

    Args:
        name: of `ids`, for messages.
        ids: one row, or an array of shape (n,).
        vectors: (N, D) the table.
        k: how many, at least 1.
        metric: "cosine", `<a, b> / (|a| |b|)`, which is 0 where a vector is zero; or "dot", `<a, b>`.
        first: rows before this one are padding: neither asked for nor found.

    Returns:
        (ids, similarities), int64 and float32 of shape (n, k), or (k,) for one row; best first, of equal similarities
        the lower id first. -1 and -inf where fewer than k are left.

    Raises:
        ValueError: for ids out of range, a k below 1, another metric, and vectors that are not finite, naming the row.
        TypeError: for ids that are not integers.
    """
    validation.choice("metric", metric, METRICS)
    numbers = validation.as_integers(name, ids)
    alone, rows = numbers.ndim == 0, validation.ids(name, np.atleast_1d(numbers), len(vectors), "the number of vectors")
    if len(rows) == 0:
        raise ValueError(f"{name} must not be empty, got shape (0,)")
    if rows.min() < first:
        raise ValueError(f"{name} must be at least {first}, got {rows.min()}, which is padding")
    table = vectors.to(ranking_device(vectors.device), torch.float32).contiguous()
    infinite = torch.isfinite(table).all(dim=1).logical_not().nonzero()
    if len(infinite):
        raise ValueError(f"vectors must be finite to be compared, that of {int(infinite[0])} is not")
    if metric == "cosine":
        table = _normalised(table)
    tables = VectorTables(table, None, table, None)
    lists = Lists(_Neighbourhoods(rows.astype(np.int64), alone, tables, first), k, None, None)
    found, similarities = lists.empty(len(rows))
    for some in lists.blocks(lists.block_size(None, whole=True)):
        found[some], similarities[some] = lists.best(some)
    return (found[0], similarities[0]) if alone else (found, similarities)


def table_of(net: nn.Module, name: str, lookup: Callable[[Tensor], Tensor] | None, size: int) -> Tensor:
    """Return the vectors (size, D) that a network has for the ids 0 .. size - 1.

    Args:
        net: the network.
        name: of the method that would give them, for messages.
        lookup: maps ids (N,) to vectors (N, D); None if the network has no such thing.
        size: the number of ids.

    Raises:
        TypeError: if there are no vectors.
        ValueError: for vectors of another shape.
    """
    if lookup is None:
        raise TypeError(
            f"representation must have a method {name}(ids (N,)) -> vectors (N, D) for this, got {type(net).__name__}"
        )
    device = next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
    with evaluating(net):
        vectors = lookup(torch.arange(size, device=device))
    if vectors.ndim != 2 or len(vectors) != size:
        raise ValueError(f"representation must return {name} of shape ({size}, D), got {tuple(vectors.shape)}")
    return vectors


def _normalised(table: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(table, dim=1, keepdim=True, dtype=torch.float64)
    return (table / torch.where(norms == 0, 1.0, norms)).to(torch.float32)
