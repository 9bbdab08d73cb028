"""Items that must not be recommended: to users, as a matrix has them; or as one array per list of recommendations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.id_checks import check_same
from spotfast.interactions import Interactions
from spotfast.rows import Rows


@dataclass(frozen=True)
class Exclusion:
    """The items that are left out of every list.

    Attributes:
        counts: (N,) at most so many items are left out of each list.
        num_bytes: the memory that is held for this.
        rows: returns the items to leave out of some of the lists.
    """

    counts: NDArray[np.int64]
    num_bytes: int
    rows: Callable[[slice], Rows]


def of_users(exclude: Any, users: NDArray[np.int64], num_items: int, model: Any) -> Exclusion:
    """Read what is excluded for users.

    Args:
        exclude: anything with `.tocsr()`, users x items: `Interactions` or a scipy matrix, whose stored entries are
            left out, whatever their values.
        users: (N,) who is asked for.
        num_items: above all items.
        model: that is asked, or anything else that may know what ids stand for.

    Raises:
        ValueError: if there is no row for one of the users, for items beyond `num_items`, and for interactions with
            another `id_map`.
    """
    if isinstance(exclude, Interactions):
        exclude.check()
        check_same("exclude", exclude, model)
        _check_size(users, exclude.num_users)
        every = Rows.from_matrix("exclude", exclude, np.unique(users))
        _check_items(every.items, exclude.num_items, num_items)
        num_bytes = every.items.nbytes + every.indptr.nbytes
        return Exclusion(every.counts()[users], num_bytes, lambda some: every.take(users[some]))
    matrix = exclude.tocsr()
    _check_size(users, matrix.shape[0])
    _check_items(matrix.indices, matrix.shape[1], num_items)
    counts = np.diff(matrix.indptr)[users].astype(np.int64)
    # Some rows at a time: their ids double in size.
    return Exclusion(counts, 0, lambda some: Rows.from_matrix("exclude", matrix[users[some]]))


def of_arrays(exclude: Any, count: int, alone: bool, num_items: int, others: str) -> Exclusion:
    """Read what is excluded from every list.

    Args:
        exclude: one array or list of items per list; repetitions count once. For a single list its items will do.
        count: the number of lists.
        alone: a single list has been asked for.
        num_items: above all items.
        others: what else `exclude` may be, for messages.

    Raises:
        ValueError: unless there is one array per list, and for ids out of range.
        TypeError: for anything else.
    """
    if isinstance(exclude, str | bytes) or not isinstance(exclude, Sequence | np.ndarray):
        raise TypeError(f"exclude must be None, {others} or a sequence of arrays, got {exclude!r}")
    if alone and all(np.ndim(items) == 0 for items in exclude):
        exclude = [exclude]
    if len(exclude) != count:
        raise ValueError(f"exclude must hold one array for each of the {count} that are asked for, got {len(exclude)}")
    arrays = [
        validation.ids(f"exclude[{number}]", items, num_items, "num_items") for number, items in enumerate(exclude)
    ]
    owners = np.repeat(np.arange(count), [len(items) for items in arrays])
    rows = Rows.from_ids(owners, np.concatenate(arrays), count, num_items)
    return Exclusion(
        rows.counts(), rows.items.nbytes + rows.indptr.nbytes, lambda some: rows.take(np.arange(count)[some])
    )


def of_sequences(sequences: NDArray[np.integer[Any]], num_items: int) -> Exclusion:
    """Exclude the items of the sequences (N, L) themselves."""
    count, length = sequences.shape

    def rows(some: slice) -> Rows:
        items = sequences[some]
        owners = np.repeat(np.arange(len(items)), length)
        return Rows.from_ids(owners, items.reshape(-1), len(items), num_items)

    return Exclusion(np.full(count, length), 0, rows)


def _check_size(users: NDArray[np.int64], size: int) -> None:
    if users.max() >= size:
        raise ValueError(f"exclude must have a row for every user, up to {users.max()}, got {size} rows")


def _check_items(items: NDArray[np.integer[Any]], width: int, num_items: int) -> None:
    if width > num_items and items.max(initial=0) >= num_items:
        raise ValueError(f"exclude must hold items below num_items = {num_items}, got {items.max()}")
