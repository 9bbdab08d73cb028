"""Splits of interactions into training and test sets. Every split keeps all arrays, both sizes and the map of ids."""

from __future__ import annotations

import numpy as np

from spotfast import validation
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


def _check(interactions: Interactions) -> None:
    if not isinstance(interactions, Interactions):
        raise TypeError(f"interactions must be Interactions, got {type(interactions).__name__}")
    interactions.check()
