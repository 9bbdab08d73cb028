"""Test items ranked for some users or sequences, whatever is to be done about ties."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation.hits import Hits, certain_hits, expected_hits, ordered_ranks
from spotfast.evaluation.ranking import Block, UserBlocks
from spotfast.evaluation.sequence_ranking import sequence_blocks
from spotfast.ops.rank_counts import RankCounts
from spotfast.training.sequence import Sequences


class Ranked:
    """The test items of a block, ranked once for all metrics.

    Args:
        block: users, or sequences, with what is excluded from their rankings.
        most: the largest cut-off.

    Attributes:
        block: as passed in.
        targets: its test items.
        num_items: how many items there are.
        candidates: (U,) how many of them are ranked.
    """

    def __init__(self, block: Block, most: int) -> None:
        self.targets, self.num_items = block.targets, block.num_items
        self.candidates: NDArray[np.int64] = np.full(len(self.targets), self.num_items, np.int64)
        if block.excluded is not None:
            self.candidates -= block.excluded.counts()
        self.block, self._most = block, most
        self._hits: dict[str, Hits] = {}

    @cached_property
    def counts(self) -> RankCounts:
        """The counts of every test item."""
        return self.block.counts()

    @cached_property
    def average_ranks(self) -> NDArray[np.float64]:
        """The rank of every test item where ties share their average."""
        return self.counts.average_ranks if "counts" in vars(self) else self.block.ranks()

    def ranks(self, ties: str) -> NDArray[np.float64]:
        """Return the rank of every test item; averages for "expected", of which the metrics know more.

        Averages are those of Spotlight: excluded items tie behind all others. Otherwise their rank is infinite.
        """
        if ties in ("average", "expected"):
            return self.average_ranks
        rows = np.repeat(np.arange(len(self.targets)), self.targets.counts())
        counts = self.counts
        ranks = ordered_ranks(rows, counts.above, counts.equal, counts.before, ties)
        ranks[counts.above >= self.candidates[rows]] = np.inf  # excluded: never recommended
        return ranks

    def hits(self, ties: str) -> Hits:
        """Return the test items up to the largest cut-off."""
        if ties not in self._hits:
            near = self.targets, self.candidates, self.num_items, self._most
            self._hits[ties] = (
                expected_hits(self.counts, *near) if ties == "expected" else certain_hits(self.ranks(ties), *near)
            )
        return self._hits[ties]

    def lists(self) -> NDArray[np.int64]:
        """Return the best items (U, k) up to the largest cut-off, -1 where fewer are left."""
        return self.block.topk(min(self._most, self.num_items))


def ranked_users(users: UserBlocks, most: int, at_once: int) -> Iterator[Ranked]:
    """Yield the users, ascending, so many at a time."""
    for block in users.blocks(at_once):
        yield Ranked(block, most)


def ranked_sequences(model: Any, test: Sequences, exclude_preceding: bool, most: int, at_once: int) -> Iterator[Ranked]:
    """Yield the sequences, in order, so many at a time, each with its last item as the test item."""
    for block in sequence_blocks(model, test, 1, exclude_preceding, at_once):
        yield Ranked(block, most)
