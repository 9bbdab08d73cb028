"""Interactions between users and items: the data that every model is fitted on and every score is computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import validation
from spotfast.ops import windows

if TYPE_CHECKING:
    import scipy.sparse as sp


class Interactions:
    """User-item interactions, one per position of the arrays.

    The arrays are plain writable numpy arrays. They may be changed or reassigned: everything that reads them does
    so when it is called, and checks them again.

    Args:
        user_ids: (N,) integers >= 0. Floats are accepted where they are whole numbers.
        item_ids: (N,) integers >= 0. Sequence models reserve item 0 for padding.
        ratings: (N,) finite numbers, or None.
        timestamps: (N,) finite numbers or datetime64, or None. Any unit: only their order counts.
        weights: (N,) finite numbers >= 0, or None. The weight of each interaction in the loss.
        num_users: the number of users, above every id in `user_ids`. Default: the largest id + 1.
        num_items: the number of items, above every id in `item_ids`. Default: the largest id + 1.

    Raises:
        ValueError: naming the array, the value and the allowed range, for ids that are negative, not whole, not 1-D
            or beyond the declared size, for values that are not finite, for arrays of different lengths, and for no
            interactions at all where a size is to be inferred.
        TypeError: for arrays that do not hold numbers.

    Example:
        >>> import numpy as np
        >>> interactions = Interactions(np.array([0, 0, 1]), np.array([2, 1, 2]))
        >>> interactions
        <Interactions dataset (2 users x 3 items x 3 interactions)>
        >>> interactions.tocsr().toarray()
        array([[0., 1., 1.],
               [0., 0., 1.]], dtype=float32)
    """

    user_ids: NDArray[np.integer[Any]]
    item_ids: NDArray[np.integer[Any]]
    ratings: NDArray[Any] | None
    timestamps: NDArray[Any] | None
    weights: NDArray[Any] | None
    num_users: int
    num_items: int

    def __init__(
        self,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        ratings: ArrayLike | None = None,
        timestamps: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        num_users: int | None = None,
        num_items: int | None = None,
    ) -> None:
        self.user_ids = _writable(validation.ids("user_ids", user_ids))
        self.item_ids = _writable(validation.ids("item_ids", item_ids))
        self.ratings = None if ratings is None else _writable(validation.rectangular("ratings", ratings))
        self.timestamps = None if timestamps is None else _writable(validation.rectangular("timestamps", timestamps))
        self.weights = None if weights is None else _writable(validation.rectangular("weights", weights))
        self.num_users = _size("num_users", num_users, "user_ids", self.user_ids)
        self.num_items = _size("num_items", num_items, "item_ids", self.item_ids)
        self.check()

    def __repr__(self) -> str:
        return f"<Interactions dataset ({self.num_users} users x {self.num_items} items x {len(self)} interactions)>"

    def __len__(self) -> int:
        return len(self.user_ids)

    def check(self) -> None:
        """Raise if the arrays, which callers may have changed, no longer form valid interactions.

        What callers have put in place of the arrays and can be accepted, lists for example, becomes arrays.
        """
        users = validation.ids("user_ids", self.user_ids, self.num_users, "num_users")
        items = validation.ids("item_ids", self.item_ids, self.num_items, "num_items")
        if len(users) != len(items):
            raise ValueError(f"user_ids and item_ids must have the same length, got {len(users)} and {len(items)}")
        if self.ratings is not None:
            self.ratings = validation.numbers("ratings", self.ratings, len(users))
        if self.timestamps is not None:
            self.timestamps = validation.numbers("timestamps", self.timestamps, len(users), kinds="fiuM")
        if self.weights is not None:
            self.weights = validation.weights("weights", self.weights, len(users))
        self.user_ids, self.item_ids = users, items

    def take(self, index: NDArray[Any] | slice) -> Interactions:
        """Return the interactions at positions, a mask or a slice; every array and both sizes come along."""

        def at(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else np.asarray(array)[index]

        self.check()
        return Interactions(
            np.asarray(self.user_ids)[index],
            np.asarray(self.item_ids)[index],
            ratings=at(self.ratings),
            timestamps=at(self.timestamps),
            weights=at(self.weights),
            num_users=self.num_users,
            num_items=self.num_items,
        )

    def tocoo(self) -> sp.coo_matrix:
        """Return a new (num_users, num_items) matrix: one entry per interaction in order, its rating or 1."""
        import scipy.sparse as sp

        self.check()
        data = np.ones(len(self), np.float32) if self.ratings is None else np.array(self.ratings)
        if data.itemsize < 4:  # scipy knows no float16, and sums of int8 wrap around
            data = data.astype(np.float32)
        row, column = np.array(self.user_ids), np.array(self.item_ids)
        return sp.coo_matrix((data, (row, column)), shape=(self.num_users, self.num_items))

    def tocsr(self) -> sp.csr_matrix:
        """Return a new (num_users, num_items) matrix; the entries of repeated interactions are summed."""
        return self.tocoo().tocsr()

    def to_sequence(
        self,
        max_sequence_length: int = 10,
        min_sequence_length: int | None = None,
        step_size: int | None = None,
    ) -> SequenceInteractions:
        """Cut every user's history into windows, padded on the left with 0.

        Users come in ascending order; a user's windows newest first, the first ending at the last interaction, each
        further one `step_size` earlier. Interactions with equal timestamps keep their order in the arrays.

        Args:
            max_sequence_length: the length L of a window, at least 1.
            min_sequence_length: windows with fewer items than this are left out. Default: none is.
            step_size: how far each window lies before the one after it, at least 1. Default: L.

        Returns:
            Sequences of int32, shape (windows, L), with the user of each.

        Raises:
            ValueError: if there are no timestamps, if item 0 occurs (it means padding), if there are weights (a
                window has no single weight), or for lengths and steps below 1.

        Example:
            >>> interactions = Interactions([0, 0, 0, 1], [1, 2, 3, 4], timestamps=[10, 20, 30, 10])
            >>> interactions.to_sequence(max_sequence_length=2).sequences
            array([[2, 3],
                   [0, 1],
                   [0, 4]], dtype=int32)
        """
        length = validation.integer("max_sequence_length", max_sequence_length, 1)
        minimum = (
            1 if min_sequence_length is None else validation.integer("min_sequence_length", min_sequence_length, 0)
        )
        step = length if step_size is None else validation.integer("step_size", step_size, 1)
        self.check()
        if self.timestamps is None:
            raise ValueError("timestamps are needed to order each user's items, got None")
        if self.weights is not None:
            raise ValueError(
                "weights have no meaning in sequences, got an array: set interactions.weights = None first"
            )
        if len(self) and np.min(self.item_ids) == 0:
            raise ValueError(
                f"item_ids must be at least 1 for sequences, where 0 is padding, "
                f"got 0 at position {int(np.argmin(self.item_ids))}: add 1 to all of them"
            )
        indptr, items = windows.histories(self.user_ids, self.item_ids, self.timestamps, self.num_users)
        sequences, user_ids = windows.windows(indptr, items, length, minimum, step)
        return SequenceInteractions(sequences, user_ids=user_ids, num_items=self.num_items)


class SequenceInteractions:
    """Sequences of item ids, padded on the left with 0.

    Args:
        sequences: (N, L) integers >= 0.
        user_ids: (N,) integers >= 0, the user of each sequence, or None.
        num_items: the number of items, padding included, above every id. Default: the largest id + 1.

    Raises:
        ValueError, TypeError: as `Interactions`.

    Example:
        >>> SequenceInteractions([[0, 1, 2], [3, 1, 2]])
        <Sequence interactions dataset (2 sequences x 3 sequence length)>
    """

    sequences: NDArray[np.integer[Any]]
    user_ids: NDArray[np.integer[Any]] | None
    max_sequence_length: int
    num_items: int

    def __init__(self, sequences: ArrayLike, user_ids: ArrayLike | None = None, num_items: int | None = None) -> None:
        self.sequences = _writable(validation.as_integers("sequences", sequences))
        _check_2d(self.sequences)
        self.user_ids = None if user_ids is None else _writable(validation.ids("user_ids", user_ids))
        self.max_sequence_length = self.sequences.shape[1]
        self.num_items = _size("num_items", num_items, "sequences", self.sequences)
        self.check()

    def __repr__(self) -> str:
        count, length = self.sequences.shape
        return f"<Sequence interactions dataset ({count} sequences x {length} sequence length)>"

    def __len__(self) -> int:
        return len(self.sequences)

    def check(self) -> None:
        """Raise if the arrays, which callers may have changed, no longer form valid sequences."""
        sequences = validation.as_integers("sequences", self.sequences)
        _check_2d(sequences)
        validation.check_id_range("sequences", sequences, self.num_items, "num_items")
        if self.user_ids is not None:
            users = validation.ids("user_ids", self.user_ids)
            if len(users) != len(sequences):
                raise ValueError(f"user_ids must have one value per sequence ({len(sequences)}), got {len(users)}")


def _check_2d(sequences: NDArray[np.integer[Any]]) -> None:
    if sequences.ndim != 2 or sequences.shape[1] == 0:
        raise ValueError(f"sequences must be of shape (N, L) with L at least 1, got {sequences.shape}")


def _size(name: str, declared: int | None, array_name: str, ids: NDArray[np.integer[Any]]) -> int:
    """Return the declared size, or the smallest that holds all ids."""
    if declared is not None:
        return validation.integer(name, declared, 1, validation.MAX_ID + 1)
    if ids.size == 0:
        raise ValueError(f"{array_name} is empty: declare {name} to make an empty data set on purpose")
    return int(ids.max()) + 1


def _writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself, or a copy where writing to it is forbidden (as in arrays taken from data frames)."""
    return array if array.flags.writeable else array.copy()
