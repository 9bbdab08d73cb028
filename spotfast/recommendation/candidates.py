"""The items that may be recommended."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast import validation
from spotfast.rows import Rows


class Candidates:
    """Items by their place among those that may be recommended, in ascending order, so that ties keep theirs.

    Args:
        num_items: of the model; items are numbered from 0.
        first_item: items below this one are padding, and are never recommended.
        item_ids: integers in [0, num_items) of any shape, in any order, to choose from; repetitions count once.
            Default: all.

    Attributes:
        ids: (C,) int64, the item at each place.

    Raises:
        ValueError, TypeError: for invalid `item_ids`, and where there are none.
    """

    def __init__(self, num_items: int, first_item: int = 0, item_ids: Any = None) -> None:
        self._first = first_item
        self._chosen = item_ids is not None
        if item_ids is None:
            self.ids = np.arange(first_item, num_items)
        else:
            items = validation.as_integers("item_ids", item_ids)
            if items.size == 0:
                raise ValueError(f"item_ids must hold at least one item, got shape {items.shape}")
            validation.check_id_range("item_ids", items, num_items, "num_items")
            distinct = np.unique(items).astype(np.int64)
            self.ids = distinct[distinct >= first_item]
        self._places: NDArray[np.int64] | None = None
        if len(self.ids) < num_items:
            self._places = np.full(num_items, -1, np.int64)
            self._places[self.ids] = np.arange(len(self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_bytes(self) -> int:
        """The memory of the tables in here."""
        return self.ids.nbytes + (0 if self._places is None else self._places.nbytes)

    @property
    def copied(self) -> bool:
        """Whether `of_table` makes a copy."""
        return self._chosen

    def of_table(self, table: Tensor) -> Tensor:
        """Return the rows of the candidates from a contiguous tensor with one per item: a view of it if they lie so."""
        return table[self.ids].contiguous() if self._chosen else table[self._first :]

    def of_scores(self, scores: NDArray[Any]) -> NDArray[Any]:
        """Return the columns of the candidates from scores of all items (U, num_items)."""
        return scores if self._places is None else scores[:, self.ids]

    def of_rows(self, rows: Rows) -> Rows:
        """Return rows of item ids as rows of places, without the items that are no candidates."""
        if self._places is None:
            return rows
        places = self._places[rows.items]
        kept = places >= 0
        ends = np.concatenate([[0], np.cumsum(kept)])
        return Rows(ends[rows.indptr], places[kept])

    def to_ids(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the items at some places; -1 stays."""
        if self._places is None:
            return places
        return np.where(places >= 0, self.ids[places], -1)
