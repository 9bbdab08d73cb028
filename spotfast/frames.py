"""Columns of data frames of pandas, polars and pyarrow, through narwhals: checked, and as NumPy arrays.

The three libraries have ways of their own to number the distinct values of a column, each many times faster than a
dictionary of Python objects. They are used in `_encode`, and nowhere else does it matter whose frame it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any

import narwhals as nw
import numpy as np
from numpy.typing import NDArray

from spotfast.id_checks import check_id_map
from spotfast.id_map import IdMap, Ids, python_times

SHOWN = 20  # columns listed in a message
BLOCK = 1 << 20  # rows whose numbers are written at a time: memory that is asked for once is the slowest part of it
DENSE = 4  # integers are numbered by a table of all between the least and the largest, if it has few rows per value


class Column:
    """A column that serves as an argument of `Interactions.from_frame`. It holds no nulls.

    Args:
        name: of the argument.
        label: of the column.
        series: the column, not empty.

    Raises:
        ValueError: for nulls: how many, and the first row.
    """

    def __init__(self, name: str, label: Hashable, series: nw.Series[Any]) -> None:
        self.title = f"{name} (column {label!r})"
        self.series = series
        if nulls := series.null_count():
            raise ValueError(
                f"{self.title} must hold no nulls, got {nulls} in {len(series)} rows, "
                f"the first in row {int(series.is_null().to_numpy().argmax())}"
            )

    def numbers(self, times: bool = False, booleans: bool = False) -> NDArray[Any]:
        """Return the numbers.

        Args:
            times: dates and times are welcome, too; those with a time zone are turned into UTC.
            booleans: they are welcome, too, as 0 and 1.

        Returns:
            Integers, floats or datetime64, one per row. The array may share the frame's memory: then it is read-only.

        Raises:
            TypeError: for other types.
            ValueError: for NaN and infinities: how many, and the first row.
        """
        series, dtype = self.series, self.series.dtype
        if times and isinstance(dtype, nw.Datetime):
            return _array(_naive(series))
        if times and dtype == nw.Date:
            return series.cast(nw.Datetime("us")).to_numpy().astype("M8[D]")
        if booleans and dtype == nw.Boolean:
            return series.cast(nw.Float32).to_numpy()
        if not dtype.is_numeric():
            allowed = "numbers, dates or times" if times else "numbers"
            raise TypeError(
                f"{self.title} must hold {allowed}, got {dtype}, for example {series.head(1).to_list()[0]!r}"
            )
        values = _array(series.cast(nw.Float64) if dtype == nw.Decimal else series)
        finite = np.isfinite(values)
        if not finite.all():
            row = int(finite.argmin())
            raise ValueError(
                f"{self.title} must be finite, got {(~finite).sum()} values that are not, "
                f"the first in row {row}: {values[row]}"
            )
        return values

    def distinct(self) -> tuple[Any, NDArray[np.integer[Any]]]:
        """Return the distinct values in any order, a list or an array, and the position of every row's among them.

        Raises:
            TypeError: for values that cannot be hashed.
            ValueError: for NaN and infinities, and for times finer than a microsecond.
        """
        series, dtype = self.series, self.series.dtype
        if isinstance(dtype, nw.Datetime):
            distinct, codes = np.unique(_naive(series).to_numpy(), return_inverse=True)
            times = python_times(self.title, distinct).tolist()
            return [time.replace(tzinfo=UTC) for time in times] if dtype.time_zone else times, codes
        if dtype.is_float():
            return np.unique(self.numbers(), return_inverse=True)
        if dtype == nw.Boolean:
            return np.unique(series.to_numpy(), return_inverse=True)
        if isinstance(dtype, nw.List | nw.Array | nw.Struct):
            raise TypeError(f"{self.title} must hold strings or other values that can be hashed, got {dtype}")
        dense = _encode_dense(series.to_numpy()) if dtype.is_integer() else None
        try:
            return _encode(series) if dense is None else dense
        except (TypeError, NotImplementedError) as error:
            raise TypeError(f"{self.title} must hold strings or other values that can be hashed: {error}") from None


def columns(df: Any, labels: Mapping[str, Hashable]) -> dict[str, Column]:
    """Return columns of a data frame.

    Args:
        df: a frame of pandas, polars (also lazy: only these columns are collected) or pyarrow.
        labels: the column for every argument of `Interactions.from_frame`.

    Raises:
        TypeError: for a df that is not a frame.
        ValueError: for columns that are not there, columns of one name, arguments that share a column, no rows, and
            nulls.
    """
    try:
        frame = nw.from_native(df)
    except TypeError:
        raise TypeError(f"df must be a pandas, polars or pyarrow data frame, got {type(df).__name__}") from None
    except ValueError as error:
        raise ValueError(f"df must have columns of different names: {' '.join(str(error).split())}") from None
    _check_labels(frame.collect_schema().names(), labels)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.select(*labels.values()).collect()  # type: ignore[arg-type] # labels are names here
    implementation = frame.implementation
    if not (implementation.is_pandas() or implementation.is_polars() or implementation.is_pyarrow()):
        raise TypeError(f"df must be a pandas, polars or pyarrow data frame, got one of {implementation}")
    if len(frame) == 0:
        raise ValueError("df must not be empty, got 0 rows")
    return {name: Column(name, label, frame.get_column(label)) for name, label in labels.items()}


def number_ids(
    user: Column, item: Column, id_map: IdMap | None, unknown: int | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32], IdMap]:
    """Number the raw ids of two columns.

    Args:
        user: the column of users.
        item: the column of items.
        id_map: the numbers to use. Default: new ones in the order of the raw ids, users from 0, items from 1.
        unknown: what stands for raw ids that are not in `id_map`. Default: they are an error.

    Returns:
        The ids of every row's user and item, and the map.

    Raises:
        ValueError: for raw ids that are not in `id_map`.
    """
    check_id_map(id_map)
    known = (None, None) if id_map is None else (id_map.users, id_map.items)
    with ThreadPoolExecutor(2) as pool:  # most of the work is in libraries that let go of the GIL
        (users, user_ids), (items, item_ids) = pool.map(_number, (user, item), known, (0, 1), (unknown, unknown))
    return user_ids, item_ids, IdMap(users, items) if id_map is None else id_map


def _number(column: Column, ids: Ids | None, first: int, unknown: int | None) -> tuple[Ids, NDArray[np.int32]]:
    values, codes = column.distinct()
    if ids is None:
        ids = Ids.in_order(values, first)
    return ids, ids.to_id(values, name=column.title, unknown=unknown)[
        codes
    ]  # indexing: several times as fast as `take`


def _check_labels(names: list[Any], labels: Mapping[str, Hashable]) -> None:
    used: dict[Hashable, str] = {}
    for name, label in labels.items():
        if label not in names:
            listed = ", ".join(map(repr, names[:SHOWN])) + (", ..." if len(names) > SHOWN else "")
            raise ValueError(f"{name} must name a column of df, got {label!r}; the columns are {listed}")
        if label in used:
            raise ValueError(f"{name} must name another column than {used[label]}, got {label!r} for both")
        used[label] = name


def _array(series: nw.Series[Any]) -> NDArray[Any]:
    """Return a column as an array, which nobody can write to if it may be the frame's memory.

    pandas before 3 says nothing of the kind about what it hands out.
    """
    values = series.to_numpy()
    if series.implementation.is_pandas():
        values = values.view()
        values.flags.writeable = False
    return values


def _naive(series: nw.Series[Any]) -> nw.Series[Any]:
    """Return times without a time zone, those with one in UTC."""
    zone = series.dtype.time_zone  # type: ignore[attr-defined]
    return series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zone else series


def _encode_dense(values: NDArray[np.integer[Any]]) -> tuple[NDArray[Any], NDArray[np.int32]] | None:
    """Number integers by a table of all from the least to the largest; None if they lie too far apart for that."""
    low, high = int(values.min()), int(values.max())
    if high - low >= max(DENSE * len(values), 1 << 16):
        return None
    offsets = values if low == 0 else values.astype(np.uint64 if high > np.iinfo(np.int64).max else np.int64) - low
    there = np.zeros(high - low + 1, np.bool_)
    there[offsets] = True
    distinct = np.flatnonzero(there)
    numbers = np.cumsum(there, dtype=np.int32) - 1
    return distinct.astype(offsets.dtype) + low, numbers[offsets]


def _encode(series: nw.Series[Any]) -> tuple[Any, NDArray[np.integer[Any]]]:
    """Number the distinct values of a column in the way that its library is best at."""
    native = series.to_native()
    if series.implementation.is_polars():
        return _encode_polars(native, series.__native_namespace__())
    if series.implementation.is_pyarrow():
        if series.dtype == nw.Categorical:  # a dictionary may hold values that occur nowhere, or twice
            native = native.cast(native.type.value_type)
        encoded = native.dictionary_encode().combine_chunks()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    codes, distinct = native.array.factorize()
    return np.asarray(distinct, object), codes


def _encode_polars(series: Any, pl: Any) -> tuple[list[Any], NDArray[np.integer[Any]]]:
    """Number the distinct values of a polars series; `pl` is the module."""
    if series.dtype == pl.Object:
        positions: dict[Any, int] = {}
        codes = [positions.setdefault(value, len(positions)) for value in series.to_list()]
        return list(positions), np.array(codes, np.int64)
    if series.dtype == pl.String:
        # Categories of their own: the default ones are shared by the whole process, and grow.
        own = pl.Categorical(pl.Categories.random()) if hasattr(pl, "Categories") else pl.Categorical
        series = series.cast(own)
    if isinstance(series.dtype, pl.Categorical | pl.Enum):
        codes = series.to_physical().to_numpy()
        last_row = np.full(int(codes.max()) + 1, -1, np.int64)
        for start in range(0, len(codes), BLOCK):
            some = codes[start : start + BLOCK]
            last_row[some] = np.arange(start, start + len(some))
        occurs = last_row >= 0  # categories of someone else's need not
        values = series.gather(last_row[occurs]).cast(pl.String).to_list()
        return values, codes if occurs.all() else (np.cumsum(occurs, dtype=np.int32) - 1)[codes]
    return series.unique().sort().to_list(), series.rank("dense").to_numpy() - 1
