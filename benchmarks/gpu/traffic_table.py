"""The model of memory traffic as tables, for `docs/gpu.md`.

Epochs are with BPR and one uniform negative, in float32. The other operations are at ML-20M's shape, D = 64, in float32
and with ids of 64 bits, on as many users and items, drawn as in an epoch, as a batch of 65,536 has.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from cases import SEED, SHAPES, Case, shares
from numpy.typing import NDArray

from spotfast import epoch_traffic, operation_traffic, ranking_traffic, traffic
from spotfast.operation_traffic import Row
from spotfast.ops import negatives, philox
from spotfast.rows import Rows
from spotfast.traffic import Traffic

CASES = (
    *(Case("ML-1M", rule, 65_536) for rule in ("adam", "sgd")),
    *(Case("ML-20M", "adam", size) for size in (1_024, 65_536, 1_048_576)),
    *(Case("ML-20M", "adam", 65_536, dim) for dim in (32, 128)),
    *(Case("ML-20M", rule, 65_536) for rule in ("sparse_adam", "sgd")),
    *(Case("10M x 10M", rule, 65_536) for rule in ("adam", "sparse_adam", "sgd")),
)
COUNT, DIM = 65_536, 64  # of the other operations
LENGTH = 64  # of a sequence
POSITIVES = 144  # of a user, whose negatives are drawn
USERS, RANKED = 4_096, 10  # who are ranked items for


def totals(case: Case) -> tuple[dict[str, tuple[float, float]], float]:
    """Bytes per sample by kernel, (moved, least), and the fewest possible."""
    found, perfect = epoch_traffic.epoch_of(case.training, *_shares(case.shape), SHAPES[case.shape].interactions)
    kernels: dict[str, tuple[float, float]] = {}
    for (kernel, _, _), access in found.items():
        moved, least = kernels.get(kernel, (0.0, 0.0))
        kernels[kernel] = moved + access.moved, least + access.least
    return kernels, perfect


@functools.lru_cache(1)
def _shares(name: str) -> list[NDArray[np.float64]]:
    return [share.numpy() for share in shares(SHAPES[name], torch.device("cpu"))]


def operations() -> Iterator[tuple[str, str, int, Traffic]]:
    """The other operations: name, what is counted in it, how many of these, and the traffic."""
    shape, row = SHAPES["ML-20M"], Row(DIM)
    users, positives = (_drawn(share, stream) for stream, share in enumerate(_shares("ML-20M")))
    uniform = negatives.uniform(SEED, 0, 0, COUNT, 5, shape.items).numpy().T
    candidates = np.stack([positives, uniform[0]], 1)
    steps, drawn = positives.reshape(-1, LENGTH), uniform.reshape(5, -1, LENGTH)
    mask, charged = np.ones(steps.shape, bool), np.ones((2, *steps.shape), bool)
    owing = np.ones(shape.items, bool)
    unseen = epoch_traffic.drawing("unseen", COUNT, 1, POSITIVES)
    popularity = operation_traffic.popularity(COUNT, 1, shape.items, POSITIVES, COUNT)
    yield "`philox`", "draw", COUNT, operation_traffic.draws(COUNT)
    yield f"`negatives`, unseen, {POSITIVES} positives per user", "draw", COUNT, unseen
    yield "`negatives`, by popularity, the first attempt taken", "draw", COUNT, popularity
    yield "`bilinear`, two items per user", "pair", candidates.size, operation_traffic.scores(users, candidates, DIM)
    gradients = operation_traffic.row_gradients(users, candidates, DIM)
    yield "its gradients, row by row", "pair", candidates.size, gradients
    for slots in (1, 5):
        of = "a negative" if slots == 1 else f"{slots} negatives"
        forward = operation_traffic.forward(steps, drawn[:slots], mask, DIM)
        yield f"`sequence_loss`, {of}", "position", COUNT, forward
    backward = operation_traffic.backward(steps, drawn[0], charged, DIM)
    yield "its gradients, row by row", "position", COUNT, backward
    yield "`row_update`: before a lookup", "id", COUNT, operation_traffic.catch_up(row, positives, owing)
    yield "`row_update`: a step", "id", COUNT, operation_traffic.update(row, positives)
    flush = operation_traffic.flush(row, shape.items, shape.items, shape.items)
    yield "`row_update`: all rows", "row", shape.items, flush
    wanted = Rows(RANKED * np.arange(USERS + 1), np.tile(np.arange(RANKED), USERS))
    ranks = ranking_traffic.rank_counts(wanted, Rows.empty(USERS), shape.items, DIM)
    yield f"`ranks` of {RANKED} items for {USERS:,} users", "score", USERS * shape.items, ranks
    for k in (10, 1000):
        best = ranking_traffic.topk(Rows.empty(USERS), shape.items, k, DIM)
        yield f"`topk`, {k:,} items for {USERS:,} users", "score", USERS * shape.items, best


def _drawn(share: NDArray[np.float64], stream: int) -> NDArray[np.int64]:
    words = philox.draws(SEED, 0, stream, 0, COUNT)
    thresholds = negatives.popularity_thresholds(share)
    return torch.searchsorted(thresholds, words, right=True).numpy()


def lines() -> Iterator[str]:
    """The rows of all tables."""
    for case in CASES:
        kernels, perfect = totals(case)
        moved, least = (sum(pair[side] for pair in kernels.values()) for side in (0, 1))
        rates = " .. ".join(f"{traffic.rate(size) / 1e9:.2f}" for size in (moved, least))
        bounds = " .. ".join(f"{perfect / size:.0%}" for size in (moved, least))
        yield (
            f"| {case.shape} | {case.rule} | {case.dim} | {case.batch_size:,} | {least:,.0f} .. {moved:,.0f} "
            f"| {rates} | {perfect:,.0f} | {bounds} |"
        )
    for kernel, (moved, least) in totals(Case("ML-20M", "adam", 65_536))[0].items():
        yield f"| {kernel} | {least:,.0f} .. {moved:,.0f} |"
    for name, unit, count, found in operations():
        least, moved = (sum(getattr(each, side) for each in found.values()) / count for side in ("least", "moved"))
        rates = " .. ".join(f"{traffic.rate(size) / 1e9:.2f}" for size in (moved, least))
        yield f"| {name} | {unit} | {least:,.0f} .. {moved:,.0f} | {rates} |"


if __name__ == "__main__":
    print("\n".join(lines()))
