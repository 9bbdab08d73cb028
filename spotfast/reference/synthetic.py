"""The inner loops of made-up data in numpy, step by step and user by user."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

GOLDEN, FIRST, SECOND = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def markov_chain(
    cumulative: NDArray[np.float64], uniform: NDArray[np.float64], state: NDArray[np.int64], out: NDArray[np.int32]
) -> None:
    """Walk, as `spotfast.parallel.synthetic.markov_chain`, to the bit."""
    last = cumulative.shape[1] - 1
    for i, number in enumerate(uniform):
        new = min(int(np.searchsorted(cumulative[state].mean(axis=0), number)), last)
        state[:-1] = state[1:]
        state[-1] = out[i] = new


def distinct_items(
    indptr: NDArray[np.int64],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
    seeds: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    """Draw distinct positions for every user, as `spotfast.parallel.synthetic.distinct_items`, to the bit."""
    for user, seed in enumerate(seeds):
        own = out[indptr[user] : indptr[user + 1]]
        draws, size = 4 * len(own) + 64, len(sums)
        drawn = np.minimum(np.searchsorted(sums, _numbers(seed, 0, draws) * sums[-1], side="right"), size - 1)
        _, firsts = np.unique(drawn, return_index=True)
        kept = drawn[np.sort(firsts)][: len(own)]
        own[: len(kept)] = kept
        if len(kept) < len(own):
            rates, numbers = np.delete(weights, kept), np.delete(_numbers(seed, draws, size), kept)
            # Not numpy's logarithm, which may round otherwise than that of the C library.
            times = np.array([-math.log(1.0 - number) for number in numbers]) / rates
            rest = np.delete(np.arange(size), kept)[np.argsort(times)]
            own[len(kept) :] = rest[: len(own) - len(kept)]


def _numbers(seed: np.uint64, start: int, count: int) -> NDArray[np.float64]:
    """Return numbers in [0, 1) of 53 bits from a SplitMix64 generator: `count` of them after the first `start`."""
    mixed = np.arange(start + 1, start + count + 1, dtype=np.uint64) * GOLDEN + seed
    mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
