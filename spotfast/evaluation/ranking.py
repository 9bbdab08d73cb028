"""Users with their test and training items, some at a time, ready to be ranked.

Straight from the vectors of a model where it has them, in tiles that stay in cache; else from rows of predictions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends
from spotfast.evaluation.scoring import check_users, has_own_predict, score_blocks
from spotfast.factorization.model import FactorizationModel
from spotfast.factorization.scoring import VectorScorer
from spotfast.ops.ranks import ranks, vector_ranks
from spotfast.ops.scores import are_bounded
from spotfast.ops.topk import topk, vector_topk
from spotfast.rows import Rows

USERS_AT_ONCE = 4096  # whose vectors are gathered: a second or less of work between two looks at Ctrl-C

Vectors = tuple[Tensor, Tensor | None, Tensor, Tensor | None]  # users (U, D), biases, items (I, D), biases


class Block(Protocol):
    """Some users, and how to rank items for them."""

    @property
    def targets(self) -> Rows:
        """A row of test items for each user."""
        ...

    @property
    def num_items(self) -> int:
        """How many items there are."""
        ...

    def ranks(self) -> NDArray[np.float64]:
        """Return the rank of every target, as `spotfast.ops.ranks.ranks`."""
        ...

    def topk(self, k: int) -> NDArray[np.int64]:
        """Return the ids of the k best items (U, k), as `spotfast.ops.topk.topk`."""
        ...


@dataclass(frozen=True)
class ScoredBlock:
    """Users with the scores of all items (U, num_items)."""

    scores: NDArray[Any]
    targets: Rows
    excluded: Rows | None

    @property
    def num_items(self) -> int:
        """The number of scores in a row."""
        return self.scores.shape[1]

    def ranks(self) -> NDArray[np.float64]:
        """Rank the targets."""
        return ranks(self.scores, self.targets, self.excluded)

    def topk(self, k: int) -> NDArray[np.int64]:
        """Find the best items."""
        return topk(self.scores, k, self.excluded)


@dataclass(frozen=True)
class VectorBlock:
    """Users with vectors, whose products with those of the items are the scores."""

    vectors: Vectors
    targets: Rows
    excluded: Rows | None

    @property
    def num_items(self) -> int:
        """The number of item vectors."""
        return len(self.vectors[2])

    def ranks(self) -> NDArray[np.float64]:
        """Rank the targets."""
        return vector_ranks(*self.vectors, self.targets, self.excluded)

    def topk(self, k: int) -> NDArray[np.int64]:
        """Find the best items."""
        return vector_topk(*self.vectors, k, self.excluded)[0]


def blocks(model: Any, test: Any, train: Any) -> Iterator[Block]:
    """Yield the users with test items, ascending.

    Args:
        model: anything with `predict(user)`.
        test: anything with `.tocsr()`: users x items.
        train: the same, items to leave out, or None.

    Raises:
        TypeError, ValueError: as the scores, in `spotfast.evaluation`.
    """
    targets = Rows.from_matrix("test", test)
    excluded = None if train is None else Rows.from_matrix("train", train)
    users = np.flatnonzero(targets.counts())
    if len(users) == 0:
        return
    if excluded is not None and len(excluded) <= users[-1]:
        raise ValueError(f"train must have a row for every user of test, up to {users[-1]}, got {len(excluded)} rows")

    def rows(some: NDArray[np.int64], num_items: int) -> tuple[Rows, Rows | None]:
        wanted, out = targets.take(some), None if excluded is None else excluded.take(some)
        check_items("test", wanted, num_items)
        if out is not None:
            check_items("train", out, num_items)
        return wanted, out

    def scored(some: NDArray[np.int64]) -> Iterator[Block]:
        for block, scores in score_blocks(model, some):
            yield ScoredBlock(scores, *rows(block, scores.shape[1]))

    scorer = _vector_scorer(model)
    if scorer is None:
        yield from scored(users)
        return
    check_users(model, users)
    for start in range(0, len(users), USERS_AT_ONCE):
        some = users[start : start + USERS_AT_ONCE]
        vectors = scorer.vectors(model._tensor(some))
        if are_bounded(*vectors):
            yield VectorBlock(vectors, *rows(some, len(vectors[2])))
        else:  # there are infinities, or NaN: row by row, which names the user
            yield from scored(some)


def _vector_scorer(model: Any) -> VectorScorer | None:
    """Return the scorer of a model whose predictions are products of vectors, and which the C++ engine can rank."""
    if not has_own_predict(model, FactorizationModel) or backends.choose("vector_ranks", model.device) != "native":
        return None  # the reference would make a matrix of scores, and rank it without Numba
    scorer = model._scorer()
    # A link can round different scores to equal predictions: those ties must be seen.
    return scorer if isinstance(scorer, VectorScorer) and scorer.link is None else None


def check_items(name: str, rows: Rows, num_items: int) -> None:
    """Raise for items that the model does not predict."""
    if len(rows.items) and rows.items.max() >= num_items:
        raise ValueError(f"{name} must hold items below {num_items}, which the model predicts, got {rows.items.max()}")
