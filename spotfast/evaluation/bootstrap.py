"""Confidence intervals of means over users, by the bootstrap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spotfast import validation

RESAMPLES = 1000
GROUPS = 1024  # from more users than this, random groups of users are drawn: the width changes by about 2 %
AT_ONCE = 256  # resamples in work, for which 2 MB of counts are held


def check_options(confidence: float, seed: int) -> None:
    """Raise unless the confidence lies in (0, 1) and the seed is an integer of at least 0."""
    validation.real("confidence", confidence, 0.0, 1.0)
    if confidence in (0, 1):
        raise ValueError(f"confidence must lie between 0 and 1, both excluded, got {confidence}")
    validation.integer("seed", seed, 0)


def bootstrap_intervals(
    values: NDArray[np.float64], weights: NDArray[np.float64], confidence: float, seed: int
) -> NDArray[np.float64]:
    """Return percentile intervals of the weighted means `sum(w x) / sum(w)` over users.

    Users are drawn with replacement, the same for all columns, 1,000 times. Equal seeds give equal intervals.

    Args:
        values: (U, M), a column per metric; NaN where the weight is 0.
        weights: (U, M), at least 0.
        confidence: the probability that an interval is to hold the mean of all users like these, in (0, 1).
        seed: of the draws, at least 0.

    Returns:
        (M, 2), the lower and the upper end; NaN for a column without any weight.

    Example:
        >>> values = np.array([[0.0], [1.0], [1.0], [0.0]])
        >>> bootstrap_intervals(values, np.ones((4, 1)), 0.5, seed=0)
        array([[0.25, 0.75]])
    """
    rng = np.random.default_rng(seed)
    sums = np.where(weights > 0, values, 0.0) * weights
    if len(values) > GROUPS:
        order = rng.permutation(len(values))
        starts = np.linspace(0, len(values), GROUPS, endpoint=False).astype(np.int64)
        sums, weights = (np.add.reduceat(part[order], starts, axis=0) for part in (sums, weights))
    means = np.full((RESAMPLES, values.shape[1]), np.nan)
    count = len(sums)
    for start in range(0, RESAMPLES if count else 0, AT_ONCE):
        some = min(AT_ONCE, RESAMPLES - start)
        offsets = np.arange(0, some * count, count, dtype=np.int32)[:, np.newaxis]
        drawn = rng.integers(0, count, (some, count), dtype=np.int32) + offsets
        times = np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)
        total = times @ weights
        np.divide(times @ sums, total, out=means[start : start + some], where=total > 0)
    unknown = np.isnan(means).all(axis=0)
    ends = np.full((values.shape[1], 2), np.nan)
    if not unknown.all():
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        ends[~unknown] = np.nanquantile(means[:, ~unknown], tails, axis=0).T
    return ends
