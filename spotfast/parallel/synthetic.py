"""Inner loops of `spotfast.datasets.synthetic`."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from spotfast.parallel.runtime import ParallelKernel, inlined

# Each chunk of users needs room for a mark per item.
CHUNKS = 256


@inlined
def markov_chain(
    cumulative: NDArray[np.float64], uniform: NDArray[np.float64], state: NDArray[np.int64], out: NDArray[np.int32]
) -> None:
    """Walk: `out[i] = searchsorted(cumulative[state].mean(0), uniform[i])`, shifted into `state`.

    Of the mean only the numbers that a binary search looks at are computed. They are those of numpy to the bit, which
    adds the rows in their order and then divides; in rows that ascend so do they, so the position is the same, too.

    Args:
        cumulative: (n, n), row i the cumulative probabilities of what follows i.
        uniform: (N,) in [0, 1).
        state: (order,), the last positions, oldest first. It is moved along.
        out: (N,), written.
    """
    order, size = state.shape[0], cumulative.shape[1]
    for i in range(uniform.shape[0]):
        low, high = 0, size
        while low < high:
            middle = (low + high) // 2
            total = cumulative[state[0], middle]
            for k in range(1, order):
                total += cumulative[state[k], middle]
            if total / order < uniform[i]:
                low = middle + 1
            else:
                high = middle
        new = min(low, size - 1)
        for k in range(order - 1):
            state[k] = state[k + 1]
        state[order - 1] = new
        out[i] = new


@inlined
def _next(state: np.uint64) -> tuple[np.uint64, float]:
    """Return the next state of a SplitMix64 generator, and a number in [0, 1) of 53 bits."""
    state = np.uint64(state + np.uint64(0x9E3779B97F4A7C15))
    mixed = np.uint64((state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9))
    mixed = np.uint64((mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB))
    mixed = np.uint64(mixed ^ (mixed >> np.uint64(31)))
    return state, np.float64(mixed >> np.uint64(11)) * 2.0**-53


@inlined
def _draw_distinct(
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
    state: np.uint64,
    marks: NDArray[np.int64],
    mark: int,
    out: NDArray[np.int32],
) -> None:
    """Draw positions one after the other, each in proportion to its weight among those not drawn yet.

    Repeated draws are thrown away. Where they become too many, the rest is drawn at once: the positions with the
    smallest exponential times at the rates of their weights come in just that order.
    """
    size, count = sums.shape[0], 0
    for _ in range(4 * out.shape[0] + 64):
        if count == out.shape[0]:
            return
        state, number = _next(state)
        position = min(np.searchsorted(sums, number * sums[size - 1], side="right"), size - 1)
        if marks[position] != mark:
            marks[position] = mark
            out[count] = position
            count += 1
    times = np.full(size, np.inf)
    for position in range(size):
        state, number = _next(state)
        if marks[position] != mark:
            times[position] = -np.log(1.0 - number) / weights[position]
    rest = np.argsort(times)
    for i in range(out.shape[0] - count):
        out[count + i] = rest[i]


@ParallelKernel
def distinct_items(
    indptr: NDArray[np.int64],
    weights: NDArray[np.float64],
    sums: NDArray[np.float64],
    seeds: NDArray[np.uint64],
    out: NDArray[np.int32],
) -> None:
    """Draw distinct positions for every user, more often those with more weight, in the order of the draws.

    Args:
        indptr: (users + 1,), those of user u are `out[indptr[u]:indptr[u + 1]]`, at most as many as there are.
        weights: (positions,), positive and finite; so must be the inverse of each.
        sums: (positions,), their cumulative sums.
        seeds: (users,), so that the result does not depend on the number of threads.
        out: (indptr[-1],), written.
    """
    users = indptr.shape[0] - 1
    for chunk in numba.prange(CHUNKS):
        marks = np.full(sums.shape[0], -1, np.int64)
        for user in range(users * chunk // CHUNKS, users * (chunk + 1) // CHUNKS):
            _draw_distinct(weights, sums, seeds[user], marks, user, out[indptr[user] : indptr[user + 1]])
