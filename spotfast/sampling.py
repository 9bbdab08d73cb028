"""Sampling of items by numpy's generators. Models draw their negatives from `spotfast.ops.negatives` instead."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import validation
from spotfast.seeding import RandomStateLike, as_random_state, integers


def sample_items(num_items: int, shape: int | ArrayLike, random_state: RandomStateLike = None) -> NDArray[np.int64]:
    """Draw items uniformly from [0, num_items).

    Args:
        num_items: the number of items, at least 1.
        shape: the shape of the result, an int, or ints in a sequence or an array of one dimension.
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
    if np.ndim(shape) > 1:
        raise ValueError(f"shape must be an integer or integers in one dimension, got {shape!r}")
    lengths: Any = [shape] if np.ndim(shape) == 0 else shape
    size = tuple(validation.integer("shape", length, 0) for length in lengths)
    drawn: Any = integers(as_random_state(random_state), num_items, size)
    return np.asarray(drawn)
