"""Sequence windows: `Interactions.to_sequence` against a sort and a Python loop over windows, as Spotlight has it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import harness
import numpy as np
import shapes
from numpy.typing import NDArray

from spotfast.interactions import Interactions

LENGTH = 50
FLOORS = {1: 15.0, LENGTH: 10.0}  # by step


def make(quick: bool) -> Interactions:
    """Interactions of users of uneven activity, in random order, with the types that data sets have."""
    users, count = (1_000, 50_000) if quick else (shapes.MOVIELENS_20M.users, 5_000_000)
    rng = np.random.default_rng(0)
    shares = shapes.activity(shapes.MOVIELENS_20M, users, rng)
    user_ids = rng.choice(users, count, p=shares / shares.sum()).astype(np.int32)
    item_ids = rng.integers(1, shapes.MOVIELENS_20M.items + 1, count, dtype=np.int32)
    timestamps = rng.integers(0, 2**31 - 1, count, dtype=np.int32)
    return Interactions(user_ids, item_ids, timestamps=timestamps, num_users=users)


def loop(data: Interactions, step: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Windows by numpy and one turn of a loop per window."""
    order = np.lexsort((data.timestamps, data.user_ids))
    items = data.item_ids[order]
    users, starts, counts = np.unique(data.user_ids[order], return_index=True, return_counts=True)
    total = int(np.ceil(counts / step).sum())
    sequences, sequence_users = np.zeros((total, LENGTH), np.int32), np.empty(total, np.int32)
    row = 0
    for user, start, count in zip(users.tolist(), starts.tolist(), counts.tolist(), strict=True):
        for stop in range(start + count, start, -step):
            begin = max(start, stop - LENGTH)
            sequences[row, LENGTH - (stop - begin) :] = items[begin:stop]
            sequence_users[row] = user
            row += 1
    return sequences, sequence_users


def library(data: Interactions, step: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    sequences = data.to_sequence(LENGTH, step_size=step)
    return sequences.sequences, sequences.user_ids


def measure(quick: bool) -> Iterator[harness.Case]:
    data = make(quick)
    for step, floor in FLOORS.items():
        candidates = [partial(loop, data, step), partial(library, data, step)]
        for expected, got in zip(*(candidate() for candidate in candidates), strict=True):
            harness.require(np.array_equal(expected, got), f"windows of step {step} differ from those of the loop")
        del expected, got
        times = harness.alternate(candidates, 2 if quick else 5)
        yield harness.ratio(f"{len(data):,} interactions, length {LENGTH}, step {step}", *times, floor)


if __name__ == "__main__":
    harness.run(measure)
