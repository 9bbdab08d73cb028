"""Interactions between users and items: the data that every model is fitted on and every score is computed from."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import validation
from spotfast.id_checks import check_id_map
from spotfast.id_map import IdMap
from spotfast.ops import windows
from spotfast.sequence_interactions import SequenceInteractions, SequenceWindows

__all__ = ["Interactions", "SequenceInteractions", "SequenceWindows"]

if TYPE_CHECKING:
    import scipy.sparse as sp


class Interactions:
    """User-item interactions, one per position of the arrays.

    The arrays are plain writable numpy arrays. They may be changed or reassigned: everything that reads them does
    so when it is called, and checks them again.

    Args:
        user_ids: (N,) integers >= 0. Floats are accepted where they are whole numbers.
        item_ids: (N,) integers >= 0. Sequence models reserve item 0 for padding.
        ratings: (N,) finite numbers, or booleans, which become 0 and 1; or None.
        timestamps: (N,) finite numbers, datetime64, or times of Python or pandas (with a time zone: turned into UTC);
            or None. Any unit: only their order counts.
        weights: (N,) finite numbers >= 0, or None. The weight of each interaction in the loss.
        num_users: the number of users, above every id in `user_ids`. Default: the largest id + 1.
        num_items: the number of items, above every id in `item_ids`. Default: the largest id + 1.
        id_map: what the ids stand for (`from_frame` makes it), or None. Takes, splits, sequences and models keep it.

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
    id_map: IdMap | None

    def __init__(
        self,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        ratings: ArrayLike | None = None,
        timestamps: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        num_users: int | None = None,
        num_items: int | None = None,
        *,
        id_map: IdMap | None = None,
    ) -> None:
        self.user_ids = validation.writable(validation.ids("user_ids", user_ids))
        self.item_ids = validation.writable(validation.ids("item_ids", item_ids))
        self.ratings = None if ratings is None else validation.writable(validation.rectangular("ratings", ratings))
        self.timestamps = (
            None if timestamps is None else validation.writable(validation.rectangular("timestamps", timestamps))
        )
        self.weights = None if weights is None else validation.writable(validation.rectangular("weights", weights))
        self.num_users = validation.size("num_users", num_users, "user_ids", self.user_ids)
        self.num_items = validation.size("num_items", num_items, "item_ids", self.item_ids)
        self.id_map = id_map
        self.check()

    @classmethod
    def from_frame(
        cls,
        df: Any,
        user: Hashable = "user_id",
        item: Hashable = "item_id",
        rating: Hashable | None = None,
        timestamp: Hashable | None = None,
        weight: Hashable | None = None,
        *,
        id_map: IdMap | None = None,
        unknown: str = "raise",
    ) -> Self:
        """Make interactions from a data frame, whose ids may be strings or whatever else can be hashed.

        Raw ids are numbered in sorted order, whatever the order of the rows: users from 0, items from 1 (0 is padding).
        `id_map` of the result maps back: `id_map.items.to_raw(...)`, `id_map.users.to_id(...)`.

        Args:
            df: a frame of pandas, polars (also lazy) or pyarrow, with a row per interaction.
            user: the column of users.
            item: the column of items.
            rating: the column of ratings, finite numbers or booleans (0 and 1), or None.
            timestamp: the column of timestamps, finite numbers, dates or times (with a time zone: turned into UTC).
            weight: the column of weights, finite numbers >= 0, or None.
            id_map: that of earlier interactions, in order to number new ones of the same users and items alike.
            unknown: what to do with rows whose user or item is not in `id_map`: "raise", or "drop" them.

        Returns:
            Interactions with new arrays: int32 ids, the others of the column's type.

        Raises:
            ValueError: naming the column, for one that is not there or used twice, for nulls, NaN and infinities, an
                empty frame, and raw ids that are not in `id_map` (how many, and the first ten), or no row without.
            TypeError: for a df that is no data frame, and columns of unfit types.

        Example:
            >>> import polars as pl
            >>> df = pl.DataFrame({"user_id": ["eve", "ann", "eve"], "item_id": ["tea", "jam", "jam"]})
            >>> interactions = Interactions.from_frame(df)
            >>> interactions.user_ids, interactions.item_ids
            (array([1, 0, 1], dtype=int32), array([2, 1, 1], dtype=int32))
            >>> interactions.id_map.items.to_raw([1, 2]).tolist()
            ['jam', 'tea']
        """
        from spotfast import frames

        optional = {"rating": rating, "timestamp": timestamp, "weight": weight}
        given = {name: label for name, label in optional.items() if label is not None}
        columns = frames.columns(df, {"user": user, "item": item, **given})
        dropping = validation.choice("unknown", unknown, ("raise", "drop")) == "drop"
        if dropping and id_map is None:
            raise ValueError("unknown must be 'raise' without id_map, by which all ids are known, got 'drop'")
        user_ids, item_ids, id_map = frames.number_ids(
            columns["user"], columns["item"], id_map, -1 if dropping else None
        )
        known: Any = slice(None)
        if dropping:
            known = (user_ids >= 0) & (item_ids >= 0)
            if not known.any():
                raise ValueError(f"df must have rows whose user and item are in id_map, got {len(known)} without")
        return cls(
            user_ids[known],
            item_ids[known],
            ratings=columns["rating"].numbers(booleans=True)[known] if "rating" in columns else None,
            timestamps=columns["timestamp"].numbers(times=True)[known] if "timestamp" in columns else None,
            weights=columns["weight"].numbers()[known] if "weight" in columns else None,
            num_users=id_map.users.size,
            num_items=id_map.items.size,
            id_map=id_map,
        )

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
            self.ratings = validation.numbers("ratings", self.ratings, len(users), kinds="fiub")
        if self.timestamps is not None:
            self.timestamps = validation.numbers("timestamps", self.timestamps, len(users), kinds="fiuM")
        if self.weights is not None:
            self.weights = validation.weights("weights", self.weights, len(users))
        check_id_map(self.id_map, self.num_items, self.num_users)
        if self.id_map is not None and len(items) and items.min() < self.id_map.items.first:
            raise ValueError(
                f"item_ids must be at least {self.id_map.items.first} with an id_map, where lower ones are padding, "
                f"got {items.min()} at position {int(items.argmin())}"
            )
        self.user_ids, self.item_ids = users, items

    def take(self, index: NDArray[Any] | slice) -> Interactions:
        """Return the interactions at positions, a mask or a slice; every array, both sizes and the map come along."""

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
            id_map=self.id_map,
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
        return self.sequence_windows(max_sequence_length, min_sequence_length, step_size).to_sequence()

    def sequence_windows(
        self,
        max_sequence_length: int = 10,
        min_sequence_length: int | None = None,
        step_size: int | None = None,
    ) -> SequenceWindows:
        """Cut every user's history into windows when they are asked for: `to_sequence` without its array.

        With `step_size=1` there is a window per interaction, and the array of all is `max_sequence_length` times as
        large as the histories, which are all that is kept here. Later changes of the interactions do not show.

        Args:
            max_sequence_length: as `to_sequence`.
            min_sequence_length: as `to_sequence`.
            step_size: as `to_sequence`.

        Returns:
            The same sequences in the same order as `to_sequence` gives.

        Raises:
            ValueError: as `to_sequence`.

        Example:
            >>> interactions = Interactions([0, 0, 0, 1], [1, 2, 3, 4], timestamps=[10, 20, 30, 10])
            >>> windows = interactions.sequence_windows(max_sequence_length=2)
            >>> len(windows)
            3
            >>> windows.rows([2, 0])
            array([[0, 4],
                   [2, 3]], dtype=int32)
        """
        length = validation.integer("max_sequence_length", max_sequence_length, 1, windows.MOST_LENGTH)
        minimum, step = 1, length
        if min_sequence_length is not None:
            minimum = validation.integer("min_sequence_length", min_sequence_length, 0)
        if step_size is not None:
            step = validation.integer("step_size", step_size, 1)
        minimum, step = min(minimum, windows.MOST_STEP), min(step, windows.MOST_STEP)  # longer than any history
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
        return SequenceWindows(indptr, items, self.num_items, length, minimum, step, id_map=self.id_map)
