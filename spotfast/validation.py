"""Checks of what users hand in. Every message names the argument, the offending value and what is allowed."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import times

MAX_ID = 2**31 - 2  # ids and sizes fit int32: the engines keep them in four bytes


def integer(name: str, value: Any, low: int | None = None, high: int | None = None) -> int:
    """Return `value` as an int between `low` and `high` (both included; None: no bound)."""
    allowed = "an integer" + _range(low, high)
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be {allowed}, got {value!r} of type {type(value).__name__}") from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{name} must be {allowed}, got {number}")
    return number


def real(name: str, value: Any, low: float = -np.inf, high: float = np.inf, *, exclude_low: bool = False) -> float:
    """Return `value` as a finite float between `low` and `high` (`low` itself not, with `exclude_low`)."""
    allowed = "a finite number" + _range(None if low == -np.inf else low, None if high == np.inf else high, exclude_low)
    if isinstance(value, bool | np.bool_ | str | bytes):
        raise TypeError(f"{name} must be {allowed}, got {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {allowed}, got {value!r} of type {type(value).__name__}") from None
    if not np.isfinite(number) or number < low or number > high or (exclude_low and number == low):
        raise ValueError(f"{name} must be {allowed}, got {value!r}")
    return number


def choice(name: str, value: Any, allowed: Sequence[str]) -> str:
    """Return `value` if it is one of the `allowed` names."""
    if not isinstance(value, str) or value not in allowed:
        kind = ValueError if isinstance(value, str) else TypeError
        raise kind(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")
    return value


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool; 0 and 1 will do, for scripts of long standing pass them."""
    if not isinstance(value, bool | np.bool_ | int | np.integer):
        raise TypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}")
    if value not in (0, 1):
        raise ValueError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def ids(name: str, values: Any, size: int | None = None, size_name: str = "size") -> NDArray[np.integer[Any]]:
    """Return `values` as a 1-D array of signed integers in [0, size); an array that is one already is not copied."""
    array = as_integers(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    check_id_range(name, array, size, size_name)
    return array


def rectangular(name: str, values: Any) -> NDArray[Any]:
    """Return `values` as an array in the machine's byte order; an array that is one already is not copied."""
    if isinstance(values, np.ma.MaskedArray):
        hidden = np.flatnonzero(np.ma.getmaskarray(values))
        if hidden.size:
            raise ValueError(
                f"{name} must hold no masked values, got {hidden.size}, the first at position {hidden[0]}: "
                "leave them out first"
            )
    try:
        array = np.asarray(values)
    except ValueError as error:  # ragged lists
        raise ValueError(f"{name} must be a rectangular array of numbers: {error}") from None
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_integers(name: str, values: Any) -> NDArray[np.integer[Any]]:
    """Return `values` as an array of signed integers; floats must be whole numbers, and objects integers."""
    array = rectangular(name, values)
    if array.size == 0 and array.dtype.kind in "fO":  # an empty list
        return array.astype(np.int64)
    if array.dtype.kind == "O":
        return _integers_of_objects(name, array)
    if array.dtype.kind == "f":
        # NaN and infinities fail this too. The cast of such values is undefined, so they are looked for first.
        bad = np.flatnonzero(~np.isfinite(array) | (array != np.floor(array)))
        if bad.size:
            value = array.reshape(-1)[bad[0]]
            raise ValueError(
                f"{name} must hold whole numbers, got {value!r} at position {bad[0]} ({bad.size} such values)"
            )
        if float(np.abs(array).max()) > MAX_ID:  # as a Python float: half precision ends at 65504
            raise ValueError(f"{name} must be at most {MAX_ID}, got {np.abs(array).max()!r}")
        return array.astype(np.int64)
    if array.dtype.kind == "u":
        if array.size and array.max() > MAX_ID:
            raise ValueError(f"{name} must be at most {MAX_ID}, got {array.max()}")
        return array.astype(np.int64)
    if array.dtype.kind != "i":
        example = f", for example {array.reshape(-1)[0]!r}" if array.size else ""
        raise TypeError(f"{name} must hold integers, got dtype {array.dtype}{example}")
    return array


def _integers_of_objects(name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """Return an array of Python's or numpy's integers as int64."""
    for value in array.flat:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise TypeError(f"{name} must hold integers, got dtype object, for example {value!r}")
    largest = max(abs(int(value)) for value in array.flat)
    if largest > MAX_ID:
        raise ValueError(f"{name} must be at most {MAX_ID}, got {largest}")
    return array.astype(np.int64)


def check_id_range(
    name: str, array: NDArray[np.integer[Any]], size: int | None = None, size_name: str = "size"
) -> None:
    """Raise unless all of `array` lies in [0, size), or in [0, MAX_ID] without a size."""
    if array.size == 0:
        return
    largest = MAX_ID if size is None else min(size - 1, MAX_ID)
    if int(array.view(f"u{array.itemsize}").max()) <= largest:  # at one look: without a sign, negative ids are large
        return
    lowest, highest = int(array.min()), int(array.max())
    if lowest < 0:
        raise ValueError(f"{name} must not be negative, got {lowest} at position {int(array.argmin())}")
    if size is not None and highest >= size:
        position = int(array.argmax())
        raise ValueError(f"{name} must be below {size_name} = {size}, got {highest} at position {position}")
    raise ValueError(f"{name} must be at most {MAX_ID}, got {highest}")


def positions(name: str, values: Any, count: int) -> NDArray[np.int64]:
    """Return `values` as a 1-D int64 array of positions in [0, count), which may exceed `MAX_ID`."""
    array = as_integers(name, values)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    if array.size:
        lowest, highest = int(array.argmin()), int(array.argmax())
        for position in (lowest, highest):
            if not 0 <= array[position] < count:
                raise ValueError(f"{name} must lie in [0, {count}), got {array[position]} at position {position}")
    return array.astype(np.int64, copy=False)


def size(name: str, declared: int | None, array_name: str, array: NDArray[np.integer[Any]]) -> int:
    """Return the declared number of users or items, or the smallest that holds all ids of an array."""
    if declared is not None:
        return integer(name, declared, 1, MAX_ID + 1)
    if array.size == 0:
        raise ValueError(f"{array_name} is empty: declare {name} to make an empty data set on purpose")
    return int(array.max()) + 1


def writable(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself, or a copy where writing to it is forbidden (as in arrays taken from data frames)."""
    return array if array.flags.writeable else array.copy()


def numbers(name: str, values: Any, length: int, *, kinds: str = "fiu") -> NDArray[Any]:
    """Return `values` as a 1-D array of `length` finite numbers; an array that is one already is not copied.

    Args:
        name: of the argument.
        values: what was passed.
        length: how many there must be.
        kinds: the kinds of dtype that are allowed: with "M", times of Python and pandas are, too, and turned into UTC;
            with "b", booleans, which become 0 and 1.
    """
    array = rectangular(name, values)
    if array.dtype.kind == "O" and "M" in kinds:
        array = times.moments(name, array)
    if array.dtype.kind not in kinds:
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D, got shape {array.shape}")
    if len(array) != length:
        raise ValueError(f"{name} must have one value per interaction ({length}), got {len(array)}")
    finite = ~np.isnat(array) if array.dtype.kind == "M" else np.isfinite(array)
    if not finite.all():
        position = int(np.argmin(finite))
        raise ValueError(f"{name} must be finite, got {array[position]!r} at position {position}")
    return array.astype(np.float32) if array.dtype.kind == "b" else array


def weights(name: str, values: Any, length: int) -> NDArray[Any]:
    """Return `values` as a 1-D array of `length` finite numbers that are not negative."""
    array = numbers(name, values, length)
    if array.size and array.min() < 0:
        position = int(array.argmin())
        raise ValueError(f"{name} must not be negative, got {array[position]!r} at position {position}")
    return array


def file_path(name: str, value: Any) -> Path:
    """Return `value`, a path, as the `Path` of what may be a file; whether there is one is not asked."""
    try:
        path = Path(value)
    except TypeError:
        kind = type(value).__name__
        raise TypeError(f"{name} must be a str or an os.PathLike, got {value!r} of type {kind}") from None
    if value == "":  # which is no file, but `Path` takes it for the current folder
        raise ValueError(f"{name} must name a file, got ''")
    if path.is_dir():
        raise IsADirectoryError(f"{name} must name a file, got the folder {str(path)!r}")
    return path


def _range(low: Any, high: Any, exclude_low: bool = False) -> str:
    if low is not None and high is not None:
        return f" between {low} and {high}"
    if low is not None:
        return f" above {low}" if exclude_low else f" of at least {low}"
    return f" of at most {high}" if high is not None else ""
