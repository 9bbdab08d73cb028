"""Who is evaluated: users or sequences, with the values of every metric for them and the memory that it takes."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast.evaluation import memory
from spotfast.evaluation.errors import check_ratings, rating_errors
from spotfast.evaluation.measuring import Measuring
from spotfast.evaluation.metrics import mae, mse
from spotfast.evaluation.plan import OF_RATINGS, Plan
from spotfast.evaluation.popularity import popularity_of
from spotfast.evaluation.ranked import ranked_sequences, ranked_users
from spotfast.evaluation.ranking import UserBlocks
from spotfast.evaluation.result import Measured
from spotfast.evaluation.scoring import check_of_users
from spotfast.evaluation.sequence_ranking import REPRESENTED
from spotfast.evaluation.sequence_scoring import check_of_sequences, scoring_bytes
from spotfast.evaluation.subset import TestUsers
from spotfast.training.sequence import Sequences


class Evaluated(Protocol):
    """Users or sequences.

    Attributes:
        num_skipped: how many of those asked for have no test items.
        at_once: how many are ranked at a time, if memory does not matter.
    """

    num_skipped: int
    at_once: int

    def num_bytes(self, at_once: int) -> int:
        """Return the memory in use at most, beyond model and arguments, with so many at a time."""
        ...

    def measure(self, at_once: int, verbose: bool) -> tuple[NDArray[np.int64], Measuring]:
        """Compute the metrics; return the users, or the positions of the sequences, and their values."""
        ...


class EvaluatedUsers:
    """The users of a test set.

    Args:
        plan: what is computed.
        model: anything with `predict(user)`, or with `user_vectors()` and `item_vectors()`.
        test: `Interactions`, or anything with `.tocsr()`.
        train: the same, items to leave out, or None.
        users: the only users to take, or None.
    """

    def __init__(self, plan: Plan, model: Any, test: Any, train: Any, users: ArrayLike | None) -> None:
        check_of_users(model, "predict(user)")
        self._plan, self._model = plan, model
        self._chosen = TestUsers(test, users)
        self._popularity = popularity_of(plan, train)
        self.num_skipped = self._chosen.num_skipped
        self._rated = [name for name in plan.metrics if name in OF_RATINGS]
        if self._rated:
            check_ratings(self._chosen.test)
        ranked = len(self._rated) < len(plan.metrics)
        self._blocks = UserBlocks(model, self._chosen.test, train) if ranked else None
        self.at_once = 1 if self._blocks is None else self._blocks.at_once

    def num_bytes(self, at_once: int) -> int:
        """Count tables of items, vectors or rows of scores, rankings, and values."""
        count = len(self._chosen.users)
        measuring, intervals = memory.value_bytes(self._plan, count)
        if self._rated:
            measuring += memory.OF_A_RATING * len(self._chosen.test)
        if self._blocks is not None:
            size = min(at_once, count)
            counts = self._blocks.most_in_blocks(at_once)
            measuring += self._blocks.num_bytes(size)
            measuring += memory.block_bytes(self._plan, size, *counts, self._blocks.num_items, self._blocks.dim)
        return max(measuring, intervals)

    def measure(self, at_once: int, verbose: bool) -> tuple[NDArray[np.int64], Measuring]:
        """Rank the test items, and predict ratings."""
        users = self._chosen.users
        measuring = Measuring(self._plan, len(users), verbose, self._popularity)
        if self._blocks is not None:
            measuring.add_all(ranked_users(self._blocks, self._plan.cutoffs[-1], at_once))
        measuring.measured.update(self._of_ratings())
        return users, measuring

    def _of_ratings(self) -> dict[str, Measured]:
        """Compute the errors of predicted ratings: users weigh as much as they have ratings."""
        if not self._rated:
            return {}
        chosen = self._chosen
        errors = rating_errors(self._model, chosen.test)
        place = np.searchsorted(chosen.users, chosen.test.user_ids)
        count = len(chosen.users)
        weights = np.bincount(place, minlength=count).astype(np.float64)
        found = {
            "rmse": Measured(mse(errors, place, count), weights, squared=True),
            "mae": Measured(mae(errors, place, count), weights),
        }
        return {name: found[name] for name in self._rated}


class EvaluatedSequences:
    """Sequences whose last items are predicted from the others.

    Args:
        plan: what is computed.
        model: anything with `predict(sequence)`.
        test: the sequences (N, L).
        exclude_preceding: leave the items before the last out of the ranking.
    """

    at_once = REPRESENTED
    num_skipped = 0

    def __init__(self, plan: Plan, model: Any, test: Sequences, exclude_preceding: bool) -> None:
        for name in plan.metrics:
            if name in (*OF_RATINGS, "mean_popularity"):
                raise ValueError(
                    f"metrics must not hold {name!r} for sequences, which have no ratings and no training set"
                )
        check_of_sequences(model, test, held_out=1)
        self._plan, self._model, self._test, self._exclude_preceding = plan, model, test, exclude_preceding

    def num_bytes(self, at_once: int) -> int:
        """Count rows of scores, rankings, and values; not what is inside a network."""
        test = self._test
        size = min(at_once, len(test))
        num_items, dim, scoring = scoring_bytes(self._model, test, size)
        measuring, intervals = memory.value_bytes(self._plan, len(test))
        measuring += memory.block_bytes(self._plan, size, size, size * test.max_sequence_length, num_items, dim)
        return max(measuring + scoring, intervals)

    def measure(self, at_once: int, verbose: bool) -> tuple[NDArray[np.int64], Measuring]:
        """Rank the last items."""
        measuring = Measuring(self._plan, len(self._test), verbose)
        most = self._plan.cutoffs[-1]
        measuring.add_all(ranked_sequences(self._model, self._test, self._exclude_preceding, most, at_once))
        return np.arange(measuring.num_evaluated), measuring
