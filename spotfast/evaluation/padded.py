"""Users or sequences ranked straight from their vectors, where padding is an item that scores minus infinity.

The engines rank finite scores. So padding is left out there, and put where it belongs afterwards: behind all items that
are ranked, and before those that are excluded.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from spotfast.ops.rank_counts import RankCounts, vector_rank_counts
from spotfast.ops.topk import vector_topk
from spotfast.rows import Rows
from spotfast.vector_tables import Vectors


@dataclass(frozen=True)
class PaddedBlock:
    """Users whose products with the items from 1 on are the scores; item 0 is padding.

    Attributes:
        vectors: of the users (U, D) and their biases, of the items (num_items - 1, D), at least one, and theirs.
        targets: a row of test items for each user.
        excluded: a row of items for each that are left out, or None.
    """

    vectors: Vectors
    targets: Rows
    excluded: Rows | None

    @property
    def num_items(self) -> int:
        """The number of item vectors, and padding."""
        return len(self.vectors[2]) + 1

    def ranks(self) -> NDArray[np.float64]:
        """Rank the targets."""
        return self.counts().average_ranks

    def counts(self) -> RankCounts:
        """Count what stands above and beside the targets."""
        targets, padded = _without_padding(self.targets)
        excluded, without = self._items_excluded
        found = vector_rank_counts(*self.vectors, targets, excluded)
        counts = RankCounts(*(np.zeros(len(self.targets.items), np.int64) for _ in range(3)))
        is_item = self.targets.items > 0
        rows = np.repeat(np.arange(len(targets)), targets.counts())
        out = excluded.counts()
        ranked = self.num_items - 1 - out  # but for padding
        # Padding is one more candidate before excluded targets, or one more item that ties with them.
        behind = found.above == ranked[rows]
        counts.above[is_item] = found.above + (behind & ~without[rows])
        counts.equal[is_item] = found.equal + (behind & without[rows])
        counts.before[is_item] = found.before + (behind & without[rows])
        counts.above[~is_item] = ranked[padded]
        counts.equal[~is_item] = 1 + np.where(without, out, 0)[padded]
        return counts

    def topk(self, k: int) -> NDArray[np.int64]:
        """Find the best items."""
        excluded, without = self._items_excluded
        best = np.full((len(self.targets), k), -1, np.int64)
        width = min(k, self.num_items - 1)
        found = vector_topk(*self.vectors, width, excluded)[0]
        best[:, :width] = np.where(found >= 0, found + 1, -1)
        lengths = (found >= 0).sum(axis=1)
        shorter = np.flatnonzero((lengths < k) & ~without)
        best[shorter, lengths[shorter]] = 0
        return best

    @cached_property
    def _items_excluded(self) -> tuple[Rows, NDArray[np.bool_]]:
        """Return the excluded items but for padding, numbered as vectors are, and which rows exclude padding."""
        if self.excluded is None:
            return Rows.empty(len(self.targets)), np.zeros(len(self.targets), np.bool_)
        return _without_padding(self.excluded)


def _without_padding(rows: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    """Return rows of items but for padding, numbered from 0, and which rows have padding."""
    is_item = rows.items > 0
    ends = np.concatenate([[0], np.cumsum(is_item)])
    items = Rows(ends[rows.indptr], rows.items[is_item] - 1, None if rows.bound is None else max(0, rows.bound - 1))
    return items, items.counts() < rows.counts()
