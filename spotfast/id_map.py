"""Raw ids, as they stand in someone's data, and the numbers that models know them by."""

from __future__ import annotations

import uuid
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation

SHOWN = 10  # raw ids listed in a message
NO_PADDING: Any = object()  # None is a value that padding may become
NO_ID = -1  # where a list of recommendations has ended

_NUMBERS = (bool, int, float, Decimal)
_SCALARS = (np.number, np.bool_, np.str_, np.bytes_)
_ORDERED = (str, bytes, date, datetime, uuid.UUID, type(None))


class Ids:
    """The raw ids of all users or of all items: those at positions 0, 1, ... have the ids `first`, `first + 1`, ...

    Args:
        raw: distinct raw ids of any hashable types, in the order of their ids; integers and floats must ascend.
        first: the id of the first one. Ids below it are padding.

    Attributes:
        raw: (N,) the raw ids, not writable: int64, uint64, float64 or bool where all are numbers of that type, else
            Python objects (strings are `str`).

    Raises:
        ValueError: for raw ids that occur twice, or numbers that do not ascend.
        TypeError: for raw ids that are not hashable.

    Example:
        >>> ids = Ids.in_order(["pear", "apple", "fig"], first=1)
        >>> ids
        <Ids (3 raw ids from 'apple' to 'pear', numbered from 1)>
        >>> ids.to_id(["fig", "apple"])
        array([2, 1], dtype=int32)
        >>> ids.to_raw([[2, 1], [3, 3]]).tolist()
        [['fig', 'apple'], ['pear', 'pear']]
    """

    raw: NDArray[Any]
    first: int

    def __init__(self, raw: Iterable[Hashable], first: int = 0) -> None:
        self.raw = _canonical(raw)
        self.first = validation.integer("first", first, 0)
        if self.raw.dtype != object:
            if np.isnan(self.raw).any() or not (self.raw[1:] > self.raw[:-1]).all():
                raise ValueError("raw must ascend where all raw ids are numbers: Ids.in_order sorts them")
        elif len(self._positions) != len(self.raw):
            raise ValueError(f"raw must be distinct, got {len(self.raw)} values, {len(self._positions)} distinct ones")
        self.raw.flags.writeable = False

    @classmethod
    def in_order(cls, raw: Iterable[Hashable], first: int = 0) -> Ids:
        """Return the ids of distinct raw ids, sorted: the same for any order of `raw`.

        Raw ids of different types are sorted by the names of their types first. Types that are none of str, bytes,
        int, float, bool, Decimal, date, datetime, UUID or a tuple of these have no order that could be relied on: where
        one of them occurs, the order is that of `raw`.

        Args:
            raw: distinct raw ids.
            first: the id of the first one after sorting.
        """
        values = _canonical(raw)
        return cls(values[_order(values)], first)

    def __len__(self) -> int:
        return len(self.raw)

    def __repr__(self) -> str:
        span = f" from {self._item(0)!r} to {self._item(-1)!r}" if len(self) else ""
        return f"<Ids ({len(self)} raw ids{span}, numbered from {self.first})>"

    def __contains__(self, raw: Hashable) -> bool:
        return raw in self._positions

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ids):
            return NotImplemented
        if self is other:
            return True
        same = self.first == other.first and self.raw.dtype == other.raw.dtype
        return same and np.array_equal(self.raw, other.raw)

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        return {"raw": self.raw, "first": self.first}  # the dictionary is made anew

    @property
    def size(self) -> int:
        """All ids are below this number: the rows that a table needs."""
        return self.first + len(self)

    def to_raw(self, ids: Any, padding: Any = NO_PADDING) -> Any:
        """Return the raw ids that ids stand for.

        Args:
            ids: integers in [first, size), an array or nested lists of any shape, or one integer. -1, which ends lists
                of recommendations that are shorter than the others, stands for nothing.
            padding: what padding becomes where `first` is 1 and 0 is padding, and -1 with it. Default: 0 raises, and
                -1 becomes None.

        Returns:
            A new array of the shape of `ids` and the dtype of `raw`, of objects if `padding` is given or -1 occurs; for
            one integer the raw id itself.

        Raises:
            ValueError: for ids out of range, and for padding unless `padding` says what it becomes.
            TypeError: for ids that are not integers.

        Example:
            >>> Ids(["a", "b"], first=1).to_raw([0, -1, 2], padding="-").tolist()
            ['-', '-', 'b']
            >>> Ids([7, 9]).to_raw([1, -1]).tolist()
            [9, None]
        """
        numbers = validation.as_integers("ids", ids)
        nothing = numbers == NO_ID
        validation.check_id_range("ids", np.where(nothing, 0, numbers), self.size, "the number of ids")
        padded = numbers < self.first
        if padding is NO_PADDING and (padded & ~nothing).any():
            raise ValueError(
                f"ids must be at least {self.first}, got {numbers[padded & ~nothing][0]}, which is padding and stands "
                "for nothing: say what it becomes, for example padding=None"
            )
        blank = padded | nothing
        positions = np.maximum(numbers - self.first, 0)
        if positions.ndim == 0 and not blank:
            return self._item(int(positions))
        if padding is NO_PADDING and not blank.any():
            return self.raw[positions]
        found = np.full(positions.shape, None if padding is NO_PADDING else padding, object)
        found[~blank] = self.raw[positions[~blank]]
        return found[()] if found.ndim == 0 else found

    def to_id(self, raw: Any, *, name: str = "raw", unknown: int | None = None) -> Any:
        """Return the ids of raw ids.

        Args:
            raw: one raw id, or several: a list, a numpy array of any shape, or a Series of any data frame library.
                Anything else, a tuple too, is one raw id.
            name: what messages call `raw`.
            unknown: what stands for raw ids that are not there. Default: they are an error.

        Returns:
            int32 array of the shape of `raw`; for one raw id an int.

        Raises:
            ValueError: for raw ids that are not there: how many, and the first ten.
        """
        flat, shape = _flat(name, raw)
        positions = self._find(name, flat)
        missing = positions < 0
        ids = (positions + self.first).astype(np.int32)
        if unknown is not None:
            ids[missing] = unknown
        elif missing.any():
            others = list(dict.fromkeys(flat[missing].tolist()))
            listed = ", ".join(map(repr, others[:SHOWN])) + (", ..." if len(others) > SHOWN else "")
            raise ValueError(f"{name} must hold known raw ids, got {len(others)} unknown: {listed}")
        return int(ids[0]) if shape == () else ids.reshape(shape)

    def _find(self, name: str, values: NDArray[Any]) -> NDArray[np.int64]:
        """Return the position of each value, -1 where there is none."""
        if len(self) and self.raw.dtype.kind in "iuf" and values.dtype.kind == self.raw.dtype.kind:
            positions = np.minimum(np.searchsorted(self.raw, values), len(self) - 1)
            return np.where(self.raw[positions] == values, positions, -1)
        get = self._positions.get
        try:
            return np.fromiter((get(value, -1) for value in values.tolist()), np.int64, len(values))
        except TypeError as error:
            raise TypeError(f"{name} must hold hashable raw ids: {error}") from None

    @cached_property
    def _positions(self) -> dict[Hashable, int]:
        try:
            return {value: position for position, value in enumerate(self.raw.tolist())}
        except TypeError as error:
            raise TypeError(f"raw ids must be hashable: {error}") from None

    def _item(self, position: int) -> Any:
        value = self.raw[position]
        return value.item() if self.raw.dtype != object else value


@dataclass(frozen=True)
class IdMap:
    """The raw ids behind the numbers in `Interactions` that come from a data frame, and in models fitted on them.

    Attributes:
        users: numbered from 0, so every row of a model's user table is somebody.
        items: numbered from 1, for 0 is padding: no item is known by it, and no model recommends it.

    Example:
        >>> ids = IdMap(Ids(["ann", "bob"]), Ids([10, 20, 30], first=1))
        >>> ids
        <IdMap (2 users, 3 items)>
        >>> ids.users.to_id("bob"), ids.items.to_raw(1)
        (1, 10)
    """

    users: Ids
    items: Ids

    def __repr__(self) -> str:
        return f"<IdMap ({len(self.users)} users, {len(self.items)} items)>"


def _canonical(raw: Iterable[Hashable]) -> NDArray[Any]:
    """Return raw ids as a new array of the one dtype that their values have everywhere."""
    if isinstance(raw, np.ndarray) and raw.ndim == 1 and raw.dtype.kind in "biuf":
        if raw.dtype.kind in "bf":
            return raw.astype(np.float64 if raw.dtype.kind == "f" else np.bool_)
        fits = not len(raw) or raw.max() <= np.iinfo(np.int64).max
        return raw.astype(np.int64 if fits else np.uint64)
    values = list(raw)
    types = set(map(type, values))
    if any(issubclass(kind, _SCALARS) for kind in types):
        values = [value.item() if isinstance(value, _SCALARS) else value for value in values]
        types = set(map(type, values))
    if types == {int}:
        low, high = min(values), max(values)  # type: ignore[type-var]
        for dtype in (np.int64, np.uint64):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:  # type: ignore[operator]
                return np.array(values, dtype)
    if types in ({bool}, {float}):
        return np.array(values, types.pop())
    return np.fromiter(values, object, len(values))


def _order(values: NDArray[Any]) -> NDArray[np.int64]:
    """Return the positions of the values in the order that `Ids.in_order` describes."""
    if values.dtype != object:
        return np.argsort(values, kind="stable")
    listed = values.tolist()
    try:
        keys = listed if set(map(type, listed)) == {str} else list(map(_sort_key, listed))
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
    except TypeError:  # a type without an order; or times with and without a time zone, which Python does not compare
        return np.arange(len(listed))


def _sort_key(value: Any) -> tuple[str, Any]:
    if isinstance(value, _NUMBERS):
        return "number", value
    if type(value) is tuple:
        return "tuple", tuple(map(_sort_key, value))
    if type(value) not in _ORDERED:
        raise TypeError(f"{type(value).__name__} has no order")
    return type(value).__name__, 0 if value is None else value


def _flat(name: str, raw: Any) -> tuple[NDArray[Any], tuple[int, ...]]:
    """Return raw ids as a 1-D array, and the shape that they came in."""
    if hasattr(raw, "to_numpy"):
        raw = np.asarray(raw)
    if isinstance(raw, np.ndarray) and raw.dtype.kind == "M":
        raw = python_times(name, raw)
    if isinstance(raw, np.ndarray):
        return _canonical(raw.reshape(-1)), raw.shape
    if isinstance(raw, list):
        return _canonical(raw), (len(raw),)
    return _canonical([raw]), ()


def python_times(name: str, times: NDArray[Any]) -> NDArray[Any]:
    """Return datetime64 as `date` or `datetime` objects, which end at microseconds.

    Raises:
        ValueError: for times that are finer than a microsecond.
    """
    if np.datetime_data(times.dtype)[0] == "D":
        return times.astype(object)
    micros = times.astype("M8[us]")
    finer = times[micros != times]
    if len(finer):
        raise ValueError(f"{name} must hold times in whole microseconds where they are ids, got {finer[0]}")
    return micros.astype(object)
