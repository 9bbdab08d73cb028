"""Interactions from data frames: the same from pandas, polars and pyarrow, and errors that name the column."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from spotfast import frames
from spotfast.id_map import IdMap, Ids
from spotfast.interactions import Interactions

UTC = dt.UTC
LIBRARIES = {
    "pandas": pd.DataFrame,
    "pandas-arrow": lambda columns: pa.table(columns).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": pl.DataFrame,
    "polars-lazy": lambda columns: pl.DataFrame(columns).lazy(),
    "polars-chunks": lambda columns: pl.concat([pl.DataFrame(columns)[:1], pl.DataFrame(columns)[1:]], rechunk=False),
    "pyarrow": pa.table,
    "pyarrow-chunks": lambda columns: pa.concat_tables([pa.table(columns)[:1], pa.table(columns)[1:]]),
}
RAW = {
    "strings": ["b", "é", "a", "b", ""],
    "integers": [30, -7, 12, 30, 2**40],
    "close integers": [5, 3, 9, 5, 4],
    "large integers": np.array([2**63 + 5, 3, 2**63, 2**63 + 5, 4], np.uint64),
    "floats": [0.5, -1.0, 2.5, 0.5, 1e300],
    "booleans": [True, False, True, True, False],
    "bytes": [b"b", b"\xff", b"a", b"b", b""],
    "dates": [dt.date(2020, 1, day) for day in (3, 1, 2, 3, 9)],
    "times": [dt.datetime(2020, 1, day, 1, 2, 3, 45) for day in (3, 1, 2, 3, 9)],
    "times with a zone": [dt.datetime(2020, 1, day, tzinfo=UTC) for day in (3, 1, 2, 3, 9)],
    "decimals": [Decimal(number) for number in ("1.50", "0.25", "3.00", "1.50", "9.75")],
}


@pytest.fixture(params=LIBRARIES)
def frame(request):
    return LIBRARIES[request.param]


def columns(**more):
    return {"user_id": ["eve", "ann", "eve", "bob"], "item_id": [20, 10, 10, 30], **more}


def small(library="polars", **more):
    return LIBRARIES[library](columns(**more))


def message(error, function, *arguments, **keywords):
    with pytest.raises(error) as caught:
        function(*arguments, **keywords)
    return str(caught.value)


@pytest.mark.parametrize("kind", RAW)
def test_ids_are_the_sorted_raw_ids_in_every_library(frame, kind):
    raw = RAW[kind]
    interactions = Interactions.from_frame(frame({"u": raw, "i": raw}), "u", "i")
    raw = list(raw)
    distinct = sorted(set(raw))
    assert interactions.user_ids.dtype == interactions.item_ids.dtype == np.int32
    assert interactions.user_ids.tolist() == [distinct.index(value) for value in raw]
    assert interactions.item_ids.tolist() == [distinct.index(value) + 1 for value in raw]
    assert (interactions.num_users, interactions.num_items) == (len(distinct), len(distinct) + 1)
    assert interactions.id_map == IdMap(Ids(distinct), Ids(distinct, first=1))
    assert interactions.id_map.items.to_raw(interactions.item_ids).tolist() == raw


@pytest.mark.parametrize("kind", RAW)
def test_the_order_of_rows_does_not_change_ids(frame, kind):
    raw = RAW[kind]
    forwards = Interactions.from_frame(frame({"u": raw, "i": raw}), "u", "i")
    backwards = Interactions.from_frame(frame({"u": raw[::-1], "i": raw[::-1]}), "u", "i")
    assert backwards.id_map == forwards.id_map
    assert backwards.user_ids.tolist() == forwards.user_ids.tolist()[::-1]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["b", "a", "b"]).astype("category").cat.add_categories(["unused"]),
        pd.Series(["b", "a", "b"], dtype="string"),
        pd.Series(["b", "a", "b"], dtype=object),
        pl.Series(["b", "a", "b"], dtype=pl.Categorical),
        pl.Series(["b", "a", "b"], dtype=pl.Enum(["unused", "b", "a", "more"])),
        pa.DictionaryArray.from_arrays([1, 3, 0], ["b", "b", "unused", "a"]),
        pa.array(["b", "a", "b"], pa.large_string()),
        pa.array(["b", "a", "b"], pa.string_view()),
    ],
)
def test_strings_and_categories_of_any_kind(column):
    table = pa.table if isinstance(column, pa.Array) else type(column.to_frame("x"))
    ids = Interactions.from_frame(table({"u": column, "i": column}), "u", "i")
    assert ids.id_map.users == Ids(["a", "b"])
    assert ids.user_ids.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "raw", [[uuid.UUID(int=5), uuid.UUID(int=2)], [("b", 2), ("a", 1)], [frozenset("b"), frozenset("a")]]
)
def test_objects_of_any_hashable_type(raw):
    for column in (pd.Series([*raw, raw[0]], dtype=object), pl.Series([*raw, raw[0]], dtype=pl.Object)):
        ids = Interactions.from_frame(type(column.to_frame("x"))({"u": column, "i": column}), "u", "i")
        assert ids.id_map.users.to_raw(ids.user_ids).tolist() == [*raw, raw[0]]
        if not isinstance(raw[0], frozenset):
            assert ids.id_map.users.raw.tolist() == sorted(raw)


def test_integers_far_apart_are_not_numbered_by_a_table(frame):
    rng = np.random.default_rng(0)
    distinct = np.unique(rng.integers(-(2**62), 2**62, 500))
    raw = rng.choice(distinct, 3000)
    assert frames._encode_dense(raw) is None
    interactions = Interactions.from_frame(frame({"u": raw, "i": raw.astype(np.int64) % 7}), "u", "i")
    np.testing.assert_array_equal(interactions.id_map.users.raw, np.unique(raw))
    np.testing.assert_array_equal(interactions.id_map.users.raw[interactions.user_ids], raw)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint64])
def test_narrow_integers_do_not_overflow(dtype):
    raw = np.array([np.iinfo(dtype).max, np.iinfo(dtype).min, np.iinfo(dtype).max - 1], dtype)
    ids = Interactions.from_frame(pl.DataFrame({"u": raw, "i": raw}), "u", "i")
    assert ids.id_map.users.to_raw(ids.user_ids).tolist() == raw.tolist()


def test_other_columns_come_along(frame):
    stars = np.array([1.0, 2.5, 3.0, 4.0], np.float32)
    data = columns(stars=stars, when=[4, 3, 2, 1], share=[0.5, 1, 0, 2])
    interactions = Interactions.from_frame(frame(data), rating="stars", timestamp="when", weight="share")
    assert interactions.ratings.dtype == np.float32
    np.testing.assert_array_equal(interactions.ratings, stars)
    assert interactions.timestamps.tolist() == [4, 3, 2, 1]
    assert interactions.weights.tolist() == [0.5, 1, 0, 2]


def test_arrays_are_new():
    stars, when = np.ones(4), np.full(4, "2020-01-01", "M8[ns]")
    frame = pd.DataFrame(columns(stars=stars, when=when), copy=False)
    interactions = Interactions.from_frame(frame, rating="stars", timestamp="when")
    interactions.ratings[:] = 7
    interactions.timestamps[:] = 7
    assert stars.tolist() == [1] * 4
    assert (when == np.datetime64("2020-01-01")).all()


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
def test_times_become_datetime64_in_utc(frame, zone):
    times = [dt.datetime(2020, 1, day, 12, tzinfo=UTC) for day in (4, 3, 2, 1)]
    local = pl.Series(times).dt.convert_time_zone(zone or "UTC")
    column = (local if zone else local.dt.replace_time_zone(None)).to_arrow()
    interactions = Interactions.from_frame(frame({**columns(), "when": column}), timestamp="when")
    assert interactions.timestamps.dtype.kind == "M"
    assert interactions.timestamps.astype("M8[s]").tolist() == [time.replace(tzinfo=None) for time in times]
    assert interactions.to_sequence(2).sequences.tolist() == [[0, 1], [0, 3], [1, 2]]


@pytest.mark.parametrize("library", sorted(LIBRARIES.keys() - {"pandas"}))  # which holds them as objects
def test_dates_and_decimals_are_numbers(library):
    data = columns(when=[dt.date(2020, 1, day) for day in (4, 3, 2, 1)], stars=[Decimal("1.5")] * 4)
    interactions = Interactions.from_frame(LIBRARIES[library](data), timestamp="when", rating="stars")
    assert interactions.timestamps.tolist() == data["when"]
    assert interactions.ratings.tolist() == [1.5] * 4


def test_a_known_map_numbers_new_data(frame):
    old = Interactions.from_frame(small())
    new = Interactions.from_frame(frame({"user_id": ["bob", "ann"], "item_id": [30, 10]}), id_map=old.id_map)
    assert new.id_map is old.id_map
    assert (new.user_ids.tolist(), new.item_ids.tolist()) == ([1, 0], [3, 1])
    assert (new.num_users, new.num_items) == (old.num_users, old.num_items)


def test_raw_ids_that_a_known_map_lacks_are_listed(frame):
    known = Interactions.from_frame(small()).id_map
    users = [f"new-{number:02}" for number in range(12)]
    told = message(ValueError, Interactions.from_frame, frame({"user_id": users, "item_id": [10] * 12}), id_map=known)
    assert "user (column 'user_id')" in told
    assert "12 unknown" in told
    assert sum(user in told for user in users) == 10
    told = message(ValueError, Interactions.from_frame, frame({"user_id": ["ann"], "item_id": [11]}), id_map=known)
    assert "item (column 'item_id')" in told
    assert "1 unknown: 11" in told


def test_rows_that_a_known_map_lacks_can_be_dropped(frame):
    known = Interactions.from_frame(small()).id_map
    data = {
        "user_id": ["bob", "new", "ann", "ann"],
        "item_id": [30, 30, 11, 10],
        "stars": [1.5, 2.5, 3.5, 4.5],
        "when": [4, 3, 2, 1],
        "share": [0.5, 0.25, 1.0, 2.0],
    }
    labels = {"rating": "stars", "timestamp": "when", "weight": "share"}
    new = Interactions.from_frame(frame(data), **labels, id_map=known, unknown="drop")
    assert new.id_map is known
    assert (new.user_ids.tolist(), new.item_ids.tolist()) == ([1, 0], [3, 1])
    assert (new.ratings.tolist(), new.timestamps.tolist(), new.weights.tolist()) == ([1.5, 4.5], [4, 1], [0.5, 2.0])
    new.check()
    nobody = frame({"user_id": ["new", "bob"], "item_id": [30, 11]})
    told = message(ValueError, Interactions.from_frame, nobody, id_map=known, unknown="drop")
    assert told == "df must have rows whose user and item are in id_map, got 2 without"
    told = message(ValueError, Interactions.from_frame, nobody, unknown="drop")
    assert told == "unknown must be 'raise' without id_map, by which all ids are known, got 'drop'"
    told = message(ValueError, Interactions.from_frame, nobody, id_map=known, unknown="x")
    assert told == "unknown must be one of 'raise', 'drop', got 'x'"


def test_unknown_raw_ids_can_have_a_number():
    ids = Interactions.from_frame(small()).id_map.users
    assert ids.to_id(["bob", "new", "ann"], unknown=-1).tolist() == [1, -1, 0]
    assert ids.to_id("new", unknown=-1) == -1


def test_columns_that_are_not_there_are_told_with_those_that_are(frame):
    told = message(ValueError, Interactions.from_frame, frame(columns()), rating="stars")
    assert told == "rating must name a column of df, got 'stars'; the columns are 'user_id', 'item_id'"


@pytest.mark.parametrize("name", ["user", "item"])
def test_users_and_items_are_no_columns_to_do_without(frame, name):
    told = message(ValueError, Interactions.from_frame, frame(columns()), **{name: None})
    assert told == f"{name} must name a column of df, got None; the columns are 'user_id', 'item_id'"


def test_a_column_serves_once(frame):
    told = message(ValueError, Interactions.from_frame, frame(columns()), user="item_id")
    assert told == "item must name another column than user, got 'item_id' for both"


@pytest.mark.parametrize("column", ["user_id", "item_id", "stars", "when", "share"])
def test_nulls_are_counted_and_located(frame, column):
    data = columns(stars=[1.0] * 4, when=[1.0] * 4, share=[1.0] * 4)
    data[column] = [data[column][0], None, data[column][2], None]
    told = message(ValueError, Interactions.from_frame, frame(data), rating="stars", timestamp="when", weight="share")
    assert f"(column {column!r}) must hold no nulls, got 2 in 4 rows, the first in row 1" in told


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_are_finite(bad):
    told = message(ValueError, Interactions.from_frame, small(stars=[1.0, 2.0, bad, bad]), rating="stars")
    assert "rating (column 'stars') must be finite, got 2 values that are not, the first in row 2" in told
    told = message(ValueError, Interactions.from_frame, small(raw=[1.0, 2.0, bad, bad]), user="raw")
    assert "user (column 'raw') must be finite" in told


def test_ratings_are_numbers(frame):
    told = message(TypeError, Interactions.from_frame, frame(columns(stars=["5", "4", "3", "2"])), rating="stars")
    assert "rating (column 'stars') must hold numbers" in told
    assert "'5'" in told


def test_ratings_that_are_booleans_are_0_and_1(frame):
    clicks = columns(clicked=[True, False, True, True])
    interactions = Interactions.from_frame(frame(clicks), rating="clicked")
    assert interactions.ratings.dtype == np.float32
    assert interactions.ratings.tolist() == [1, 0, 1, 1]
    for column in ("weight", "timestamp"):
        told = message(TypeError, Interactions.from_frame, frame(clicks), **{column: "clicked"})
        assert f"{column} (column 'clicked') must hold numbers" in told


def test_timestamps_are_numbers_or_times(frame):
    told = message(TypeError, Interactions.from_frame, frame(columns(when=list("abcd"))), timestamp="when")
    assert "timestamp (column 'when') must hold numbers, dates or times" in told


def test_weights_are_not_negative(frame):
    told = message(ValueError, Interactions.from_frame, frame(columns(share=[1.0, -1.0, 1.0, 1.0])), weight="share")
    assert "weights must not be negative" in told


def test_a_frame_without_rows_is_refused(frame):
    empty = pl.DataFrame(columns()).clear().to_arrow()
    tables = {pa.table: lambda: empty, pd.DataFrame: empty.to_pandas}
    df = tables.get(frame, lambda: pl.from_arrow(empty))()
    assert message(ValueError, Interactions.from_frame, df) == "df must not be empty, got 0 rows"


@pytest.mark.parametrize("df", [columns(), None, [1], np.ones((2, 2)), pd.Series([1]), pl.Series([1])])
def test_what_is_no_frame_is_refused(df):
    assert "df must be a pandas, polars or pyarrow data frame" in message(TypeError, Interactions.from_frame, df)


def test_columns_of_one_name_are_refused():
    arrays = [pa.array([1]), pa.array([2]), pa.array([3])]
    table = pa.table(arrays, names=["user_id", "item_id", "item_id"])
    frame = pd.DataFrame([[1, 2, 3]], columns=["user_id", "item_id", "item_id"])
    for df in (table, frame):
        assert "df must have columns of different names" in message(ValueError, Interactions.from_frame, df)


def test_values_that_cannot_be_hashed_are_refused():
    lists = [[1], [2], [1], [2]]
    for df in (pa.table(columns(raw=lists)), pd.DataFrame(columns(raw=lists)), pl.DataFrame(columns(raw=lists))):
        assert "user (column 'raw')" in message(TypeError, Interactions.from_frame, df, user="raw")


def test_times_finer_than_python_keeps_are_refused_as_ids():
    raw = np.array([1, 2, 3, 4], "M8[ns]")
    for df in (pl.DataFrame(columns(raw=raw)), pd.DataFrame(columns(raw=raw)), pa.table(columns(raw=raw))):
        assert "whole microseconds" in message(ValueError, Interactions.from_frame, df, user="raw")


def test_pandas_columns_may_be_named_by_numbers():
    df = pd.DataFrame([["eve", 3], ["ann", 2]])
    assert Interactions.from_frame(df, 0, 1).user_ids.tolist() == [1, 0]


def test_no_frame_library_is_imported_without_need(run_python):
    code = """
import sys
import spotfast.interactions, spotfast.factorization.implicit, spotfast.sequence.implicit
loaded = {"narwhals", "pandas", "polars", "pyarrow"} & set(sys.modules)
assert not loaded, loaded
import polars
spotfast.interactions.Interactions.from_frame(polars.DataFrame({"user_id": ["a"], "item_id": ["b"]}))
assert "pandas" not in sys.modules and "pyarrow" not in sys.modules
"""
    run_python(code)
