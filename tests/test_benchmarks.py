"""Every benchmark runs at small sizes, and its check of the results passes. Nothing is judged by time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
BENCHMARKS = sorted(path.name for path in FOLDER.glob("bench_*.py"))

pytestmark = pytest.mark.slow


def run(script, *arguments):
    # Two threads that wait for each other at every small step are slow where other processes run.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, FOLDER / script, "--quick", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("script", BENCHMARKS)
def test_a_benchmark_reports(script, tmp_path):
    printed = run(script, "--json", tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["quick"]
    assert report["machine"]["torch"]
    assert report["cases"]
    for case in report["cases"]:
        assert case["name"] in printed
        assert case["value"]["low"] <= case["value"]["median"] <= case["value"]["high"]


def test_there_are_benchmarks():
    assert "bench_windows.py" in BENCHMARKS


def test_deferred_adam_is_as_exact_as_the_docs_say():
    script = [sys.executable, FOLDER / "adam_error.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    printed = subprocess.run(script, env=environment, capture_output=True, text=True, check=True).stdout
    differences = [float(line.split()[1]) for line in printed.splitlines()[1:]]
    assert len(differences) == 4
    assert max(differences) < 1e-5


def test_quality_prints_a_row_for_every_loss_and_sampler():
    printed = run("quality.py", "--splits", "1")
    rows = [line for line in printed.splitlines() if line.startswith(("| pointwise", "| bpr", "| hinge", "| adaptive"))]
    assert len(rows) == 4 * 3
    assert "| poisson |" in printed


def test_quality_reads_compressed_rows(tmp_path):
    train, test = np.array([0, 3, 5]), np.array([0, 1, 3])
    items = np.array([0, 1, 2, 3, 4])
    np.savez(tmp_path / "g.npz", train_indptr=train, train_items=items, test_indptr=test, test_items=items[[3, 0, 1]])
    printed = run("quality.py", "--splits", "2", "--gowalla", tmp_path / "g.npz")
    assert printed.count("| bpr |") == 3
