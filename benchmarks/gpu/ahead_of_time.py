"""Kernels compiled ahead of time against Triton's compiler: results to the bit, and what the first calls take.

    ahead_of_time.py DEADLINE FILE [--dry]

Kernels are compiled for this device into a folder of its own, as for a wheel. Two new processes then do the same work:
one with these kernels alone (SPOTFAST_AOT=require), one with Triton's compiler and an empty cache (SPOTFAST_AOT=0).
Both come from one Triton, so every result must have the same bits. Ends with status 1 if one has not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from work import Result

from spotfast.cuda.build import TARGETS
from spotfast.cuda.choice import select
from spotfast.cuda.manifest import Manifest

WORK = Path(__file__).resolve().parent / "work.py"
MODES = ("require", "0")  # of SPOTFAST_AOT
TOLERANCE = 1e-5  # of the largest number, between kernels of different versions of Triton
Row = dict[str, Any]


def compare(ours: dict[str, Result], theirs: dict[str, Result], exact: bool) -> list[Row]:
    """Return a row for each task: whether both did the same, and how long their first calls took.

    Args:
        ours: of kernels compiled ahead of time.
        theirs: of Triton's.
        exact: whether every bit must be the same, or numbers within `TOLERANCE` of the largest.
    """
    rows = []
    for name, (seconds, tensors) in ours.items():
        seconds_of_triton, expected = theirs[name]
        pairs = list(zip(tensors, expected, strict=True))
        bits = all(_same_bits(*pair) for pair in pairs)
        passed = bits or (not exact and all(_close(*pair) for pair in pairs))
        calls = {"first_call": seconds, "first_call_of_triton": seconds_of_triton}
        rows.append({"name": name, "passed": passed, "same_bits": bits, **calls})
    return rows


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same, byte by byte: also where numbers are none, or zeros of either sign."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)))


def _close(one: Tensor, other: Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape or not one.is_floating_point():
        return _same_bits(one, other)
    return bool(torch.allclose(one, other, rtol=0, atol=TOLERANCE * other.abs().max().item()))


class Check:
    """Builds, works twice, compares.

    Args:
        dry: whether it is a rehearsal on the CPU, by Triton's interpreter; one file is compiled, and not launched.
        deadline: seconds since the epoch until which all has to be done.
    """

    def __init__(self, dry: bool, deadline: float) -> None:
        self._dry, self._deadline = dry, deadline
        self.rows: list[Row] = []

    def run(self, folder: Path) -> None:
        """Do all of it in a folder of its own; results are in `rows`."""
        major, minor = (9, 0) if self._dry else torch.cuda.get_device_capability()
        target = select((major, minor), TARGETS)
        if target is None:
            self.rows.append({"name": "build", "not_run": f"there is no target for compute capability {major}.{minor}"})
            return
        compiled = folder / "compiled"
        started = time.perf_counter()
        files = ["--files", "philox"] if self._dry else []
        self._call([sys.executable, "-m", "spotfast.cuda.build", target, str(compiled), *files])
        made = Manifest.read(compiled)
        taken = time.perf_counter() - started
        self.rows.append({"name": f"build for {target}", "programs": len(made.programs), "seconds": taken})
        results = []
        for mode in MODES:
            file = folder / f"results_{mode}.pt"
            flags = ["--dry"] if self._dry else []
            command = [sys.executable, str(WORK), str(compiled), str(file), *flags]
            self._call(command, SPOTFAST_AOT=mode, TRITON_CACHE_DIR=str(folder / f"cache_{mode}"))
            results.append(torch.load(file, weights_only=True))
        self.rows += compare(*results, exact=made.triton == importlib.import_module("triton").__version__)

    def _call(self, command: list[str], **environment: str) -> None:
        left = self._deadline - time.time()
        done = subprocess.run(
            command, env={**os.environ, **environment}, timeout=left, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(f"{' '.join(command[1:4])} {environment}: {(done.stdout + done.stderr)[-2500:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("deadline", type=float, help="seconds since the epoch")
    parser.add_argument("file", type=Path, help="for the results")
    parser.add_argument("--dry", action="store_true", help="a rehearsal on the CPU")
    arguments = parser.parse_args()
    check = Check(arguments.dry, arguments.deadline)
    try:
        with tempfile.TemporaryDirectory() as folder:
            check.run(Path(folder))
    except subprocess.TimeoutExpired as error:
        sys.exit(f"no time was left for {' '.join(error.cmd[1:4])}")
    finally:
        arguments.file.write_text(json.dumps(check.rows))
    different = [row["name"] for row in check.rows if not row.get("passed", True)]
    if different:
        sys.exit(f"kernels compiled ahead of time give other results than Triton's: {', '.join(different)}")


if __name__ == "__main__":
    main()
