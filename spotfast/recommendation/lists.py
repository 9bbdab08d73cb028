"""Lists of the best items, some at a time: straight from vectors where there are any, else from rows of scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.memory import allocating, most_within, readable
from spotfast.ops.scores import are_bounded
from spotfast.ops.topk import topk, vector_topk, vector_topk_bytes
from spotfast.recommendation.candidates import Candidates
from spotfast.recommendation.queries import Queries
from spotfast.rows import Rows

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]

MOST_AT_ONCE = 4096  # lists, between two looks at Ctrl-C ...
MOST_PRODUCTS = 1 << 34  # ... and products for them: a second or less
ROW_BYTES = 8 << 20  # rows of scores in work at a time: written by one kernel and read by the next while in cache
EXCLUDED_BYTES = 48  # for each excluded item, while its rows are taken


class Lists:
    """The lists that have been asked for, before they are made.

    Args:
        queries: who asks.
        k, exclude, item_ids: as in `recommend`.
    """

    def __init__(self, queries: Queries, k: int, exclude: Any, item_ids: Any) -> None:
        self.queries = queries
        self._k = validation.integer("k", k, 1)
        self._candidates = Candidates(queries.num_items, queries.first_item, item_ids)
        self._exclusion = queries.exclusion(exclude)
        self._width = min(self._k, len(self._candidates))
        self._items = None
        if queries.items is not None:
            vectors, biases = queries.items
            of_table = self._candidates.of_table
            self._items = of_table(vectors), None if biases is None else of_table(biases)

    def blocks(self, size: int) -> Iterator[slice]:
        """Yield all lists, so many at a time."""
        for start in range(0, len(self.queries), size):
            yield slice(start, min(start + size, len(self.queries)))

    def empty(self, count: int) -> tuple[Ids, Scores]:
        """Return lists without items.

        Raises:
            MemoryError: if they are too large, naming k.
        """
        with allocating(f"k={self._k}: lists of shape {count, self._k} take", count * self._list_bytes):
            return np.full((count, self._k), -1, np.int64), np.full((count, self._k), -np.inf, np.float32)

    def best(self, some: slice) -> tuple[Ids, Scores]:
        """Return some of the lists: ids and scores of shape (S, k)."""
        ids, scores = self.empty(some.stop - some.start)
        if self._width == 0:
            return ids, scores
        excluded = self._excluded(some)
        if self._items is not None:
            vectors = *self.queries.vectors(some), *self._items
            if are_bounded(*vectors):
                places, scores[:, : self._width] = vector_topk(*vectors, self._width, excluded)
                ids[:, : self._width] = self._candidates.to_ids(places)
                return ids, scores
        # There are no vectors; or there are infinities, or NaN: row by row, which names the user.
        for rows in self._row_blocks(some):
            within = slice(rows.start - some.start, rows.stop - some.start)
            left_out = None if excluded is None else excluded.take(np.arange(within.start, within.stop))
            ids[within, : self._width], scores[within, : self._width] = self._best_of_rows(rows, left_out)
        return ids, scores

    def block_size(self, memory_budget: int | str | None, whole: bool) -> int:
        """Return how many lists are made at once.

        Args:
            memory_budget: as in `recommend`.
            whole: the lists of all blocks are kept.

        Raises:
            ValueError: if the budget does not suffice for one list at a time.
        """
        size = min(MOST_AT_ONCE, len(self.queries))
        if self._items is not None:
            products = max(1, self._items[0].numel())
            size = min(size, max(1, MOST_PRODUCTS // products))
        result = readable(self._list_bytes * len(self.queries))
        hint = f", {result} of it for the result: iter_recommend needs less" if whole else ""
        return most_within(memory_budget, size, lambda some: self.num_bytes(some, whole), hint)

    def num_bytes(self, size: int, whole: bool) -> int:
        """Return the most memory in use beyond model and arguments, with blocks of so many lists."""
        kept = self.queries.num_bytes + self._candidates.num_bytes
        kept += self._list_bytes * len(self.queries) if whole else 0
        block = 3 * self._list_bytes * size  # as they are found, with ids in place of places, and filled up
        if self._exclusion is not None:
            kept += self._exclusion.num_bytes
            starts = np.arange(0, len(self.queries), size)
            block += EXCLUDED_BYTES * int(np.add.reduceat(self._exclusion.counts, starts).max())
        if self._items is None:
            row = self.queries.score_bytes * self.queries.num_items
            rows = 3 * min(size, self._rows_at_once)  # single ones, a block, a copy of the candidates' columns
            return kept + block + row * rows
        vectors, biases = self._items
        copied = 0
        if self._candidates.copied:
            copied = vectors.nbytes + (0 if biases is None else biases.nbytes)
        best = vector_topk_bytes(size, self._width, len(self._candidates), vectors.shape[1]) if self._width else 0
        return kept + copied + block + best + 2 * 4 * (vectors.shape[1] + 1) * size

    @property
    def _rows_at_once(self) -> int:
        return max(1, ROW_BYTES // (4 * self.queries.num_items))

    @property
    def _list_bytes(self) -> int:
        return self._k * (np.dtype(np.int64).itemsize + np.dtype(np.float32).itemsize)

    def _excluded(self, some: slice) -> Rows | None:
        if self._exclusion is None:
            return None
        return self._candidates.of_rows(self._exclusion.rows(some))

    def _row_blocks(self, some: slice) -> Iterator[slice]:
        for start in range(some.start, some.stop, self._rows_at_once):
            yield slice(start, min(start + self._rows_at_once, some.stop))

    def _best_of_rows(self, rows: slice, excluded: Rows | None) -> tuple[Ids, Scores]:
        scores = self._candidates.of_scores(self.queries.scores(rows))
        unordered = np.flatnonzero(np.isnan(scores.min(axis=1)))
        if len(unordered):
            item = self._candidates.ids[np.flatnonzero(np.isnan(scores[unordered[0]]))[0]]
            name = self.queries.name(rows.start + unordered[0])
            raise ValueError(f"the prediction {name} for item {item} is NaN: it cannot be ranked")
        places = topk(scores, self._width, excluded)
        best = np.take_along_axis(scores, np.maximum(places, 0), axis=1).astype(np.float32)
        return self._candidates.to_ids(places), np.where(places >= 0, best, np.float32(-np.inf))
