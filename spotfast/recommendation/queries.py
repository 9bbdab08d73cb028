"""Who is asked for, and how all items are scored for them. Models make these of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends, validation
from spotfast.id_map import IdMap
from spotfast.ops import scores as dots
from spotfast.recommendation import exclusion
from spotfast.recommendation.exclusion import Exclusion
from spotfast.vector_tables import VectorTables, exposes_vectors

Vectors = tuple[Tensor, Tensor | None]  # (N, D) and biases (N,)


class Queries:
    """Users, or sequences, with the scores of all items for them.

    Args:
        asked: (N,) users, or (N, L) sequences.
        alone: there is one, which came without a dimension for many.
        num_items: scores are of the items 0 .. num_items - 1.
        first_item: items below this one are padding.

    Attributes:
        id_map: what ids stand for, None if that is not known.
        items: vectors and biases of all items, on one device, whose products with those of `vectors` are the scores;
            None where there are only scores.
        score_bytes: what a score takes at most.
    """

    id_map: IdMap | None = None
    score_bytes = 4

    def __init__(self, asked: NDArray[Any], alone: bool, num_items: int, first_item: int = 0) -> None:
        self.asked = asked
        self.alone = alone
        self.num_items = num_items
        self.first_item = first_item
        self.items: Vectors | None = None

    def __len__(self) -> int:
        return len(self.asked)

    def name(self, number: int) -> str:
        """Return how messages speak of one of these."""
        return f"of user {self.asked[number]}" if self.asked.ndim == 1 else f"after sequence {number}"

    def vectors(self, some: slice) -> Vectors:
        """Return vectors (S, D) and biases (S,) on the device of `items`; where there are such only."""
        raise NotImplementedError

    def scores(self, some: slice) -> NDArray[Any]:
        """Return the scores of all items, as `predict` gives them: (S, num_items), float32 or float64."""
        raise NotImplementedError

    def exclusion(self, exclude: Any) -> Exclusion | None:
        """Read the argument `exclude`."""
        of_users = self.asked.ndim == 1
        if exclude is None:
            return None
        if of_users and hasattr(exclude, "tocsr"):
            return exclusion.of_users(exclude, self.asked, self.num_items, self)
        if not of_users and isinstance(exclude, str) and exclude == "seen":
            return exclusion.of_sequences(self.asked, self.num_items)
        others = "Interactions, a scipy sparse matrix" if of_users else "'seen'"
        return exclusion.of_arrays(exclude, len(self), self.alone, self.num_items, others)

    @property
    def num_bytes(self) -> int:
        """The memory made for all of these, and the most in use while single rows are scored."""
        return 24 * self.num_items  # ids, and biases as they are looked up and copied


class VectorQueries(Queries):
    """Users whose scores are products of vectors, in tables that are at hand.

    Args:
        users: (N,) rows of the table of users.
        alone: one user was asked for.
        tables: of all users and items.
        first_item: items below this one are padding.
    """

    def __init__(self, users: NDArray[np.int64], alone: bool, tables: VectorTables, first_item: int = 0) -> None:
        super().__init__(users, alone, len(tables.item_vectors), first_item)
        self._tables = tables
        if backends.choose("vector_topk", tables.item_vectors.device) != "reference":
            self.items = tables.item_vectors, tables.item_biases

    def vectors(self, some: slice) -> Vectors:
        """Take rows of the tables."""
        return self._tables.of(self.asked[some])[:2]

    def scores(self, some: slice) -> NDArray[np.float32]:
        """Multiply rows of the tables."""
        return dots.scores(*self._tables.of(self.asked[some])).cpu().numpy()

    @property
    def num_bytes(self) -> int:
        """The memory made for all of these: tables that had to be copied, too."""
        return super().num_bytes + self._tables.num_bytes


class PredictedQueries(Queries):
    """Users, or sequences, that someone's `predict` is called with, one by one.

    Args:
        asked: (N,) users or (N, L) sequences.
        alone: one was asked for.
        predict: maps one of them to the scores of all items, (num_items,).
        first_item: items below this one are padding.

    Raises:
        ValueError: unless all predictions have the shape of the first.
    """

    score_bytes = 8

    def __init__(self, asked: NDArray[Any], alone: bool, predict: Callable[[Any], Any], first_item: int = 0) -> None:
        self._predict = predict
        super().__init__(asked, alone, 0, first_item)
        first = self._row(0)
        if first.ndim != 1 or first.size == 0:
            raise ValueError(f"model must predict an array of shape (num_items,), got {first.shape} {self.name(0)}")
        self.num_items = len(first)
        self._first = first

    def scores(self, some: slice) -> NDArray[Any]:
        """Predict one by one."""
        rows = [self._row(number) if number else self._first for number in range(some.start, some.stop)]
        for number, row in enumerate(rows, some.start):
            if row.shape != (self.num_items,):
                raise ValueError(
                    f"model must predict an array of shape ({self.num_items},) for all, got {row.shape} "
                    f"{self.name(number)}"
                )
        return np.stack(rows)

    def _row(self, number: int) -> NDArray[Any]:
        asked = self.asked[number]
        row = np.array(self._predict(int(asked) if asked.ndim == 0 else asked))  # a copy: the next may come in it, too
        return row if row.dtype == np.float32 else row.astype(np.float64)


def queries_of(model: Any, asked: Any) -> Queries:
    """Return the queries of a model.

    Args:
        model: one of spotfast; anything with `user_vectors()` and `item_vectors()`, and perhaps `user_biases()` and
            `item_biases()`, as `VectorTables` takes them; or anything with `predict(user)`.
        asked: one or several users, or sequences for models of sequences.

    Raises:
        TypeError: for any other model.
    """
    if hasattr(model, "_queries"):
        return model._queries(asked)
    has_vectors = exposes_vectors(model)
    if not has_vectors and not hasattr(model, "predict"):
        raise TypeError(
            f"model must have a method predict(user), or user_vectors() and item_vectors(), got {type(model).__name__}"
        )
    numbers = validation.as_integers("user_ids", asked)
    alone, users = numbers.ndim == 0, validation.ids("user_ids", np.atleast_1d(numbers)).astype(np.int64)
    if len(users) == 0:
        raise ValueError("user_ids must not be empty, got shape (0,)")
    if not has_vectors:
        return PredictedQueries(users, alone, model.predict)
    tables = VectorTables.of_model(model)
    validation.check_id_range("user_ids", users, len(tables.user_vectors), "the number of user_vectors")
    return VectorQueries(users, alone, tables)
