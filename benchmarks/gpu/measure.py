"""Parts of the measurements, in a process of their own: `measure.py DEADLINE FILE PART... [--dry]`.

Results are written after every case, by part: a process that runs out of time leaves what it has.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import harness
import numpy as np
import torch
from candidates import Epochs, SparseLoop, Trainer, check, check_loop
from cases import CASES, REHEARSED, REHEARSED_CASES, SHAPES, Case, Problem, Shape, pairs, shares
from ranking import Rankings

from spotfast import epoch_traffic
from spotfast.kernels.factorization_epoch import GROUP

TURNS = 3
LISTED = 20  # kernels, by time
CHECKED = Shape(20_000, 5_000, 4_096, 1.0)
Row = dict[str, Any]


class Measuring:
    """What the parts share.

    Args:
        dry: on the CPU, at sizes that the interpreter can do.
        deadline: seconds since the epoch after which no case is begun.
    """

    def __init__(self, dry: bool, deadline: float) -> None:
        self.dry, self._deadline = dry, deadline
        self.device = torch.device("cpu" if dry else "cuda")
        self.cases = REHEARSED_CASES if dry else CASES
        self.turns = 1 if dry else TURNS
        self._data: dict[tuple[str, int], torch.Tensor] = {}

    def late(self) -> bool:
        """Whether no time is left for another case."""
        return time.time() > self._deadline

    def shape(self, name: str) -> Shape:
        """The shape of that name."""
        return REHEARSED if self.dry else SHAPES[name]

    def problem(self, case: Case, interactions: int | None = None) -> Problem:
        """Return new tables for a case; data are made once."""
        shape = self.shape(case.shape)
        count = min(interactions or shape.interactions, shape.interactions)
        key = case.shape, count
        if key not in self._data:
            self._data = {key: pairs(shape, count, self.device)}
        return Problem(shape, case, self._data[key])

    def checked(self, case: Case) -> Problem:
        """Return a small problem with the rule and the dimensions of a case, of one batch."""
        shape = REHEARSED if self.dry else CHECKED
        small = replace(case, batch_size=shape.interactions)
        return Problem(shape, small, pairs(shape, shape.interactions, self.device))

    def seconds(self, function: Callable[[], Any]) -> list[float]:
        """Time a function that is warm."""
        found = []
        for _ in range(self.turns):
            self.wait()
            started = time.perf_counter()
            function()
            self.wait()
            found.append(time.perf_counter() - started)
        return found

    def wait(self) -> None:
        """Wait for the device."""
        if not self.dry:
            torch.cuda.synchronize()

    def rate(self, train: Trainer) -> harness.Spread:
        """Samples per second of a trainer, after one call to warm up."""
        samples = train()
        return harness.Spread.of([samples / taken for taken in self.seconds(train)])


def copy_part(measuring: Measuring) -> Iterator[Row]:
    """Bytes per second, read and written, of a copy of 2 GiB on the device."""
    source = torch.zeros(1024 if measuring.dry else 2**29, device=measuring.device)
    target = torch.empty_like(source)
    target.copy_(source)
    repeats = 10
    taken = measuring.seconds(lambda: [target.copy_(source) for _ in range(repeats)])
    yield {"name": "copy", "bytes_per_second": 2 * source.nbytes * repeats / float(np.median(taken))}


def epochs_part(measuring: Measuring) -> Iterator[Row]:
    """Whole epochs of the kernels, at all sizes; GB/s are those of the model of memory traffic."""
    seen = set()
    for case in measuring.cases:
        name = {"name": f"{case.shape}, {case.rule}, batch {case.batch_size:,}, D {case.dim}", **asdict(case)}
        if measuring.late():
            yield {**name, "not_run": "no time was left"}
            continue
        if (case.rule, case.dim) not in seen:
            check(measuring.checked(case), "triton")
            seen.add((case.rule, case.dim))
        least = 8 if measuring.dry else 1000 * case.batch_size
        problem = measuring.problem(case, least)
        rate = measuring.rate(Epochs(problem, "triton"))
        count = len(problem.interactions.pairs)
        yield {**name, "samples": count, "samples_per_second": asdict(rate), **of_model(measuring, case, count, rate)}


def of_model(measuring: Measuring, case: Case, count: int, rate: harness.Spread) -> Row:
    """Bytes per sample by the model, without and with a perfect cache, and what they make of the rate."""
    user_shares, item_shares = (share.cpu().numpy() for share in shares(measuring.shape(case.shape), measuring.device))
    total, perfect = epoch_traffic.epoch_of(case.training, user_shares, item_shares, count)
    moved, least = (sum(getattr(access, name) for access in total.values()) for name in ("moved", "least"))
    return {
        "bytes_per_sample": {"moved": moved, "least": least, "perfect": perfect},
        "bytes_per_second": {"moved": moved * rate.median, "least": least * rate.median},
    }


def baselines_part(measuring: Measuring) -> Iterator[Row]:
    """The reference on the same device, and a loop with SparseAdam: some steps, in turn with the kernels."""
    case = measuring.cases[0]
    kinds: list[tuple[str, str, Callable[[Problem], Trainer]]] = [
        ("reference", case.rule, lambda problem: Epochs(problem, "reference", 2 if measuring.dry else 20)),
        ("SparseAdam loop", "sparse_adam", lambda problem: SparseLoop(problem, 2 if measuring.dry else 100)),
    ]
    check_loop(measuring.checked(replace(case, rule="sparse_adam")))
    for batch_size in (4,) if measuring.dry else (1_024, 65_536):
        for kind, rule, make in kinds:
            name = f"ML-20M, batch {batch_size:,}, D {case.dim}: {kind}"
            if measuring.late():
                yield {"name": name, "not_run": "no time was left"}
                continue
            own = replace(case, rule=rule, batch_size=batch_size)
            check(measuring.checked(own), "triton")
            limit = 8 if measuring.dry else max(2_000_000, 2 * GROUP * batch_size)
            ours = Epochs(measuring.problem(own, limit), "triton")
            theirs = make(measuring.problem(own, limit))
            fast, slow = measuring.rate(ours), measuring.rate(theirs)
            yield {
                "name": name,
                "samples_per_second": asdict(slow),
                "kernels": asdict(fast),
                "times_faster": fast.median / slow.median,
            }


def kernels_part(measuring: Measuring) -> Iterator[Row]:
    """Time on the device by kernel, of an epoch of the first case."""
    case = measuring.cases[0]
    check(measuring.checked(case), "triton")
    train = Epochs(measuring.problem(case), "triton")
    train()
    activity = torch.profiler.ProfilerActivity.CPU if measuring.dry else torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[activity]) as profile:
        samples = train()
        measuring.wait()
    found = []
    for event in profile.key_averages():
        taken = (event.self_cpu_time_total if measuring.dry else event.self_device_time_total) / 1e6
        found.append({"name": event.key[:50], "launches": event.count, "ns_per_sample": taken / samples * 1e9})
    yield from sorted(found, key=lambda row: -row["ns_per_sample"])[:LISTED]


def ranking_part(measuring: Measuring) -> Iterator[Row]:
    """Users per second of ranks and of best items, against a product of matrices and torch's `topk`."""
    users, items, dims, cutoffs = (3, 40, (2,), (2,)) if measuring.dry else (16_384, 26_744, (32, 128), (10, 100, 1000))
    for dim in dims:
        rankings = Rankings(users, items, dim, min(10, items // 4), min(100, items // 4), measuring.device)
        rankings.check(cutoffs[0])
        candidates = {"ranks of 10 targets": (rankings.ranks, rankings.torch_ranks)}
        for k in cutoffs:
            candidates[f"best {k}"] = partial(rankings.best, k), partial(rankings.torch_best, k)
        for name, (own, theirs) in candidates.items():
            row = {"name": f"{name}, {users:,} users, {items:,} items, D {dim}: torch"}
            if measuring.late():
                yield {**row, "not_run": "no time was left"}
                continue
            fast, slow = measuring.rate(own), measuring.rate(theirs)
            yield {
                **row,
                "samples_per_second": asdict(slow),
                "kernels": asdict(fast),
                "times_faster": fast.median / slow.median,
            }


def first_call_part(measuring: Measuring) -> Iterator[Row]:
    """Seconds until the first epoch of a process is done: whatever compiles or loads is in it."""
    problem = measuring.checked(measuring.cases[0])
    measuring.wait()
    started = time.perf_counter()
    Epochs(problem, "triton")()
    measuring.wait()
    first = time.perf_counter() - started
    second = measuring.seconds(Epochs(problem, "triton"))
    yield {"name": "first epoch", "seconds": first, "second_epoch": float(np.median(second))}


PARTS = {
    "copy": copy_part,
    "epochs": epochs_part,
    "baselines": baselines_part,
    "kernels": kernels_part,
    "ranking": ranking_part,
    "first_call": first_call_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("deadline", type=float)
    parser.add_argument("file", type=Path)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--dry", action="store_true")
    arguments = parser.parse_args()
    rows: dict[str, list[Row]] = {}
    measuring = Measuring(arguments.dry, arguments.deadline)
    try:
        for part in arguments.parts:
            for row in PARTS[part](measuring):
                rows.setdefault(part, []).append(row)
                arguments.file.write_text(json.dumps(rows))
    except harness.RefusalError as error:
        sys.exit(f"refused to report: {error}")


if __name__ == "__main__":
    main()
