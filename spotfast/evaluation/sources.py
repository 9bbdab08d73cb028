"""Where the scores of all items for users come from: a model of ours, vectors of anyone's, or anyone's `predict`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spotfast import backends
from spotfast.evaluation.scoring import check_not_nan, has_own_predict, rows_in_block, score_bytes
from spotfast.factorization.model import FactorizationModel
from spotfast.factorization.scoring import VectorScorer
from spotfast.ops import scores as dots
from spotfast.vector_tables import Vectors, VectorTables, exposes_vectors

ScoreBlocks = Iterator[tuple[NDArray[np.int64], NDArray[Any]]]  # users (U,) and their scores (U, num_items)


class Source(Protocol):
    """Scores of users for items."""

    @property
    def num_items(self) -> int | None:
        """How many items are scored; None where only a prediction can tell."""
        ...

    @property
    def by_vectors(self) -> bool:
        """Whether the scores are products of vectors, which the engine can rank as they are."""
        ...

    @property
    def dim(self) -> int:
        """Of the vectors; 0 where there are none."""
        ...

    @property
    def has_padding(self) -> bool:
        """Whether item 0 is padding, which has a score, minus infinity, but no vector."""
        ...

    def check(self, users: NDArray[np.int64]) -> None:
        """Raise for users, at least one, that are beyond the model."""
        ...

    def vectors(self, users: NDArray[np.int64]) -> Vectors:
        """Return what scores are the products of; where they are."""
        ...

    def blocks(self, users: NDArray[np.int64], at_once: int) -> ScoreBlocks:
        """Yield users, so many at a time or fewer, and their scores, float32 or float64. The array is reused."""
        ...

    def num_bytes(self, at_once: int, num_items: int) -> int:
        """Return the memory in use at most, beyond the model, for so many users at a time."""
        ...


def source_of(model: Any) -> Source:
    """Return the fastest source that serves this model.

    Args:
        model: one of ours; anything with `user_vectors()` and `item_vectors()`; or anything with `predict(user)`.

    Raises:
        ValueError, TypeError: for a model that has not been fitted, and for vectors of wrong shapes.
    """
    if has_own_predict(model, FactorizationModel):
        return OwnModel(model)
    if exposes_vectors(model) and not isinstance(model, FactorizationModel):
        return ExposedVectors(VectorTables.of_model(model))
    return Predictions(model)


def score_blocks(source: Source, users: NDArray[np.int64], at_once: int) -> ScoreBlocks:
    """Yield the blocks of a source.

    Raises:
        ValueError: for users beyond the model, for predictions of different lengths, and for NaN, naming the user.
    """
    source.check(users)
    for block, scores in source.blocks(users, at_once):
        check_not_nan(scores, "of user", block)
        yield block, scores


class OwnModel:
    """A fitted factorization model.

    Args:
        model: whose `predict` is ours.
    """

    def __init__(self, model: FactorizationModel) -> None:
        self._model, self._scorer = model, model._scorer()
        assert model._num_items is not None and model._num_users is not None
        self.num_items, self._num_users = model._num_items, model._num_users
        self.dim = self._scorer.dim if isinstance(self._scorer, VectorScorer) else 0

    @property
    def by_vectors(self) -> bool:
        """Whether the network is scored by vectors, without a link: one can round different scores to equal ones."""
        by_vectors = isinstance(self._scorer, VectorScorer) and self._scorer.link is None
        return by_vectors and ranks_vectors(self._model.device)

    @property
    def has_padding(self) -> bool:
        """Whether ids are those of a map, which begin at 1."""
        return self._model._first_item > 0

    def check(self, users: NDArray[np.int64]) -> None:
        """Compare with the size of the model."""
        _check_users(users, self._num_users)

    def vectors(self, users: NDArray[np.int64]) -> Vectors:
        """Look up those of the users."""
        assert isinstance(self._scorer, VectorScorer)
        vectors, biases, *items = self._scorer.vectors(self._model._tensor(users))
        item_vectors, item_biases = (table[int(self.has_padding) :] for table in items)
        return vectors, biases, item_vectors, item_biases

    def blocks(self, users: NDArray[np.int64], at_once: int) -> ScoreBlocks:
        """Predict blocks, in one buffer."""
        size = rows_in_block(4 * self.num_items, at_once)
        shape = min(size, len(users)), self.num_items
        buffer = torch.empty(shape, dtype=torch.float32, device=self._model.device)
        for start in range(0, len(users), size):
            block = users[start : start + size]
            scores = self._scorer.matrix(self._model._tensor(block), out=buffer[: len(block)])
            yield block, scores.cpu().numpy()

    def num_bytes(self, at_once: int, num_items: int) -> int:
        """Count what the scorer holds, the vectors of users, and rows of scores."""
        kept = self._scorer.num_bytes
        if self.dim:
            kept += 2 * 4 * (self.dim + 1) * at_once
        if self.by_vectors:
            return kept
        return kept + score_bytes(rows_in_block(4 * num_items, at_once), num_items, own=True)


class ExposedVectors:
    """The tables of anyone's model."""

    has_padding = False

    def __init__(self, tables: VectorTables) -> None:
        self._tables = tables
        self.num_items, self.dim = tables.item_vectors.shape

    @property
    def by_vectors(self) -> bool:
        """Whether the engine is there."""
        return ranks_vectors(self._tables.item_vectors.device)

    def check(self, users: NDArray[np.int64]) -> None:
        """Compare with the table."""
        _check_users(users, len(self._tables.user_vectors))

    def vectors(self, users: NDArray[np.int64]) -> Vectors:
        """Take rows of the tables."""
        return self._tables.of(users)

    def blocks(self, users: NDArray[np.int64], at_once: int) -> ScoreBlocks:
        """Multiply rows of the tables, into one buffer."""
        size = rows_in_block(4 * self.num_items, at_once)
        buffer = torch.empty(min(size, len(users)), self.num_items, device=self._tables.item_vectors.device)
        for start in range(0, len(users), size):
            block = users[start : start + size]
            yield block, dots.scores(*self._tables.of(block), out=buffer[: len(block)]).cpu().numpy()

    def num_bytes(self, at_once: int, num_items: int) -> int:
        """Count copied tables, and the vectors of users or rows of scores."""
        of_users = 2 * 4 * (self.dim + 1) * at_once
        if self.by_vectors:
            return self._tables.num_bytes + of_users
        return self._tables.num_bytes + of_users + 4 * num_items * rows_in_block(4 * num_items, at_once)


class Predictions:
    """Anyone's model, asked one user at a time."""

    num_items = None
    by_vectors = has_padding = False
    dim = 0

    def __init__(self, model: Any) -> None:
        self._model = model

    def check(self, users: NDArray[np.int64]) -> None:
        """Leave it to the model."""

    def vectors(self, users: NDArray[np.int64]) -> Vectors:
        """There are none."""
        raise NotImplementedError

    def blocks(self, users: NDArray[np.int64], at_once: int) -> ScoreBlocks:
        """Predict and stack."""
        first = self._predict(int(users[0]))
        size = rows_in_block(first.nbytes, at_once)
        for start in range(0, len(users), size):
            block = users[start : start + size]
            rows = [self._predict(int(user)) for user in block]
            for user, row in zip(block, rows, strict=True):
                if len(row) != len(first):
                    raise ValueError(f"model must predict {len(first)} items for every user, got {len(row)} for {user}")
            yield block, np.stack(rows)

    def num_bytes(self, at_once: int, num_items: int) -> int:
        """Count rows of scores, in float64 at most."""
        return score_bytes(rows_in_block(8 * num_items, at_once), num_items, own=False)

    def _predict(self, user: int) -> NDArray[Any]:
        row = np.asarray(self._model.predict(user))
        if row.ndim != 1 or row.size == 0:
            raise ValueError(f"model must predict an array of shape (num_items,), got {row.shape} for user {user}")
        return row if row.dtype == np.float32 else row.astype(np.float64)


def ranks_vectors(device: torch.device) -> bool:
    """Tell whether there is more than the reference, which would make a matrix of scores and rank it without Numba."""
    return backends.choose("vector_ranks", device) != "reference"


def _check_users(users: NDArray[np.int64], size: int) -> None:
    if users.max() >= size:
        raise ValueError(f"test must hold users below {size}, the size of the model, got {users.max()}")
