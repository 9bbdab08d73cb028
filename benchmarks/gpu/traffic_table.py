"""The model of memory traffic as a table, for `docs/gpu.md`: epochs with BPR and one uniform negative, in float32."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
import torch
from cases import SHAPES, Case, shares
from numpy.typing import NDArray

from spotfast import epoch_traffic, traffic

CASES = (
    *(Case("ML-1M", rule, 65_536) for rule in ("adam", "sgd")),
    *(Case("ML-20M", "adam", size) for size in (1_024, 65_536, 1_048_576)),
    *(Case("ML-20M", "adam", 65_536, dim) for dim in (32, 128)),
    *(Case("ML-20M", rule, 65_536) for rule in ("sparse_adam", "sgd")),
    *(Case("10M x 10M", rule, 65_536) for rule in ("adam", "sparse_adam", "sgd")),
)


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


def lines() -> Iterator[str]:
    """The rows of both tables."""
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


if __name__ == "__main__":
    print("\n".join(lines()))
