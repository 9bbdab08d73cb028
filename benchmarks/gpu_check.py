"""Everything that needs a GPU, in less than 8 minutes: builds the package in place, tests it, measures it.

    python benchmarks/gpu_check.py          on a machine with torch, triton, pybind11, setuptools, numba and pytest
    python benchmarks/gpu_check.py --dry    a rehearsal on the CPU: all but the device, at tiny sizes

Nothing is fetched. The report, `gpu_check.json` and `gpu_check.txt`, is written after every part, to $OUT or
`benchmarks/results/`. Each part has its time and a process of its own; what does not fit is listed as not run. Ends
with status 1 unless every part passed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from gpu_machine import describe, missing
from gpu_report import as_text

ROOT = Path(__file__).resolve().parent.parent
TOTAL = 470  # seconds
MEASURE = ROOT / "benchmarks" / "gpu" / "measure.py"
AHEAD_OF_TIME = ROOT / "benchmarks" / "gpu" / "ahead_of_time.py"
# Seconds, in order; what a part leaves over is the next one's. Kernels are compiled by the tests.
BUDGETS = {"build": 110, "tests": 170, "copy": 10, "epochs": 80, "baselines": 35, "kernels": 20, "ranking": 20,
           "first_call": 25}  # fmt: skip
MEASURED = ("copy", "epochs", "baselines", "kernels", "ranking")
REHEARSED_TESTS = "test_draws or (test_a_step_of_every_loss_and_rule and poisson-sgd)"


@dataclass
class Part:
    """What came of a part: "passed", "failed", "timed out" or "not run", with the reason, and its results."""

    status: str
    seconds: float = 0.0
    reason: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)


class Check:
    """Runs the parts one by one, and writes what came of them.

    Args:
        dry: whether it is a rehearsal on the CPU.
        folder: of the report.

    Attributes:
        parts: so far.
    """

    def __init__(self, dry: bool, folder: Path) -> None:
        self._dry, self._folder = dry, folder
        started = time.time()
        self._end = started + TOTAL
        self._due = dict(zip(BUDGETS, (started + taken for taken in accumulate(BUDGETS.values())), strict=True))
        self.parts: dict[str, Part] = {}
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if dry:
            self._environment |= {"TRITON_INTERPRET": "1", "SPOTFAST_GPU_REHEARSAL": "1", "OMP_NUM_THREADS": "1"}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self) -> None:
        """Run all parts."""
        self._build()
        built = self.parts["build"].status == "passed"
        if not built:
            for name in [*list(BUDGETS)[1:], "ahead_of_time"]:
                self._note(name, Part("not run", reason="the package could not be built"))
            return
        self._tests()
        # In a rehearsal by one process, as to start one takes longer than what it measures.
        for names in [MEASURED] if self._dry else [(name,) for name in MEASURED]:
            self._measure(names)
        self._first_calls()

    def write(self) -> str:
        """Write the report; return it as text."""
        parts = {name: vars(part) for name, part in self.parts.items()}
        report = {"machine": describe(device=not self._dry), "dry": self._dry, "parts": parts}
        (self._folder / "gpu_check.json").write_text(json.dumps(report, indent=2) + "\n")
        text = as_text(report)
        (self._folder / "gpu_check.txt").write_text(text)
        return text

    def _build(self) -> None:
        """Install in place, unless this checkout is installed; a rehearsal takes any other that is."""
        names = "spotfast" if self._dry else "spotfast, spotfast.kernels.launch, spotfast._native"
        probe = f"import {names}; print(spotfast.__file__)"
        done, _ = self._call([sys.executable, "-c", probe], 60, Path(tempfile.gettempdir()))
        place = done.stdout.strip() if done is not None and done.returncode == 0 else ""
        if place.startswith(f"{ROOT}{os.sep}"):
            self._note("build", Part("passed", reason=f"installed already: {place}"))
        elif place and self._dry:
            self._note("build", Part("passed", reason=f"NOT OF THIS CHECKOUT, but installed and rehearsed: {place}"))
        else:
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "-e", "."]
            self._note("build", self._part(command, self._allotted("build"))[0])

    def _tests(self) -> None:
        if importlib.util.find_spec("pytest") is None:
            self._note("tests", Part("not run", reason="pytest is not installed"))
            return
        command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
        command += ["-k", REHEARSED_TESTS] if self._dry else []
        with tempfile.TemporaryDirectory() as folder:
            failures = Path(folder) / "failures.jsonl"  # written test by test, by `tests/gpu/conftest.py`
            part, printed = self._part(command, self._allotted("tests"), SPOTFAST_GPU_FAILURES=str(failures))
            failed = failures.read_text().splitlines() if failures.exists() else []
        lines = [line for line in printed.splitlines() if line]
        left_out = [line for line in lines if line.startswith("SKIPPED") or "were not run" in line]
        part.rows = [*({"name": line} for line in (*lines[-1:], *left_out)), *map(json.loads, failed)]
        self._note("tests", part)

    def _measure(self, names: tuple[str, ...], key: str | None = None, **environment: str) -> None:
        """Run parts by one process; they have the same time, and are noted one by one, or as `key`."""
        seconds = self._allotted(names[-1])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.json"
            # No case is begun in the last fifth of the time.
            deadline = time.time() + 0.8 * min(seconds, self._left())
            command = [sys.executable, str(MEASURE), str(deadline), str(file), *names]
            part, _ = self._part(command + (["--dry"] if self._dry else []), seconds, **environment)
            rows = json.loads(file.read_text()) if file.exists() else {}
        for name in names:
            self._note(key or name, replace(part, rows=rows.get(name, [])))

    def _first_calls(self) -> None:
        """With Triton's compiler and an empty cache of its; then with kernels that are compiled ahead of time here."""
        with tempfile.TemporaryDirectory() as folder:
            self._measure(("first_call",), "first_call, SPOTFAST_AOT=0", SPOTFAST_AOT="0", TRITON_CACHE_DIR=folder)
            file = Path(folder) / "rows.json"
            left = self._left()  # all of it: nothing comes after
            command = [sys.executable, str(AHEAD_OF_TIME), str(time.time() + 0.9 * left), str(file)]
            part, _ = self._part(command + (["--dry"] if self._dry else []), left)
            part.rows = json.loads(file.read_text()) if file.exists() else []
        self._note("ahead_of_time", part)

    def _allotted(self, name: str) -> float:
        """Return the seconds that a part may take: its own, and what those before it have left over."""
        return max(BUDGETS[name], self._due[name] - time.time())

    def _left(self) -> float:
        return self._end - time.time()

    def _part(self, command: list[str], seconds: float, **environment: str) -> tuple[Part, str]:
        """Run a command as a part; return it, and what it printed."""
        if self._left() < 10:
            return Part("not run", reason="no time was left"), ""
        started = time.time()
        done, printed = self._call(command, min(seconds, self._left()), ROOT, **environment)
        taken = time.time() - started
        if done is None:
            return Part("timed out", taken, printed[-1500:]), printed
        if done.returncode != 0:
            return Part("failed", taken, (done.stdout + done.stderr)[-3000:]), printed
        return Part("passed", taken), printed

    def _call(
        self, command: list[str], seconds: float, folder: Path, **environment: str
    ) -> tuple[subprocess.CompletedProcess[str] | None, str]:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, errors = process.communicate(timeout=seconds)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)  # with what it started, which would go on and disturb the next part
            printed = process.communicate()[0]
            if isinstance(error, subprocess.TimeoutExpired):
                return None, printed
            raise
        return subprocess.CompletedProcess(command, process.returncode, printed, errors), printed

    def _note(self, name: str, part: Part) -> None:
        self.parts[name] = part
        print(f"{name}: {part.status} in {part.seconds:.0f} s {part.reason[-600:]}", flush=True)
        self.write()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry", action="store_true", help="a rehearsal on the CPU")
    parser.add_argument("--output", type=Path, help="where the report goes")
    arguments = parser.parse_args()
    default = Path(os.environ["OUT"]) if os.environ.get("OUT") else ROOT / "benchmarks" / "results"
    print("\n".join(missing()) or "no package is missing", flush=True)
    if not arguments.dry and "device" not in describe(device=True):
        sys.exit("torch sees no CUDA device; --dry rehearses everything else on the CPU")
    check = Check(arguments.dry, arguments.output or default)
    check.run()
    print(check.write())
    if any(part.status != "passed" for part in check.parts.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
