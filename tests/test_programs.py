"""Programs written for Spotlight: unchanged they run on spotfast, both ways, with the same output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # nine processes that import torch: `tests/test_run.py` has the quick ones

PROGRAMS = Path(__file__).parent / "programs"
SEEDED = {
    "readme_factorization.py": ["--seed", "1"],
    "readme_sequence.py": ["--seed", "1"],
    "hyperparameter_search.py": ["results.jsonl", "--trials", "3"],
    "bloom_comparison.py": ["--seed", "1"],
    "custom_network.py": ["--seed", "1"],
    "pickled_model.py": [".", "1"],
    "plotting/plot_quality.py": ["1", "2", "8"],
}

# One process for all programs, for most of a program's time would be the import of torch.
INSTALLED = """
import contextlib, io, json, os, runpy, sys, tempfile
import spotfast
spotfast.install()
outputs = {}
for path, arguments in json.load(sys.stdin):
    sys.argv = [path, *arguments]
    sys.path[0] = os.path.dirname(path)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as printed:
        os.chdir(folder)
        runpy.run_path(path, run_name="__main__")
        os.chdir("/")
    outputs[path] = printed.getvalue()
print(json.dumps(outputs))
"""


def python(arguments, folder, stdin=""):
    """What a process prints on its standard output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # the programs are small, and the machine may be busy
        input=stdin,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What every program prints after `spotfast.install()`."""
    programs = [(str(PROGRAMS / name), arguments) for name, arguments in SEEDED.items()]
    return json.loads(python(["-c", INSTALLED], tmp_path_factory.mktemp("installed"), json.dumps(programs)))


@pytest.fixture
def run(installed, tmp_path):
    """`run(name)`: the values that a program prints by what stands before them, the same both ways."""

    def both_ways(name):
        program = PROGRAMS / name
        printed = python(["-m", "spotfast", "run", str(program), *SEEDED[name]], tmp_path)
        assert printed == installed[str(program)]
        return dict(line.split(": ", 1) for line in printed.splitlines() if ": " in line)

    return both_ways


def chance(num_items):
    """The mean reciprocal rank of one of `num_items` items in random order."""
    return sum(1 / rank for rank in range(1, num_items + 1)) / num_items


def test_factorization(run):
    values = run("readme_factorization.py")
    assert float(values["train rmse"]) < float(values["test rmse"]) < 0.8 * float(values["spread of test ratings"])
    assert 0 < float(values["rating of one item by one user"]) < 7
    assert [name for name in values if name.startswith("Epoch")] == [f"Epoch {epoch}" for epoch in range(20)]
    for loss in ("pointwise", "bpr", "hinge", "adaptive_hinge"):
        assert 2 * chance(80) < float(values[f"{loss} mrr"]) < 1
        assert 1.5 * 5 / 80 < float(values[f"{loss} recall"]) < 1
        assert 0 < float(values[f"{loss} precision"]) < 1
    assert values["users in both parts"] == "0"


def test_sequences(run):
    values = run("readme_sequence.py")
    for representation in ("pooling", "cnn", "lstm", "mixture"):
        better = 1.1 if representation == "pooling" else 3  # it knows no order, and the next item hangs on the last
        assert better * chance(39) < float(values[f"{representation} mrr"]) <= 1
        assert 0 < float(values[f"{representation} precision"]) <= 1
        assert values[f"{representation} precision"] == values[f"{representation} recall"]
        assert 1 <= int(values[f"{representation} best next item"]) < 40


def test_a_search_goes_on_from_its_file(run, tmp_path):
    values = run("hyperparameter_search.py")
    results = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(results) == len({result["hash"] for result in results}) == 3
    assert json.loads(values["best"]) == max(results, key=lambda result: result["validation_mrr"])
    assert all(0 < result["test_mrr"] < 1 for result in results)
    program = PROGRAMS / "hyperparameter_search.py"
    again = python(["-m", "spotfast", "run", str(program), "results.jsonl", "--trials", "4"], tmp_path).splitlines()
    assert again[:3] == [f"done before: results.jsonl {result['hash']}" for result in results]
    assert [line.split(":")[0] for line in again[3:]] == ["trial", "best"]


def test_bloom_embeddings(run):
    values = run("bloom_comparison.py")
    for network in ("bilinear", "pool", "lstm"):
        full, bloom = (int(values[f"{network} {name} parameters"]) for name in ("full", "bloom 0.5"))
        assert bloom < full
        for name in ("full", "bloom 0.5"):
            assert 1.5 * chance(59) < float(values[f"{network} {name} mrr"]) < 1


def test_networks_and_optimizers_of_ones_own(run):
    values = run("custom_network.py")
    assert values["network is mine"] == "True"
    for loss in ("bpr", "adaptive_hinge"):
        assert 1.5 * chance(40) < float(values[f"deep {loss} mrr"]) < 1
    for loss in ("pointwise", "adaptive_hinge"):
        assert 2 * chance(39) < float(values[f"last item {loss} mrr"]) <= 1


def test_pickled_models(run):
    values = run("pickled_model.py")
    for name in ("explicit", "implicit", "sequence"):
        assert [values[f"{name} {way}"] for way in ("as bytes", "from file", "from weights")] == ["True"] * 3
        assert float(values[f"{name} predicts"]) == float(values[f"{name} predicts"])  # not NaN


def test_a_module_beside_the_program(run):
    assert run("plotting/plot_quality.py")["chart by"] == "plotting bars.py"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_child_processes_import_spotlight(method, tmp_path):
    printed = python(["-m", "spotfast", "run", str(PROGRAMS / "parallel_search.py"), method], tmp_path)
    assert printed == f"the same here: True\nwith: {method}\n"
