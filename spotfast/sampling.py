"""Sampling of items by numpy's generators. Models draw their negatives from `spotfast.ops.negatives` instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.seeding import RandomStateLike, as_random_state, integers


def sample_items(num_items: int, shape: int | Sequence[int], random_state: RandomStateLike = None) -> NDArray[np.int64]:
    """Draw items uniformly from [0, num_items).

    Args:
        num_items: the number of items, at least 1.
        shape: the shape of the result, an int or a sequence of ints.
        random_state: None, int, `RandomState` or `Generator`; the same `RandomState` gives Spotlight's draws.

    Returns:
        int64 array of the given shape.

    Raises:
        ValueError, TypeError: for a value out of range.

    Example:
        >>> sample_items(10, (2, 3), random_state=1)
        array([[5, 8, 9],
               [5, 0, 0]])
    """
    num_items = validation.integer("num_items", num_items, 1)
    for length in shape if isinstance(shape, Sequence) else [shape]:
        validation.integer("shape", length, 0)
    drawn: Any = integers(as_random_state(random_state), num_items, shape)
    return np.asarray(drawn)
