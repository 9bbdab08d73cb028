"""Rows of sorted, distinct item ids: the items of users, as evaluation and samplers need them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import backends, threads, validation
from spotfast.interactions import Interactions

MOST_MARKED = 1 << 26  # items that the engine has a bit for, however few interactions there are: 8 MB a thread


@dataclass(frozen=True)
class Rows:
    """Item ids in compressed rows: row r is `items[indptr[r]:indptr[r + 1]]`, ascending, without repetition.

    Attributes:
        indptr: int64 array of shape (rows + 1,).
        items: int64 array.
        bound: if it is known, above every item, none of which is negative.
    """

    indptr: NDArray[np.int64]
    items: NDArray[np.int64]
    bound: int | None = field(default=None, repr=False)

    @classmethod
    def from_matrix(cls, name: str, matrix: Any, users: NDArray[np.int64] | None = None) -> Rows:
        """Take the positions of the stored entries of anything with `.tocsr()`; their values do not matter.

        Args:
            name: of the matrix, for messages.
            matrix: users x items.
            users: the only ones whose items are wanted, ascending: the rows of all others are empty. None: all.

        Raises:
            TypeError: naming the argument, if there is no `.tocsr()`.
        """
        if isinstance(matrix, Interactions) and type(matrix).tocsr is Interactions.tocsr:
            matrix.check()
            wanted = _mask(users, matrix.num_users)
            return cls._collect(matrix.user_ids, matrix.item_ids, matrix.num_users, matrix.num_items, wanted, "auto")
        if not hasattr(matrix, "tocsr"):
            raise TypeError(f"{name} must be Interactions or a scipy sparse matrix, got {type(matrix).__name__}")
        csr = matrix.tocsr()
        return cls._from_csr(csr, _mask(users, csr.shape[0]))

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
        return cls._collect(users, items, num_users, num_items, None, backend)

    @classmethod
    def _collect(
        cls,
        users: NDArray[np.integer[Any]],
        items: NDArray[np.integer[Any]],
        num_users: int,
        num_items: int,
        wanted: NDArray[np.bool_] | None,
        backend: str,
    ) -> Rows:
        """Collect the items of the wanted users (num_users,), or of all, from valid ids."""
        if backends.choose("item_rows", "cpu", backend) == "native" and num_items <= max(MOST_MARKED, len(items)):
            width = np.int64 if np.int64 in (users.dtype, items.dtype) else np.int32
            ids = (np.ascontiguousarray(array, width) for array in (users, items))
            return cls(*backends.native().item_rows(*ids, num_users, num_items, wanted, backends.num_threads()))
        import scipy.sparse as sp

        ones = np.ones(len(users), np.int8)
        return cls._from_csr(sp.coo_matrix((ones, (users, items)), shape=(num_users, num_items)).tocsr(), wanted)

    @classmethod
    def _from_csr(cls, csr: Any, wanted: NDArray[np.bool_] | None) -> Rows:
        if not csr.has_canonical_format:
            csr = csr.copy()
            csr.sum_duplicates()
        counts, items = np.diff(csr.indptr).astype(np.int64), csr.indices
        if wanted is not None:
            items = items[np.repeat(wanted, counts)]
            counts[~wanted] = 0
        items = items.astype(np.int64)
        return cls(np.concatenate([[0], np.cumsum(counts)]), items, _bound(items))

    @classmethod
    def empty(cls, count: int) -> Rows:
        """Return `count` rows without items."""
        return cls(np.zeros(count + 1, np.int64), np.zeros(0, np.int64), 0)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def counts(self) -> NDArray[np.int64]:
        """Return the number of items in every row."""
        return np.diff(self.indptr)

    def within(self, num_items: int) -> bool:
        """Return whether all items lie in [0, num_items)."""
        if self.bound is not None and self.bound <= num_items:
            return True
        return len(self.items) == 0 or 0 <= self.items.min() <= self.items.max() < num_items

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
        starts, ends = self.indptr[rows], self.indptr[rows + 1]
        indptr = np.concatenate([[0], np.cumsum(ends - starts)])
        if np.array_equal(starts[1:], ends[:-1]):  # they follow each other, as most often: no copy
            return Rows(indptr, self.items[starts[0] : ends[-1]] if len(rows) else self.items[:0], self.bound)
        positions = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], ends - starts)
        return Rows(indptr, self.items[positions], self.bound)


def item_rows_bytes(rows: Rows, num_items: int) -> int:
    """Return the memory that is in use at most while rows of so many items are made, beyond themselves.

    In C++ counters and ends of rows, and bits of items, as `csrc/item_rows.cpp` has them; from a matrix its ids.
    """
    num_users, count = len(rows), len(rows.items)
    counters = min(threads.get_num_threads() * num_users, max(count, num_users))
    bits = threads.get_num_threads() * num_items // 7
    return max(8 * (counters + num_users) + bits, 5 * count)


def _mask(users: NDArray[np.int64] | None, num_users: int) -> NDArray[np.bool_] | None:
    """Return which of num_users are among some, ascending; None: all are."""
    if users is None:
        return None
    wanted = np.zeros(num_users, np.bool_)
    wanted[users[: np.searchsorted(users, num_users)]] = True
    return wanted


def _bound(items: NDArray[np.int64]) -> int | None:
    """Return a number above all items, if they are none below zero."""
    if len(items) and items.min() < 0:
        return None
    return int(items.max(initial=-1)) + 1
