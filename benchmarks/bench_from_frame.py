"""Ids of a data frame: `Interactions.from_frame` against each library's own way to number the values of two columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import harness
import numpy as np
import polars as pl
import shapes

from spotfast.interactions import Interactions

FLOOR = 1 / 1.5  # for polars; pandas and pyarrow are for information
COLUMNS = ("user_id", "item_id")


def make(quick: bool) -> pl.DataFrame:
    """Strings in place of ids, in random order: users of uneven activity and any item."""
    count = 100_000 if quick else 20_000_000
    rng = np.random.default_rng(0)
    shape = shapes.MOVIELENS_20M
    shares = shapes.activity(shape, shape.users, rng)
    users = rng.choice(shape.users, count, p=shares / shares.sum())
    items = rng.integers(0, shape.items, count)
    return pl.DataFrame({"user_id": _names("user", shape.users)[users], "item_id": _names("item", shape.items)[items]})


def _names(prefix: str, count: int) -> pl.Series:
    return pl.Series([f"{prefix}-{number * 7919 % 1_000_003:07d}" for number in range(count)])


def categories(column: pl.Expr) -> pl.Expr:
    return column.cast(pl.Categorical(pl.Categories.random())).to_physical()


def dense_rank(column: pl.Expr) -> pl.Expr:
    return column.rank("dense")


def by_polars(df: pl.DataFrame, way: Callable[[pl.Expr], pl.Expr]) -> pl.DataFrame:
    """Number both columns side by side, as polars evaluates the expressions of one query."""
    return df.select(way(pl.col(name)) for name in COLUMNS)


def by_joins(df: pl.DataFrame) -> pl.DataFrame:
    rows = df.lazy()
    for name in COLUMNS:
        distinct = df.lazy().select(pl.col(name).unique().sort()).with_row_index(f"{name}_number")
        rows = rows.join(distinct, on=name, how="left", maintain_order="left")
    return rows.select(f"{name}_number" for name in COLUMNS).collect()


POLARS = {
    "categories": partial(by_polars, way=categories),
    "rank": partial(by_polars, way=dense_rank),
    "joins": by_joins,
}


def encoded(table: Any) -> list[Any]:
    return [table[name].dictionary_encode() for name in COLUMNS]


def factorized(frame: Any) -> list[Any]:
    return [frame[name].factorize() for name in COLUMNS]


def check(df: pl.DataFrame, interactions: Interactions) -> None:
    """Refuse ids that do not stand for their rows, or are not the smallest in the order of the raw ids."""
    ids = interactions.id_map
    assert ids is not None
    for name, numbers, known in zip(
        COLUMNS, (interactions.user_ids, interactions.item_ids), (ids.users, ids.items), strict=True
    ):
        raw = pl.Series(known.raw.tolist())
        harness.require((raw[numbers - known.first] == df[name]).all(), f"{name}: ids stand for other raw ids")
        harness.require(raw.equals(df[name].unique().sort()), f"{name}: ids are not the sorted distinct raw ids")


def measure(quick: bool) -> Iterator[harness.Case]:
    df = make(quick)
    ways = [partial(way, df) for way in POLARS.values()]
    fastest = int(np.argmin([min(times) for times in harness.alternate(ways, 2)]))
    some = df.head(len(df) // 4)
    table, pandas = some.to_arrow(), some.to_pandas()
    for name, frame, baseline, floor in (
        (f"polars ({list(POLARS)[fastest]})", df, ways[fastest], FLOOR),
        ("pyarrow (dictionary_encode)", table, partial(encoded, table), None),
        ("pandas (factorize)", pandas, partial(factorized, pandas), None),
    ):
        library = partial(Interactions.from_frame, frame)
        check(df.head(len(frame)), library())
        times = harness.alternate([baseline, library], 2 if quick else 5)
        yield harness.ratio(f"{len(frame):,} rows of strings, {name}", *times, floor)


if __name__ == "__main__":
    harness.run(measure)
