"""Made-up interactions: sequences with an order to be learnt, and data of the size and unevenness of real data."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import backends, seeding, validation
from spotfast.interactions import Interactions
from spotfast.seeding import RandomSource, RandomStateLike

_ROUNDS, _TOLERANCE = 100, 1e-3  # of making the transition matrix doubly stochastic
_FEWEST = 20  # interactions per user in MovieLens-20M
_HEAD = 50  # about as many of its most popular items are about equally popular
_FIRST_SECOND, _LAST_SECOND = 789_652_009, 1_427_784_002  # of its ratings
_SECONDS_BETWEEN = 60.0  # a user's ratings, on average: most come in one sitting


def generate_sequential(
    num_users: int = 100,
    num_items: int = 1000,
    num_interactions: int = 10000,
    concentration_parameter: float = 0.1,
    order: int = 3,
    random_state: RandomStateLike = None,
) -> Interactions:
    """Return one long Markov chain of items, cut into the histories of users.

    The probabilities P[i, j] that item j follows item i are Dirichlet, scaled until rows and columns sum to 1, so that
    no item is more popular than others. The next item is drawn from the mean of the rows of the last `order` items.

    Args:
        num_users: the number of users, at least 1. Some may have no interactions.
        num_items: the number of items, padding included, at least 2: items are drawn from 1 to num_items - 1. Takes
            16 num_items^2 bytes of memory while it runs.
        num_interactions: the length N of the chain, at least 1.
        concentration_parameter: of the Dirichlet distribution, above 0. Near 0 an item nearly determines the next;
            large values make sequences random.
        order: how many of the last items decide about the next, at least 1.
        random_state: None, int, `RandomState` or `Generator`; the same `RandomState` gives Spotlight's data.

    Returns:
        Interactions, users ascending, with `item_ids` int32, `ratings` float32 (all 1) and `timestamps` int32
        (0 to N - 1).

    Raises:
        ValueError: for arguments out of range, and for a concentration so small that probabilities vanish.
        TypeError: for arguments that are no numbers.

    Example:
        >>> generate_sequential(num_users=10, num_items=50, num_interactions=200, random_state=7).item_ids[:5]
        array([32, 14, 24,  7, 26], dtype=int32)
    """
    num_users = validation.integer("num_users", num_users, 1, validation.MAX_ID + 1)
    num_items = validation.integer("num_items", num_items, 2, validation.MAX_ID + 1)
    count = validation.integer("num_interactions", num_interactions, 1, validation.MAX_ID + 1)
    concentration = validation.real("concentration_parameter", concentration_parameter, 0.0, exclude_low=True)
    order = validation.integer("order", order, 1)
    source = seeding.as_random_state(random_state)
    with seeding.unadvanced_on_error(source):
        cumulative = np.cumsum(_transitions(source, num_items - 1, concentration), axis=1)
        if isinstance(source, np.random.RandomState):
            users = source.randint(0, num_users, count, dtype=np.int32)
        else:
            users = source.integers(0, num_users, count, dtype=np.int32)
        uniform = source.random_sample(count) if isinstance(source, np.random.RandomState) else source.random(count)
        state = seeding.integers(source, num_items - 1, order)
    items = np.empty(count, np.int32)
    _loops().markov_chain(cumulative, uniform, state, items)
    items += 1  # 0 is padding
    return Interactions(
        np.sort(users),
        items,
        ratings=np.ones(count, np.float32),
        timestamps=np.arange(count, dtype=np.int32),
        num_users=num_users,
        num_items=num_items,
    )


def generate_popular(
    num_users: int = 138_493,
    num_items: int = 26_745,
    num_interactions: int = 20_000_263,
    popularity_exponent: float = 1.0,
    activity_spread: float = 1.2,
    random_state: RandomStateLike = None,
) -> Interactions:
    """Return ratings of more and less popular items by more and less active users, by default as many as MovieLens-20M.

    The item of rank r, from 1, is drawn in proportion to (50 + r)^-popularity_exponent, every item at most once by a
    user. How many items a user has is log-normal, scaled and cut off to fit: at least 20 where there are as many
    interactions. A rating is the sum of what the user and the item lean to and of noise, in steps of 0.5 from 0.5 to 5.

    Args:
        num_users: the number of users, at least 1: from 0 to num_users - 1.
        num_items: the number of items, padding included, at least 2: from 1 to num_items - 1, in no order of
            popularity. The default is the 26,744 of MovieLens-20M and padding.
        num_interactions: exactly how many, between 1 and num_users * (num_items - 1).
        popularity_exponent: how fast popularity falls with rank, between 0 (all are equally popular) and 10.
        activity_spread: the standard deviation of the logarithm of users' activity, between 0 and 10.
        random_state: None, int, `RandomState` or `Generator`. One seed gives the same data for any number of threads.

    Returns:
        Interactions, users ascending, each user's by time, with int32 ids and timestamps (seconds since 1970) and
        float32 ratings. No pair of user and item occurs twice. The default takes seconds, and about 1 GB while it
        runs.

    Raises:
        ValueError: for arguments out of range.
        TypeError: for arguments that are no numbers.

    Example:
        >>> generate_popular(num_users=100, num_items=50, num_interactions=1000, random_state=0)
        <Interactions dataset (100 users x 50 items x 1000 interactions)>
    """
    num_users = validation.integer("num_users", num_users, 1, validation.MAX_ID + 1)
    num_items = validation.integer("num_items", num_items, 2, validation.MAX_ID + 1)
    total = validation.integer("num_interactions", num_interactions, 1, num_users * (num_items - 1))
    exponent = validation.real("popularity_exponent", popularity_exponent, 0.0, 10.0)
    spread = validation.real("activity_spread", activity_spread, 0.0, 10.0)
    rng = np.random.default_rng(seeding.draw_stream_seed(seeding.as_random_state(random_state)))
    counts = _activity(rng, num_users, total, num_items - 1, spread)
    ranks = np.arange(1, num_items, dtype=np.float64)
    positions = _distinct(rng, counts, ((_HEAD + ranks) / (_HEAD + 1)) ** -exponent)
    user_ids = np.repeat(np.arange(num_users, dtype=np.int32), counts)
    item_ids = (1 + rng.permutation(num_items - 1)).astype(np.int32)[positions]
    del positions
    return Interactions(
        user_ids,
        item_ids,
        ratings=_ratings(rng, user_ids, item_ids, num_users, num_items),
        timestamps=_timestamps(rng, counts),
        num_users=num_users,
        num_items=num_items,
    )


def _loops() -> ModuleType:
    """Return the inner loops: compiled, as ranks are where Numba is there; else in numpy, with the same results."""
    if backends.choose("ranks") == "numba":
        return importlib.import_module("spotfast.parallel.synthetic")
    return importlib.import_module("spotfast.reference.synthetic")


def _transitions(source: RandomSource, size: int, concentration: float) -> NDArray[np.float64]:
    """Draw the probabilities P[i, j] that j follows i, and scale rows and columns in turns."""
    drawn: Any = source.dirichlet(np.repeat(concentration, size), size)
    matrix: NDArray[np.float64] = drawn
    for _ in range(_ROUNDS):
        columns, rows = matrix.sum(axis=0), matrix.sum(axis=1)
        if not (np.isfinite(columns).all() and np.isfinite(rows).all() and columns.all() and rows.all()):
            raise ValueError(
                f"concentration_parameter must be larger for {size} items, got {concentration}: "
                f"transition probabilities vanish"
            )
        if (np.abs(1.0 - columns) < _TOLERANCE).all() and (np.abs(1.0 - rows) < _TOLERANCE).all():
            break
        matrix /= columns
        matrix /= matrix.sum(axis=1)[:, np.newaxis]
    return matrix


def _activity(rng: np.random.Generator, users: int, total: int, most: int, spread: float) -> NDArray[np.int64]:
    """Draw how many of `most` items each user has: log-normal, within bounds, exactly `total` in sum."""
    activity = rng.lognormal(0.0, spread, users)
    fewest = min(_FEWEST, most, total // users)
    low, high = 0.0, float(most / activity.min())  # of the scale; at the upper end everybody has all items
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.clip(activity * middle, fewest, most).sum() <= total else (low, middle)
    counts = np.clip(np.floor(activity * low), fewest, most).astype(np.int64)
    while missing := total - int(counts.sum()):  # what rounding has taken, one each for users drawn at random
        open_to_more = rng.permutation(np.flatnonzero(counts < most))
        counts[open_to_more[:missing]] += 1
    return counts


def _distinct(rng: np.random.Generator, counts: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.int32]:
    """Draw distinct positions for each user, in proportion to their weights."""
    indptr = np.concatenate([[0], np.cumsum(counts)])
    positions = np.empty(indptr[-1], np.int32)
    seeds = rng.integers(0, 2**64, len(counts), dtype=np.uint64)
    _loops().distinct_items(indptr, weights, np.cumsum(weights), seeds, positions)
    return positions


def _ratings(
    rng: np.random.Generator, user_ids: NDArray[np.int32], item_ids: NDArray[np.int32], num_users: int, num_items: int
) -> NDArray[np.float32]:
    """Draw ratings whose mean and spread are about those of MovieLens-20M."""
    ratings = rng.standard_normal(len(user_ids), np.float32)
    ratings *= 0.85
    ratings += (3.5 + 0.42 * rng.standard_normal(num_users, np.float32))[user_ids]
    ratings += (0.45 * rng.standard_normal(num_items, np.float32))[item_ids]
    ratings *= 2
    np.rint(ratings, out=ratings)
    ratings /= 2
    return np.clip(ratings, 0.5, 5.0, out=ratings)


def _timestamps(rng: np.random.Generator, counts: NDArray[np.int64]) -> NDArray[np.int32]:
    """Draw when each user starts, and the pauses until the next rating; what comes too late has the last second."""
    ends = np.cumsum(counts)
    seconds = np.cumsum(rng.exponential(_SECONDS_BETWEEN, int(ends[-1])).astype(np.int64))
    firsts = seconds[np.minimum(ends - counts, len(seconds) - 1)]  # users without ratings have none to move
    seconds += np.repeat(rng.integers(_FIRST_SECOND, _LAST_SECOND, len(counts)) - firsts, counts)
    return np.minimum(seconds, _LAST_SECOND, out=seconds).astype(np.int32)
