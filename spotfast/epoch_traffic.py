"""How many bytes an epoch of a factorization model moves: that of its steps, and of all before and after these.

See `traffic.py`. What torch does is estimated; everything else is held against the kernels.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spotfast.traffic import NUMBERS, Access, Entries, Traffic, Training, named, perfect, step


def ordering(samples: float) -> Traffic:
    """Return the traffic of `permutation_kernel`."""
    return named("permutation_kernel", {}, {"out": Access(samples, 8)})


def drawing(sampler: Literal["uniform", "unseen"], samples: float, slots: int, longest: float = 1) -> Traffic:
    """Return the traffic of drawing negatives, if unseen by users with up to `longest` items.

    A search in a row of L items reads at most floor(log2 L) + 1 of them, and is counted as if it did.
    """
    draws = samples * slots
    stored = {"out": Access(draws, 8)}
    if sampler == "uniform":
        return named("uniform_kernel", {}, stored)
    reads = math.floor(math.log2(max(longest, 1))) + 1
    loaded = {
        "users": Access(samples, 8, again=draws - samples),
        "indptr": Access(samples, 16, True, again=draws - samples),
        "items": Access(draws * reads, NUMBERS, True),
    }
    return named("unseen_kernel", loaded, stored)


def finding_runs(table: str, entries: float, runs: float, batches: float, key_bytes: int = 4) -> Traffic:
    """Return the traffic of `keys_kernel` and of `batch_runs_kernel`, for all entries of a chunk.

    Args:
        table: its name.
        entries: of the chunk.
        runs: in all its batches.
        batches: in the chunk.
        key_bytes: of a key to sort by.
    """
    keys = named(f"keys_kernel, {table}", {"ids": Access(entries, NUMBERS)}, {"keys": Access(entries, key_bytes)})
    return keys | named(
        f"batch_runs_kernel, {table}",
        {
            "numbers": Access(entries, NUMBERS, again=2 * entries - batches),
            "sorted_order": Access(entries, 8),
            "sorted_keys": Access(runs, key_bytes),
        },
        {
            "order": Access(entries, NUMBERS),
            "run_of": Access(entries, NUMBERS),
            "starts": Access(runs + batches, NUMBERS),
            "table_rows": Access(runs, NUMBERS),
        },
    )


def torch_operations(samples: float, candidates: int, key_bytes: int = 4) -> Traffic:
    """Return the traffic of what torch does to prepare samples: estimated by algorithm, and held against nothing.

    Gathers of the pairs, copies of columns and, for every entry, a radix sort of (key, int64) by 8 bits per pass, with
    its first counts, and a sum over the entries.
    """
    entries = samples * (1 + candidates)
    passes = key_bytes
    gathers = named(
        "torch: gathers and copies",
        {
            "order": Access(samples, 8),
            "pairs": Access(samples, 8, True),
            "copied": Access(samples, 24 + 8 * candidates),
        },
        {"gathered": Access(samples, 8), "copies": Access(samples, 12 + 4 * candidates)},
    )
    return (
        gathers
        | named(
            "torch: sort",
            {"keys": Access(entries * (passes + 1), key_bytes), "values": Access(entries * passes, 8)},
            {"sorted_keys": Access(entries * passes, key_bytes), "sorted_order": Access(entries * passes, 8)},
        )
        | named(
            "torch: numbers of runs",
            {"sorted_keys": Access(entries, key_bytes, again=entries), "differences": Access(entries, 1)},
            {"differences": Access(entries, 1), "numbers": Access(entries, NUMBERS)},
        )
    )


def settling(training: Training, table: str, rows: float, owing: float) -> Traffic:
    """Return the traffic at the end of an epoch, of a table whose rows all take the steps that they owe."""
    if not training.owing:
        return {}
    sizes = {name: size for name, size in training.row.items() if name != "last"}
    loaded = {name: Access(owing, size) for name, size in sizes.items()}
    loaded["last"] = Access(rows, NUMBERS, again=2 * owing)
    stored = {name: Access(owing, size) for name, size in sizes.items()} | {"last": Access(rows, NUMBERS)}
    return named(f"settle_table_kernel, {table}", loaded, stored)


def epoch_of(
    training: Training, user_shares: NDArray[np.float64], item_shares: NDArray[np.float64], interactions: int
) -> tuple[Traffic, float]:
    """Return the traffic of a whole epoch per sample, and the least that is possible, with negatives drawn uniformly.

    Args:
        training: what is trained.
        user_shares: (N,), how often each user is drawn.
        item_shares: (M,), how often each item is the positive.
        interactions: samples per epoch.
    """
    count = training.batch_size
    negatives = training.candidates - 1
    uniform = np.full(len(item_shares), 1 / len(item_shares))
    users = Entries.expected((count, user_shares))
    items = Entries.expected((count, item_shares), (count * negatives, uniform))
    parts = [(1 / count, step(training, count, users, items)), (1 / interactions, ordering(interactions))]
    for table, entries, shares, drawn in (
        ("users", users, user_shares, 1),
        ("items", items, item_shares, training.candidates),
    ):
        parts.append((1 / count, finding_runs(table, count * drawn, entries.rows, 1)))
        owing = (
            len(shares) if negatives and table == "items" else len(shares) - float(((1 - shares) ** interactions).sum())
        )
        parts.append((1 / interactions, settling(training, table, len(shares), owing)))
    if negatives:
        parts.append((1, drawing("uniform", 1, negatives)))
    parts.append((1, torch_operations(1, training.candidates)))
    total: Traffic = {}
    for scale, traffic in parts:
        for key, access in traffic.items():
            distinct = None if access.distinct is None else access.distinct * scale
            total[key] = Access(access.count * scale, access.size, access.scattered, distinct, access.again * scale)
    return total, perfect(training, count, users, items) / count
