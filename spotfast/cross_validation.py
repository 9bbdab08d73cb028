"""Splits of interactions into training and test sets. Every split keeps all arrays, both sizes and the map of ids."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import times, validation
from spotfast.hashing import murmurhash3_32
from spotfast.interactions import Interactions
from spotfast.seeding import RandomStateLike, as_random_state, integers


def shuffle_interactions(interactions: Interactions, random_state: RandomStateLike = None) -> Interactions:
    """Return the interactions in random order.

    Args:
        interactions: N interactions.
        random_state: None, int, `RandomState` or `Generator`; the same `RandomState` gives Spotlight's order.
    """
    _check(interactions)
    order = np.arange(len(interactions))
    as_random_state(random_state).shuffle(order)
    return interactions.take(order)


def random_train_test_split(
    interactions: Interactions, test_percentage: float = 0.2, random_state: RandomStateLike = None
) -> tuple[Interactions, Interactions]:
    """Split at random: training gets the first `int((1 - test_percentage) * N)` interactions of a shuffle.

    Args:
        interactions: N interactions.
        test_percentage: the share of interactions in the test set, in [0, 1].
        random_state: None, int, `RandomState` or `Generator`; the same `RandomState` gives Spotlight's split.

    Returns:
        (train, test)

    Example:
        >>> interactions = Interactions(np.arange(10), np.arange(10))
        >>> train, test = random_train_test_split(interactions, random_state=42)
        >>> len(train), len(test)
        (8, 2)
    """
    test_percentage = validation.real("test_percentage", test_percentage, 0.0, 1.0)
    shuffled = shuffle_interactions(interactions, random_state)
    cutoff = int((1.0 - test_percentage) * len(shuffled))
    return shuffled.take(slice(cutoff)), shuffled.take(slice(cutoff, None))


def user_based_train_test_split(
    interactions: Interactions, test_percentage: float = 0.2, random_state: RandomStateLike = None
) -> tuple[Interactions, Interactions]:
    """Split by user: all of a user's interactions fall on the same side, in their original order.

    A user is in the test set iff `murmurhash3_32(user, seed) % 100 / 100 < test_percentage`, with one seed drawn
    from `random_state`.

    Args:
        interactions: N interactions.
        test_percentage: the expected share of users in the test set, in [0, 1]; it counts in whole percents.
        random_state: None, int, `RandomState` or `Generator`; the same `RandomState` gives Spotlight's split.

    Returns:
        (train, test)
    """
    test_percentage = validation.real("test_percentage", test_percentage, 0.0, 1.0)
    _check(interactions)
    seed = int(integers(as_random_state(random_state), 2**32 - 1))
    in_test = murmurhash3_32(validation.ids("user_ids", interactions.user_ids), seed) % 100 / 100.0 < test_percentage
    return interactions.take(~in_test), interactions.take(in_test)


def leave_one_out_split(
    interactions: Interactions, order: str = "timestamp", random_state: RandomStateLike = None
) -> tuple[Interactions, Interactions]:
    """Hold out one interaction of every user: the last, or any.

    Users with one interaction keep it in the training set. Both parts keep the original order.

    Args:
        interactions: N interactions.
        order: "timestamp", the last by time, of equal times the last in the arrays; or "random".
        random_state: of "random": None, int, `RandomState` or `Generator`.

    Returns:
        (train, test)

    Raises:
        ValueError: for "timestamp" without timestamps, and for another order.

    Example:
        >>> data = Interactions([0, 0, 0, 1], [1, 2, 3, 4], timestamps=[10, 30, 20, 10])
        >>> train, test = leave_one_out_split(data)
        >>> train.item_ids.tolist(), test.item_ids.tolist()
        ([1, 3, 4], [2])
    """
    validation.choice("order", order, ["timestamp", "random"])
    _check(interactions)
    if order == "timestamp":
        keys = _timestamps(interactions)
    else:
        keys = np.arange(len(interactions))
        as_random_state(random_state).shuffle(keys)
    users = np.asarray(interactions.user_ids)
    by_user = np.lexsort((keys, users))  # stable: equal times stay in the order of the arrays
    last = by_user[np.flatnonzero(np.diff(users[by_user], append=-1))]
    in_test = np.zeros(len(users), np.bool_)
    in_test[last] = np.bincount(users, minlength=interactions.num_users)[users[last]] > 1
    return interactions.take(~in_test), interactions.take(in_test)


def temporal_split(
    interactions: Interactions, time: Any = None, fraction: float | None = None
) -> tuple[Interactions, Interactions]:
    """Split by time, the same for all users: what happened before is for training.

    Both parts keep the original order. Give either `time` or `fraction`.

    Args:
        interactions: N interactions with timestamps.
        time: interactions at or after it are the test set; a finite number, or a date or time (with a time zone: turned
            into UTC), as the timestamps are.
        fraction: the share of interactions in the test set, the latest, in [0, 1]: `N - int((1 - fraction) * N)` of
            them. Of equal times, those later in the arrays count as later.

    Returns:
        (train, test)

    Raises:
        ValueError: without timestamps, for both or neither of `time` and `fraction`, and for values out of range.
        TypeError: for a time that cannot be compared with the timestamps.

    Example:
        >>> data = Interactions([0, 1, 2, 3], [1, 2, 3, 4], timestamps=[10, 40, 20, 30])
        >>> train, test = temporal_split(data, time=30)
        >>> train.item_ids.tolist(), test.item_ids.tolist()
        ([1, 3], [2, 4])
    """
    if (time is None) == (fraction is None):
        raise ValueError(f"either time or fraction must be given, got time={time!r} and fraction={fraction!r}")
    _check(interactions)
    timestamps = _timestamps(interactions)
    if fraction is None:
        in_test = timestamps >= _time(time, timestamps)
    else:
        fraction = validation.real("fraction", fraction, 0.0, 1.0)
        cutoff = int((1.0 - fraction) * len(timestamps))
        in_test = np.zeros(len(timestamps), np.bool_)
        in_test[np.argsort(timestamps, kind="stable")[cutoff:]] = True
    return interactions.take(~in_test), interactions.take(in_test)


def k_core(interactions: Interactions, users: int = 1, items: int = 1) -> Interactions:
    """Keep users with enough items and items with enough users, again and again, until all that is left has enough.

    Repeated interactions of a pair count once, and are kept or left out together. Ids and both sizes stay as they are.

    Args:
        interactions: N interactions.
        users: how many different items every user that is left has, at least 1.
        items: how many different users every item that is left has, at least 1.

    Returns:
        The largest such part, in the original order; it may be empty.

    Example:
        >>> data = Interactions([0, 0, 1, 1, 2], [1, 2, 1, 2, 3])
        >>> k_core(data, users=2, items=2).user_ids.tolist()
        [0, 0, 1, 1]
    """
    least_items = validation.integer("users", users, 1)
    least_users = validation.integer("items", items, 1)
    _check(interactions)
    user_ids, item_ids = np.asarray(interactions.user_ids), np.asarray(interactions.item_ids)
    keys = user_ids.astype(np.int64) * interactions.num_items + item_ids
    pairs = np.unique(keys)
    while len(pairs):
        pair_users, pair_items = np.divmod(pairs, interactions.num_items)
        enough = (np.bincount(pair_users)[pair_users] >= least_items) & (
            np.bincount(pair_items)[pair_items] >= least_users
        )
        if enough.all():
            break
        pairs = pairs[enough]
    return interactions.take(np.isin(keys, pairs))


def _timestamps(interactions: Interactions) -> NDArray[Any]:
    if interactions.timestamps is None:
        raise ValueError("timestamps are needed to order interactions, got None")
    return np.asarray(interactions.timestamps)


def _time(time: Any, timestamps: NDArray[Any]) -> Any:
    """Return the time as something that timestamps can be compared with."""
    if timestamps.dtype.kind != "M":
        return validation.real("time", time)
    try:
        moment = np.datetime64(times.moment(time))
    except (TypeError, ValueError):
        raise TypeError(f"time must be a date, as the timestamps are, got {time!r}") from None
    if np.isnat(moment):
        raise ValueError(f"time must be a date, got {time!r}")
    return moment


def _check(interactions: Interactions) -> None:
    if not isinstance(interactions, Interactions):
        raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
    interactions.check()
