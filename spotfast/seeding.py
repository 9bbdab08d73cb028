"""Seeds: what users may hand in as `random_state`, and the stream seed that a model draws from it.

Nothing here touches numpy's or torch's global generators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

RandomSource: TypeAlias = np.random.RandomState | np.random.Generator
RandomStateLike: TypeAlias = int | np.integer[Any] | np.random.RandomState | np.random.Generator | None


def as_random_state(random_state: RandomStateLike) -> RandomSource:
    """Return a source of random numbers: the one passed in (to be advanced, not copied), or a new one from a seed.

    Args:
        random_state: None (seeded by the system), an int in [0, 2**32), a `RandomState` or a `Generator`.

    Raises:
        ValueError: for an int out of range.
        TypeError: for anything else.
    """
    if isinstance(random_state, np.random.RandomState | np.random.Generator):
        return random_state
    if random_state is None:
        return np.random.RandomState()
    allowed = "None, an int in [0, 2**32), a numpy RandomState or a numpy Generator"
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer):
        raise TypeError(f"random_state must be {allowed}, got {random_state!r}")
    if not 0 <= random_state < 2**32:
        raise ValueError(f"random_state must be {allowed}, got {random_state}")
    return np.random.RandomState(int(random_state))


def integers(source: RandomSource, high: int, size: Any = None) -> Any:
    """Draw int64 integers in [0, high) from either kind of source."""
    if isinstance(source, np.random.RandomState):
        return source.randint(0, high, size, dtype=np.int64)
    return source.integers(0, high, size, dtype=np.int64)


def rewinder(source: RandomSource) -> Callable[[], None]:
    """Return a function that puts the source back into the state that it has now."""
    if isinstance(source, np.random.RandomState):
        return partial(source.set_state, source.get_state())
    return partial(setattr, source.bit_generator, "state", source.bit_generator.state)


@contextmanager
def unadvanced_on_error(source: RandomSource) -> Iterator[None]:
    """Put the source back into its state if the block raises."""
    rewind = rewinder(source)
    try:
        yield
    except BaseException:
        rewind()
        raise


def draw_stream_seed(source: RandomSource) -> int:
    """Draw the 63-bit seed of a model's random stream (see `spotfast.ops.philox`)."""
    return int(integers(source, 2**63 - 1))


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """Seed torch's CPU generator inside the block only; its state outside is as it was."""
    with torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        yield
