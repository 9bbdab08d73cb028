"""Rows of sorted, distinct item ids: the test or training items of users, as evaluation needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Rows:
    """Item ids in compressed rows: row r is `items[indptr[r]:indptr[r + 1]]`, ascending, without repetition.

    Attributes:
        indptr: int64 array of shape (rows + 1,).
        items: int64 array.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int64]

    @classmethod
    def from_matrix(cls, name: str, matrix: Any) -> Rows:
        """Take the positions of the stored entries of anything with `.tocsr()`; their values do not matter.

        Raises:
            TypeError: naming the argument, if there is no `.tocsr()`.
        """
        if not hasattr(matrix, "tocsr"):
            raise TypeError(f"{name} must be Interactions or a scipy sparse matrix, got {type(matrix).__name__}")
        csr = matrix.tocsr()
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
        return cls(csr.indptr.astype(np.int64), csr.indices.astype(np.int64))

    @classmethod
    def empty(cls, count: int) -> Rows:
        """Return `count` rows without items."""
        return cls(np.zeros(count + 1, np.int64), np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def counts(self) -> NDArray[np.int64]:
        """Return the number of items in every row."""
        return np.diff(self.indptr)

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return the given rows, in the given order.

        Example:
            >>> rows = Rows(np.array([0, 2, 2, 3]), np.array([4, 7, 5]))
            >>> rows.take(np.array([2, 0])).items
            array([5, 4, 7])
        """
        counts = self.counts()[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        positions = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], counts)
        return Rows(indptr, self.items[positions])
