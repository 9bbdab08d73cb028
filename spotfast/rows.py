"""Rows of sorted, distinct item ids: the items of users, as evaluation and samplers need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import backends, validation
from spotfast.interactions import Interactions

MOST_COUNTED = 1 << 20  # items that are counted however few interactions there are: 8 MB


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
        if isinstance(matrix, Interactions) and type(matrix).tocsr is Interactions.tocsr:
            matrix.check()
            return cls.from_ids(matrix.user_ids, matrix.item_ids, matrix.num_users, matrix.num_items)
        if not hasattr(matrix, "tocsr"):
            raise TypeError(f"{name} must be Interactions or a scipy sparse matrix, got {type(matrix).__name__}")
        return cls._from_csr(matrix.tocsr())

    @classmethod
    def from_ids(
        cls,
        user_ids: NDArray[np.integer[Any]],
        item_ids: NDArray[np.integer[Any]],
        num_users: int,
        num_items: int,
        *,
        backend: str = "auto",
    ) -> Rows:
        """Collect the distinct items of every user.

        Args:
            user_ids: (N,) integers in [0, num_users).
            item_ids: (N,) integers in [0, num_items).
            num_users: the number of rows.
            num_items: above every item.
            backend: "auto", "native" or "reference".

        Raises:
            ValueError: for ids out of range and for different numbers of users and items.

        Example:
            >>> Rows.from_ids(np.array([1, 1, 1]), np.array([4, 2, 4]), 2, 5)
            Rows(indptr=array([0, 0, 2]), items=array([2, 4]))
        """
        users = validation.ids("user_ids", user_ids, num_users, "num_users")
        items = validation.ids("item_ids", item_ids, num_items, "num_items")
        if len(items) != len(users):
            raise ValueError(f"item_ids must have the length of user_ids ({len(users)}), got {len(items)}")
        # The engine counts every item, which few interactions of many are not worth.
        if backends.choose("item_rows", "cpu", backend) == "native" and num_items <= max(MOST_COUNTED, len(items)):
            width = np.int64 if np.int64 in (users.dtype, items.dtype) else np.int32
            ids = (np.ascontiguousarray(array, width) for array in (users, items))
            return cls(*backends.native().item_rows(*ids, num_users, num_items, backends.num_threads()))
        import scipy.sparse as sp

        ones = np.ones(len(users), np.int8)
        return cls._from_csr(sp.coo_matrix((ones, (users, items)), shape=(num_users, num_items)).tocsr())

    @classmethod
    def _from_csr(cls, csr: Any) -> Rows:
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

    def num_common(self, other: Rows, *, backend: str = "auto") -> int:
        """Return how many items are in the same row of both; there are as many rows.

        Example:
            >>> Rows(np.array([0, 2, 3]), np.array([4, 7, 5])).num_common(Rows(np.array([0, 1, 2]), np.array([7, 4])))
            1
        """
        if backends.choose("item_rows", "cpu", backend) == "native":
            arrays = self.indptr, self.items, other.indptr, other.items
            return backends.native().num_common(*map(np.ascontiguousarray, arrays), backends.num_threads())
        size = 1 + max(self.items.max(initial=0), other.items.max(initial=0))
        keys, others = (np.repeat(np.arange(len(rows)) * size, rows.counts()) + rows.items for rows in (self, other))
        return len(np.intersect1d(keys, others, assume_unique=True))

    def take(self, rows: NDArray[np.int64]) -> Rows:
        """Return the given rows, in the given order.

        Example:
            >>> rows = Rows(np.array([0, 2, 2, 3]), np.array([4, 7, 5]))
            >>> rows.take(np.array([2, 0])).items
            array([5, 4, 7])
        """
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and np.all(np.diff(rows) == 1):  # as most often: no copy
            indptr = self.indptr[rows[0] : rows[-1] + 2]
            return Rows(indptr - indptr[0], self.items[indptr[0] : indptr[-1]])
        counts = self.counts()[rows]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        positions = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], counts)
        return Rows(indptr, self.items[positions])
