"""Peak memory of `fit` at MovieLens-20M's size: 138,493 users, 26,744 items, 20 M interactions, D = 32, BPR, Adam.

    python benchmarks/memory.py

Every line is measured in a process of its own: the resident memory before `fit`, and the most there was during it.
"""

from __future__ import annotations

import multiprocessing
import resource
from pathlib import Path

import numpy as np

import spotfast
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

USERS, ITEMS, INTERACTIONS, DIM = 138_493, 26_744, 20_000_000, 32
MEGABYTE = 1e6


def resident() -> float:
    """Return the memory of this process that is in use now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MEGABYTE


def peak() -> float:
    """Return the most that `resident` has been, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def fit(negatives: str) -> tuple[float, float, float]:
    """Return, in MB: the memory before `fit`, the most during it, and that after it."""
    warm = ImplicitFactorizationModel("bpr", n_iter=1, batch_size=8192, negatives=negatives, random_state=0)
    warm.fit(Interactions(np.arange(100), np.arange(100)))  # what is loaded at first use
    rng = np.random.default_rng(0)
    users = rng.integers(0, USERS, INTERACTIONS, np.int32)
    items = rng.integers(0, ITEMS, INTERACTIONS, np.int32)
    data = Interactions(users, items, num_users=USERS, num_items=ITEMS)
    del users, items
    model = ImplicitFactorizationModel(
        "bpr", embedding_dim=DIM, n_iter=1, batch_size=8192, negatives=negatives, random_state=0
    )
    before = resident()
    model.fit(data)
    return before, peak(), resident()


def main() -> None:
    """Print the table."""
    tables = (USERS + ITEMS) * (DIM + 1) * 3 * 4 / MEGABYTE
    print(f"spotfast {spotfast.__version__}; parameters and Adam's state: {tables:.0f} MB once; in MB:")
    print(f"{'negatives':<12}{'before fit':>12}{'peak':>8}{'of it fit':>11}{'after':>8}")
    for negatives in ("uniform", "unseen"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            before, most, after = pool.apply(fit, (negatives,))
        print(f"{negatives:<12}{before:>12.0f}{most:>8.0f}{most - before:>11.0f}{after:>8.0f}")


if __name__ == "__main__":
    main()
