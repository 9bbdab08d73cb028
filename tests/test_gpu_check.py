"""The GPU script, rehearsed on the CPU: every part runs, and the report has what it must have."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu_check.py"
PARTS = ["build", "tests", "copy", "epochs", "baselines", "kernels", "ranking", "first_call, SPOTFAST_AOT=0"]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_check"] = module  # where dataclasses look for their annotations
    yield spec.loader.exec_module(module) or module
    del sys.modules["gpu_check"]


def test_a_rehearsal_runs_to_its_end(tmp_path):
    pytest.importorskip("triton", reason="triton is not installed: nothing to rehearse")
    pytest.importorskip("numba")
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, SCRIPT, "--dry"]
    environment["OUT"] = str(tmp_path)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert report["dry"]
    parts = report["parts"]
    assert list(parts)[: len(PARTS)] == PARTS
    for name in PARTS:
        assert parts[name]["status"] == "passed", (name, parts[name])
        assert parts[name]["rows"] or name == "build"
    assert "5 passed" in parts["tests"]["rows"][0]["summary"]
    assert parts["first_call, SPOTFAST_AOT=require"]["status"] == "not run"
    case = parts["epochs"]["rows"][0]
    assert case["samples_per_second"]["low"] > 0
    assert case["bytes_per_sample"]["moved"] > case["bytes_per_sample"]["perfect"] > 0
    assert (tmp_path / "gpu_check.txt").read_text() in done.stdout


def test_it_needs_a_device():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no CUDA device" in done.stderr


def test_the_parts_fit_in_eight_minutes(script):
    assert script.TOTAL < 8 * 60
    assert sum(script.BUDGETS.values()) <= script.TOTAL


def test_a_part_that_takes_too_long_is_stopped_and_reported(script, tmp_path):
    check = script.Check(True, tmp_path)
    part, printed = check._part([sys.executable, "-uc", "import time; print(1); time.sleep(60)"], 3)
    assert (part.status, printed.strip()) == ("timed out", "1")
    assert part.seconds < 30


def test_a_part_that_fails_tells_why(script, tmp_path):
    part, _ = script.Check(True, tmp_path)._part([sys.executable, "-c", "raise SystemExit('the reason')"], 60)
    assert part.status == "failed"
    assert "the reason" in part.reason


def test_a_part_for_which_no_time_is_left_is_not_run(script, tmp_path):
    check = script.Check(True, tmp_path)
    check._end = 0.0
    assert check._part([sys.executable, "-c", "1 / 0"], 60)[0].status == "not run"


def test_missing_packages_are_named(script, monkeypatch):
    monkeypatch.setattr(script, "_version", lambda name: "missing" if name in ("numba", "filelock") else "1")
    assert script.missing() == [
        "numba is missing, which the tests need",
        "filelock is missing; nothing here needs it",
    ]
