"""Sequences of items: what sequence models are fitted on, as an array or cut when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import validation
from spotfast.id_checks import check_id_map
from spotfast.id_map import IdMap
from spotfast.ops import windows

PADDING_IDX = 0  # the item that fills sequences up on the left


class SequenceInteractions:
    """Sequences of item ids, padded on the left with 0.

    Args:
        sequences: (N, L) integers >= 0.
        user_ids: (N,) integers >= 0, the user of each sequence, or None.
        num_items: the number of items, padding included, above every id. Default: the largest id + 1.
        id_map: what the ids stand for (see `Interactions.from_frame`), or None.

    Raises:
        ValueError, TypeError: as `Interactions`.

    Example:
        >>> SequenceInteractions([[0, 1, 2], [3, 1, 2]])
        <Sequence interactions dataset (2 sequences x 3 sequence length)>
    """

    sequences: NDArray[np.integer[Any]]
    user_ids: NDArray[np.integer[Any]] | None
    num_items: int
    id_map: IdMap | None

    def __init__(
        self,
        sequences: ArrayLike,
        user_ids: ArrayLike | None = None,
        num_items: int | None = None,
        *,
        id_map: IdMap | None = None,
    ) -> None:
        self.sequences = validation.writable(_sequences(sequences))
        self.user_ids = None if user_ids is None else validation.writable(validation.ids("user_ids", user_ids))
        self.num_items = validation.size("num_items", num_items, "sequences", self.sequences)
        self.id_map = id_map
        self.check()

    def __repr__(self) -> str:
        return _repr(self)

    def __len__(self) -> int:
        return len(self.sequences)

    @property
    def max_sequence_length(self) -> int:
        """The length L of the sequences."""
        return int(np.shape(self.sequences)[1])

    def check(self) -> None:
        """Raise if the arrays, which callers may have changed, no longer form valid sequences.

        What callers have put in place of the arrays and can be accepted, lists for example, becomes arrays.
        """
        sequences = _sequences(self.sequences)
        validation.check_id_range("sequences", sequences, self.num_items, "num_items")
        check_id_map(self.id_map, self.num_items)
        if self.user_ids is not None:
            users = validation.ids("user_ids", self.user_ids)
            if len(users) != len(sequences):
                raise ValueError(f"user_ids must have one value per sequence ({len(sequences)}), got {len(users)}")
            self.user_ids = users
        self.sequences = sequences

    def rows(self, index: ArrayLike) -> NDArray[np.int32]:
        """Return the sequences at the given positions, without a check of all others.

        Args:
            index: (k,) integers in [0, N), in any order, repetitions allowed.

        Returns:
            A new int32 array of shape (k, L).

        Raises:
            ValueError: for positions out of range.
        """
        return np.asarray(self.sequences)[validation.positions("index", index, len(self))].astype(np.int32, copy=False)


class SequenceWindows:
    """The windows of users' histories, cut when they are asked for.

    Kept are the histories (4 bytes per interaction) and two numbers per user. The windows and their order are those
    of `Interactions.to_sequence`. `Interactions.sequence_windows` makes one.

    Args:
        indptr, items: histories, from `spotfast.ops.windows.histories`: (num_users + 1,) int64 and (N,) int32.
        num_items: the number of items, padding included, above every id.
        length: the length L of a window, at least 1.
        min_length: windows with fewer items are left out.
        step: how far each window lies before the one after it, at least 1.
        id_map: what the ids stand for (see `Interactions.from_frame`), or None.

    Raises:
        ValueError: naming the argument, as `spotfast.ops.windows.windows`, and for items beyond num_items.

    Example:
        >>> SequenceWindows(np.array([0, 3]), np.array([1, 2, 3], np.int32), num_items=4, length=2)
        <Sequence interactions dataset (3 sequences x 2 sequence length)>
    """

    num_items: int
    id_map: IdMap | None

    def __init__(
        self,
        indptr: NDArray[np.int64],
        items: NDArray[np.int32],
        num_items: int,
        length: int,
        min_length: int = 1,
        step: int = 1,
        *,
        id_map: IdMap | None = None,
    ) -> None:
        self.num_items = validation.integer("num_items", num_items, 1, validation.MAX_ID + 1)
        self.id_map = id_map
        self._indptr, self._items = indptr, items
        self._length, self._min_length, self._step = length, min_length, step
        self._offsets = windows.window_offsets(indptr, length, min_length, step)
        self.check()

    def __repr__(self) -> str:
        return _repr(self)

    def __len__(self) -> int:
        return int(self._offsets[-1])

    @property
    def max_sequence_length(self) -> int:
        """The length L of the windows."""
        return self._length

    @property
    def user_ids(self) -> NDArray[np.int32]:
        """The user of each window, a new array of shape (N,)."""
        return np.repeat(np.arange(len(self._indptr) - 1, dtype=np.int32), np.diff(self._offsets))

    def check(self) -> None:
        """Raise if `num_items`, which callers may have changed, is too small for the items."""
        validation.check_id_range("items", self._items, self.num_items, "num_items")
        check_id_map(self.id_map, self.num_items)

    def rows(self, index: ArrayLike) -> NDArray[np.int32]:
        """Cut the windows with the given numbers: `to_sequence().sequences[index]`.

        Args:
            index: (k,) integers in [0, N), in any order, repetitions allowed.

        Returns:
            A new int32 array of shape (k, L).

        Raises:
            ValueError: for numbers out of range.
        """
        arrays = (self._indptr, self._items, self._offsets)
        return windows.windows_at(*arrays, index, self._length, self._min_length, self._step)[0]

    def to_sequence(self) -> SequenceInteractions:
        """Cut all windows into one array, with the user of each."""
        sequences, users = windows.windows(self._indptr, self._items, self._length, self._min_length, self._step)
        return SequenceInteractions(sequences, user_ids=users, num_items=self.num_items, id_map=self.id_map)


def _sequences(values: Any) -> NDArray[np.integer[Any]]:
    """Return values as a two-dimensional array of integers."""
    sequences = validation.as_integers("sequences", values)
    if sequences.ndim != 2 or sequences.shape[1] == 0:
        raise ValueError(f"sequences must be of shape (N, L) with L at least 1, got {sequences.shape}")
    return sequences


def _repr(data: SequenceInteractions | SequenceWindows) -> str:
    return f"<Sequence interactions dataset ({len(data)} sequences x {data.max_sequence_length} sequence length)>"
