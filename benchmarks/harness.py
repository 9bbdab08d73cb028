"""What the benchmarks share: candidates that take turns, the report, the command line."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spotfast import backends

PACKAGES = ("spotfast", "torch", "numpy", "scipy", "numba")
MOST_NOISE = 0.05  # above this, a ratio cannot be judged
PAUSE = 0.02  # seconds
IDLE_LOAD = 0.5  # above this load average before the start, other processes are likely to disturb


class RefusalError(Exception):
    """The results are not what they must be, so times mean nothing."""


@dataclass(frozen=True)
class Spread:
    """The median of repeated measurements, the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise measurements."""
        return cls(float(np.median(values)), min(values), max(values))


@dataclass(frozen=True)
class Case:
    """A line of the report.

    Attributes:
        name: what was measured.
        baseline: seconds of the baseline, None if there is none.
        spotfast: seconds of spotfast.
        value: what is judged, in `unit`.
        unit: "x" for baseline / spotfast, repetition by repetition; "s" for seconds.
        bound: the least ratio or the most seconds allowed, None for information only.
        noise: how far a ratio may be below its bound, from a control measured in the same run; at most `MOST_NOISE`.
    """

    name: str
    baseline: Spread | None
    spotfast: Spread
    value: Spread
    unit: str
    bound: float | None
    noise: float = 0.0

    @property
    def met(self) -> bool:
        """Whether the value keeps within its bound."""
        if self.bound is None:
            return True
        if self.unit == "s":
            return self.value.median <= self.bound
        return self.noise <= MOST_NOISE and self.value.median >= self.bound - self.noise


def ratio(
    name: str, baseline: Sequence[float], spotfast: Sequence[float], floor: float | None, noise: float = 0.0
) -> Case:
    """Judge how many times faster than the baseline spotfast is, from seconds measured in turn."""
    ratios = [slow / fast for slow, fast in zip(baseline, spotfast, strict=True)]
    return Case(name, Spread.of(baseline), Spread.of(spotfast), Spread.of(ratios), "x", floor, noise)


def extra_seconds(name: str, baseline: Sequence[float], spotfast: Sequence[float], limit: float) -> Case:
    """Judge the difference of the medians of seconds measured in turn."""
    differences = [long - short for short, long in zip(baseline, spotfast, strict=True)]
    median = float(np.median(spotfast) - np.median(baseline))
    value = Spread(median, min(differences), max(differences))
    return Case(name, Spread.of(baseline), Spread.of(spotfast), value, "s", limit)


def seconds(name: str, spotfast: Sequence[float], limit: float) -> Case:
    """Judge seconds as they are."""
    return Case(name, None, Spread.of(spotfast), Spread.of(spotfast), "s", limit)


def alternate(candidates: Sequence[Callable[[], Any]], repetitions: int) -> list[list[float]]:
    """Time candidates in turn, A B A B ..., so that a change of the machine's speed meets all of them.

    There is a pause before each: threads of OpenMP spin for some milliseconds after their last work, and would take a
    core from the next candidate.

    Args:
        candidates: functions without arguments, already warm: compiled, their data loaded.
        repetitions: how often each is timed.

    Returns:
        The seconds of each candidate, one per repetition.
    """
    times: list[list[float]] = [[] for _ in candidates]
    for _ in range(repetitions):
        for candidate, taken in zip(candidates, times, strict=True):
            time.sleep(PAUSE)
            started = time.perf_counter()
            result = candidate()
            taken.append(time.perf_counter() - started)
            del result
    return times


def require(holds: bool, message: str) -> None:
    """Raise unless a check holds."""
    if not holds:
        raise RefusalError(message)


def run(measure: Callable[[bool], Iterable[Case]]) -> None:
    """Run a benchmark from the command line, and end with status 1 if it finds wrong results or misses a bound.

    Args:
        measure: yields the cases; its argument says whether sizes are to be small.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works; nothing is judged")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the report there, too")
    arguments = parser.parse_args()
    conditions = describe_machine()
    print_machine(conditions)
    cases = []
    print(f"{'case':<58}{'baseline s':>12}{'spotfast s':>12}  {'value (min .. max)':<28}{'required':<16}verdict")
    try:
        for case in measure(arguments.quick):
            cases.append(case)
            print(_line(case, arguments.quick), flush=True)
    except RefusalError as error:
        sys.exit(f"refused to report: {error}")
    if arguments.json:
        report = {"machine": conditions, "quick": arguments.quick, "cases": [_entry(case) for case in cases]}
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if not arguments.quick and not all(case.met for case in cases):
        sys.exit(1)


def describe_machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    return {
        "load": [round(load, 2) for load in os.getloadavg()],
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "isa": backends.native_isa() or "no extension",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in PACKAGES},
    }


def print_machine(conditions: dict[str, Any]) -> None:
    """Print what the numbers depend on."""
    print(" | ".join(f"{name} {value}" for name, value in conditions.items()))
    if conditions["load"][0] > IDLE_LOAD:
        print(f"warning: the machine is not idle (load {conditions['load'][0]})")


def _line(case: Case, quick: bool) -> str:
    baseline = "-" if case.baseline is None else f"{case.baseline.median:.4g}"
    value = f"{case.value.median:.3g} {case.unit} ({case.value.low:.3g} .. {case.value.high:.3g})"
    columns = f"{case.name:<58}{baseline:>12}{case.spotfast.median:>12.4g}  {value:<28}{_required(case):<16}"
    return columns + _verdict(case, quick)


def _required(case: Case) -> str:
    if case.bound is None:
        return "-"
    sign = ">=" if case.unit == "x" else "<="
    return f"{sign} {case.bound:.3g} {case.unit}" + (f" - {case.noise:.2f}" if case.noise else "")


def _verdict(case: Case, quick: bool) -> str:
    if case.bound is None:
        return "-"
    if quick:
        return "not judged"
    if case.noise > MOST_NOISE:
        return "TOO NOISY"
    missed = "BELOW" if case.unit == "x" else "ABOVE"
    return "ok" if case.met else missed


def _entry(case: Case) -> dict[str, Any]:
    return {**asdict(case), "met": case.met}
