"""Made-up interactions in the shapes of known data sets: as many users, items and interactions, as uneven."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.interactions import Interactions


@dataclass(frozen=True)
class Shape:
    """How many there are of what.

    Attributes:
        users, items: the sizes.
        median, mean: interactions per user, which follow a log-normal distribution cut off at `fewest`.
        flat: how many of the most popular items are about equally popular; from there on popularity falls as
            1 / rank.
    """

    users: int
    items: int
    median: float
    mean: float
    fewest: int
    flat: int


MOVIELENS_20M = Shape(users=138_493, items=26_744, median=68, mean=144, fewest=20, flat=50)
MILLION = Shape(users=1_000_000, items=1_000_000, median=20, mean=40, fewest=1, flat=50)
MOVIELENS_100K = Shape(users=944, items=1_683, median=65, mean=106, fewest=20, flat=50)


def activity(shape: Shape, users: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw how many interactions each of some users has."""
    spread = np.sqrt(2 * np.log(shape.mean / shape.median))
    counts = rng.lognormal(np.log(shape.median), spread, users)
    return np.clip(counts, shape.fewest, shape.items // 3).astype(np.int64)


def distinct_pairs(
    shape: Shape, counts: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw items for users, popular ones more often.

    Args:
        shape: of the catalogue.
        counts: how many items each user is to get; those drawn twice for a user count once.
        rng: where the numbers come from.

    Returns:
        Users and items, sorted by user, then item, without repetition.
    """
    sums = np.cumsum(1.0 / (shape.flat + np.arange(1, shape.items + 1)))
    drawn = np.searchsorted(sums, rng.random(counts.sum()) * sums[-1])
    drawn = rng.permutation(shape.items)[np.minimum(drawn, shape.items - 1)]
    keys = np.unique(np.repeat(np.arange(len(counts)), counts) * shape.items + drawn)
    return keys // shape.items, keys % shape.items


def interactions(
    shape: Shape, count: int, rng: np.random.Generator, ratings: NDArray[Any] | None = None
) -> Interactions:
    """Return exactly `count` interactions of all users of a shape, in random order."""
    counts = activity(shape, shape.users, rng)
    counts = np.ceil(counts * (1.3 * count / counts.sum())).astype(np.int64)  # more than enough for the repeated ones
    users, items = distinct_pairs(shape, counts, rng)
    kept = rng.permutation(len(users))[:count]
    if len(kept) < count:
        raise ValueError(f"count must be at most {len(kept)} for this shape, got {count}")
    return Interactions(users[kept], items[kept], ratings, num_users=shape.users, num_items=shape.items)
