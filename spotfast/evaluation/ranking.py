"""Users with their test and training items, some at a time, ready to be ranked.

Straight from the vectors of a model where it has them, on its device, in tiles that stay in cache or in registers; else
from rows of predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation.padded import PaddedBlock
from spotfast.evaluation.sources import score_blocks, source_of
from spotfast.id_checks import check_same
from spotfast.ops.rank_counts import RankCounts, rank_counts, vector_rank_counts
from spotfast.ops.ranks import ranks, vector_ranks
from spotfast.ops.scores import are_bounded
from spotfast.ops.topk import topk, vector_topk
from spotfast.rows import Rows, item_rows_bytes
from spotfast.vector_tables import Vectors

# Users whose vectors are gathered: a second or less of work between two looks at Ctrl-C.
USERS_AT_ONCE, SCORES_AT_ONCE = 16_384, 1 << 29


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

    @property
    def excluded(self) -> Rows | None:
        """A row of items for each user that are left out, or None."""
        ...

    def ranks(self) -> NDArray[np.float64]:
        """Return the rank of every target, as `spotfast.ops.ranks.ranks`."""
        ...

    def counts(self) -> RankCounts:
        """Return what stands above and beside every target, as `spotfast.ops.rank_counts.rank_counts`."""
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

    def counts(self) -> RankCounts:
        """Count what stands above and beside the targets."""
        return rank_counts(self.scores, self.targets, self.excluded)

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

    def counts(self) -> RankCounts:
        """Count what stands above and beside the targets."""
        return vector_rank_counts(*self.vectors, self.targets, self.excluded)

    def topk(self, k: int) -> NDArray[np.int64]:
        """Find the best items."""
        return vector_topk(*self.vectors, k, self.excluded)[0]


class UserBlocks:
    """The users with test items, ascending, ready to be ranked some at a time.

    Args:
        model: anything with `predict(user)`, or with `user_vectors()` and `item_vectors()`.
        test: anything with `.tocsr()`: users x items.
        train: the same, items to leave out, or None.

    Attributes:
        users: int64 (U,), those with test items.

    Raises:
        TypeError, ValueError: as the scores, in `spotfast.evaluation`.
    """

    def __init__(self, model: Any, test: Any, train: Any) -> None:
        check_same("test", test, model)
        check_same("train", train, model)
        check_same("train", train, test, "test")
        self._num_columns = max(1, *(_num_columns(matrix) for matrix in (test, train)))
        self._targets = Rows.from_matrix("test", test)
        self.users = np.flatnonzero(self._targets.counts())
        self._excluded = None if train is None else Rows.from_matrix("train", train, self.users)
        if self._excluded is not None and len(self.users) and len(self._excluded) <= self.users[-1]:
            raise ValueError(
                f"train must have a row for every user of test, up to {self.users[-1]}, got {len(self._excluded)} rows"
            )
        self._source = source_of(model) if len(self.users) else None

    def __iter__(self) -> Iterator[Block]:
        return self.blocks(self.at_once)

    @property
    def at_once(self) -> int:
        """How many users a block has, if memory does not matter."""
        return min(USERS_AT_ONCE, max(SCORES_AT_ONCE // max(self.num_items, 1), 256))

    def blocks(self, size: int) -> Iterator[Block]:
        """Yield all users, so many at a time or fewer."""
        if self._source is None:
            return
        if not self._source.by_vectors:
            yield from self._scored(self.users, size)
            return
        self._source.check(self.users)
        for start in range(0, len(self.users), size):
            some = self.users[start : start + size]
            vectors = self._source.vectors(some)
            if are_bounded(*vectors):
                block = PaddedBlock if self._source.has_padding else VectorBlock
                yield block(vectors, *self._rows(some, self.num_items))
            else:  # there are infinities, or NaN: row by row, which names the user
                yield from self._scored(some, size)

    def num_bytes(self, size: int) -> int:
        """Return the memory in use at most, beyond model and arguments, before anything is ranked in blocks."""
        tables = [rows for rows in (self._targets, self._excluded) if rows is not None]
        kept = sum(rows.indptr.nbytes + rows.items.nbytes for rows in tables)
        made = max(item_rows_bytes(rows, self._num_columns) for rows in tables)
        return kept + max(made, 0 if self._source is None else self._source.num_bytes(size, self.num_items))

    @property
    def dim(self) -> int:
        """Of the vectors that are ranked; 0 if it is rows of scores."""
        return self._source.dim if self._source is not None and self._source.by_vectors else 0

    @property
    def num_items(self) -> int:
        """How many items are scored; where only a prediction can tell, as many as the matrices have."""
        known = None if self._source is None else self._source.num_items
        return self._num_columns if known is None else known

    def most_in_blocks(self, size: int) -> tuple[int, int]:
        """Return how many test items, and how many training items, blocks of so many users have at most."""
        if len(self.users) == 0:
            return 0, 0
        starts = np.arange(0, len(self.users), size)

        def most(rows: Rows | None) -> int:
            return 0 if rows is None else int(np.add.reduceat(rows.counts()[self.users], starts).max())

        return most(self._targets), most(self._excluded)

    def _scored(self, users: NDArray[np.int64], size: int) -> Iterator[Block]:
        assert self._source is not None
        for block, scores in score_blocks(self._source, users, size):
            yield ScoredBlock(scores, *self._rows(block, scores.shape[1]))

    def _rows(self, some: NDArray[np.int64], num_items: int) -> tuple[Rows, Rows | None]:
        wanted, out = self._targets.take(some), None if self._excluded is None else self._excluded.take(some)
        check_items("test", wanted, num_items)
        if out is not None:
            check_items("train", out, num_items)
        return wanted, out


class Lost:
    """Counts the test items that are excluded, so that no model can find them.

    Attributes:
        num_lost: how many there were.
        num_targets: of how many test items.
    """

    def __init__(self) -> None:
        self.num_lost = self.num_targets = 0

    def count(self, block: Block) -> None:
        """Take in a block."""
        self.num_targets += len(block.targets.items)
        self.num_lost += 0 if block.excluded is None else block.targets.num_common(block.excluded)

    def warn(self, stacklevel: int) -> None:
        """Say so, if there were any."""
        if self.num_lost:
            warnings.warn(
                f"{self.num_lost} of {self.num_targets} test items are excluded, by train or as preceding items: "
                "they are never found, and count as missed",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def _num_columns(matrix: Any) -> int:
    """Return how many items interactions or a matrix are declared to have; 0 of what does not tell."""
    if hasattr(matrix, "num_items"):
        return int(matrix.num_items)
    return int(matrix.shape[1]) if hasattr(matrix, "shape") else 0


def check_items(name: str, rows: Rows, num_items: int) -> None:
    """Raise for items that the model does not predict."""
    if not rows.within(num_items):
        raise ValueError(f"{name} must hold items below {num_items}, which the model predicts, got {rows.items.max()}")
