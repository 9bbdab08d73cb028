"""Negative items of one epoch at MovieLens-20M's size, against as many of numpy's `Generator.integers`.

numpy draws on one thread and leaves positives among the items; it is the baseline of all samplers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import harness
import numpy as np
import shapes
import torch
from torch import Tensor

from spotfast.ops import negatives
from spotfast.positives import Positives

SEED, EPOCH = 1, 0
FLOORS = {"uniform": 1.0, "unseen, users sorted": 1 / 4, "unseen, users shuffled": 1 / 15}
CHECKED = 100_000  # positions compared with the reference


def make(quick: bool) -> tuple[Positives, Tensor]:
    """Positives of every user, and the user of every one of them, in order."""
    shape, count = shapes.MOVIELENS_20M, 1_000_000 if quick else 20_000_000
    data = shapes.interactions(shape, count, np.random.default_rng(0))
    positives = Positives.from_interactions(data.user_ids, data.item_ids, shape.users, shape.items)
    return positives, torch.from_numpy(np.sort(data.user_ids).astype(np.int64))


def check(positives: Positives, users: Tensor) -> None:
    """Compare with the reference, and see that unseen items are unseen."""
    arguments = SEED, EPOCH, 0, CHECKED, 1
    drawn, expected = (
        negatives.uniform(*arguments, positives.num_items, backend=backend) for backend in ("auto", "reference")
    )
    harness.require(torch.equal(drawn, expected), "uniform negatives differ from the reference's")
    for case in (users, shuffled(users)):
        some = case[:CHECKED]
        drawn, expected = (
            negatives.unseen(*arguments, positives, some, backend=backend) for backend in ("auto", "reference")
        )
        harness.require(torch.equal(drawn, expected), "unseen negatives differ from the reference's")
        rows = positives.indptr.diff()
        taken = torch.repeat_interleave(torch.arange(len(rows)), rows) * positives.num_items + positives.items
        seen = torch.isin(some * positives.num_items + drawn[:, 0], taken)
        harness.require(not bool(seen.any()), "an unseen negative is a positive of its user")


def shuffled(users: Tensor) -> Tensor:
    return users[torch.randperm(len(users), generator=torch.Generator().manual_seed(0))]


def measure(quick: bool) -> Iterator[harness.Case]:
    positives, users = make(quick)
    check(positives, users)
    generator, count, mixed = np.random.default_rng(0), len(users), shuffled(users)
    arguments = SEED, EPOCH, 0, count, 1
    candidates = [
        lambda: generator.integers(0, positives.num_items, count),
        partial(negatives.uniform, *arguments, positives.num_items),
        partial(negatives.unseen, *arguments, positives, users),
        partial(negatives.unseen, *arguments, positives, mixed),
    ]
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        harness.alternate(candidates, 1)  # warm-up: pages of memory, caches
        baseline, *ours = harness.alternate(candidates, 2 if quick else 7)
        for (sampler, floor), times in zip(FLOORS.items(), ours, strict=True):
            plural = "" if threads == 1 else "s"
            yield harness.ratio(f"{sampler}, {count:,} draws, {threads} thread{plural}", baseline, times, floor)


if __name__ == "__main__":
    harness.run(measure)
