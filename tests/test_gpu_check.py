"""The GPU script, rehearsed on the CPU: every part runs, and the report has what it must have."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spotfast import backends

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu_check.py"
PARTS = [
    "build", "tests", "copy", "epochs", "baselines", "kernels", "ranking", "first_call, SPOTFAST_AOT=0",
    "ahead_of_time",
]  # fmt: skip


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        yield importlib.import_module("gpu_check")


@pytest.fixture
def machine(script):
    """The module that names what is missing."""
    return importlib.import_module("gpu_machine")


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
    assert parts["tests"]["rows"][0]["name"].startswith("5 passed")
    assert "were not run: a rehearsal on the CPU" in parts["tests"]["rows"][1]["name"]
    made, *compared = parts["ahead_of_time"]["rows"]
    assert (made["name"], made["programs"]) == ("build for 90", 1)
    with_kernels = {name for name, engines in backends.OPERATIONS.items() if "triton" in engines.get("cuda", ())}
    assert {row["name"] for row in compared} == with_kernels
    for row in compared:
        assert row["same_bits"] and row["passed"] and min(row["first_call"], row["first_call_of_triton"]) > 0
    case = parts["epochs"]["rows"][0]
    assert case["samples_per_second"]["low"] > 0
    assert case["bytes_per_sample"]["moved"] > case["bytes_per_sample"]["perfect"] > 0
    assert (tmp_path / "gpu_check.txt").read_text() in done.stdout


def test_it_needs_a_device():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no CUDA device" in done.stderr


def test_the_parts_fit_in_eight_minutes(script):
    assert script.TOTAL < 8 * 60
    assert sum(script.BUDGETS.values()) <= script.TOTAL


def test_a_part_that_takes_too_long_is_stopped_and_reported(script, tmp_path):
    """With what it started, or its output would not end."""
    code = "import subprocess, sys; print(1); subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    check = script.Check(True, tmp_path)
    part, printed = check._part([sys.executable, "-uc", code], 3)
    assert (part.status, printed.strip()) == ("timed out", "1")
    assert part.seconds < 30


@pytest.mark.parametrize("dry", [False, True])
@pytest.mark.parametrize("installed", ["this checkout", "another", "none"])
def test_what_is_built(script, tmp_path, monkeypatch, dry, installed):
    places = {"this checkout": script.ROOT / "spotfast/__init__.py", "another": "/elsewhere/spotfast/__init__.py"}
    commands = []

    def call(command, seconds, folder):
        probing = "-c" in command
        if not probing:
            commands.append(command)
        printed = str(places.get(installed, "")) if probing else ""
        return subprocess.CompletedProcess(command, probing and not printed, printed, ""), printed

    check = script.Check(dry, tmp_path)
    monkeypatch.setattr(check, "_call", call)
    check._build()
    assert check.parts["build"].status == "passed"
    assert bool(commands) == (installed == "none" or (installed == "another" and not dry))
    assert ("NOT OF THIS CHECKOUT" in (tmp_path / "gpu_check.txt").read_text()) == (dry and installed == "another")


def test_a_part_that_fails_tells_why(script, tmp_path):
    part, _ = script.Check(True, tmp_path)._part([sys.executable, "-c", "raise SystemExit('the reason')"], 60)
    assert part.status == "failed"
    assert "the reason" in part.reason


def test_a_part_for_which_no_time_is_left_is_not_run(script, tmp_path):
    check = script.Check(True, tmp_path)
    check._end = 0.0
    assert check._part([sys.executable, "-c", "1 / 0"], 60)[0].status == "not run"


def test_time_left_over_is_passed_on(script, tmp_path):
    """A part that ends early leaves its time to the next one; one that was late has its own time all the same."""
    check, budgets = script.Check(True, tmp_path), script.BUDGETS
    assert check._allotted("tests") == pytest.approx(budgets["build"] + budgets["tests"], abs=5)
    check._due = dict.fromkeys(budgets, 0.0)
    assert check._allotted("tests") == budgets["tests"]


def test_failures_are_kept_when_time_is_over(script, tmp_path, monkeypatch):
    """Each is written down as it happens; pytest's own report would come at the end."""
    code = """import json, os, sys, time
with open(os.environ["SPOTFAST_GPU_FAILURES"], "a") as file:
    file.write(json.dumps({"name": "test_one", "failure": "E  1 is not 2"}) + chr(10))
time.sleep(60)"""
    check, run = script.Check(True, tmp_path), script.Check._part
    monkeypatch.setattr(
        check, "_part", lambda command, seconds, **given: run(check, [sys.executable, "-c", code], 3, **given)
    )
    check._tests()
    assert check.parts["tests"].status == "timed out"
    assert {"name": "test_one", "failure": "E  1 is not 2"} in check.parts["tests"].rows
    assert "1 is not 2" in (tmp_path / "gpu_check.txt").read_text()
    assert "1 is not 2" in (tmp_path / "gpu_check.json").read_text()


def test_failures_of_the_gpu_tests_are_written_down(tmp_path):
    """By their conftest.py, which is asked to here for a test that fails."""
    folder, failures = tmp_path / "gpu", tmp_path / "failures.jsonl"
    folder.mkdir()
    (folder / "conftest.py").write_text((Path(__file__).parent / "gpu" / "conftest.py").read_text())
    (folder / "test_failing.py").write_text("def test_one():\n    assert 1 == 2\n")
    rehearsal = {"SPOTFAST_GPU_REHEARSAL": "1", "TRITON_INTERPRET": "1", "SPOTFAST_GPU_FAILURES": str(failures)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(folder)]
    subprocess.run(command, env=os.environ | rehearsal, capture_output=True, cwd=SCRIPT.parents[1], check=False)
    (failed,) = map(json.loads, failures.read_text().splitlines())
    assert failed["name"].endswith("test_one")
    assert "assert 1 == 2" in failed["failure"]


def test_what_is_skipped_is_reported(script, tmp_path, monkeypatch):
    printed = """..s
SKIPPED [1] tests/gpu/test_one.py:9: needs 80 GiB of free memory
169 tests of tests/gpu were not run: a rehearsal on the CPU
2 passed, 1 skipped, 169 deselected in 2.79s
"""
    check = script.Check(True, tmp_path)
    monkeypatch.setattr(check, "_part", lambda command, seconds, **given: (script.Part("passed"), printed))
    check._tests()
    text = (tmp_path / "gpu_check.txt").read_text()
    assert all(line in text for line in printed.splitlines()[1:])


@pytest.mark.parametrize(("status", "ends_with"), [("passed", None), ("not run", 1), ("failed", 1), ("timed out", 1)])
def test_status(script, tmp_path, monkeypatch, status, ends_with):
    monkeypatch.setattr(script.Check, "run", lambda self: self._note("tests", script.Part(status)))
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--dry", "--output", str(tmp_path)])
    with pytest.raises(SystemExit) if ends_with else contextlib.nullcontext() as caught:
        script.main()
    assert caught is None or caught.value.code == ends_with


def test_missing_packages_are_named(machine, monkeypatch):
    monkeypatch.setattr(machine, "_version", lambda name: "missing" if name in ("numba", "filelock") else "99")
    assert machine.missing() == [
        "numba is missing, which the tests need",
        "filelock is missing; nothing here needs it",
    ]


def test_an_old_setuptools_is_named(machine, monkeypatch):
    """Pip does not look for it where it builds without isolation."""
    versions = {"setuptools": "65.5.0"}
    monkeypatch.setattr(machine, "_version", lambda name: versions.get(name, "99"))
    oldest = machine.OLDEST_SETUPTOOLS
    assert f'"setuptools>={oldest}"' in (SCRIPT.parents[1] / "pyproject.toml").read_text()
    assert machine.missing() == [f"setuptools 65.5.0 is too old: building needs {oldest} or newer"]
    versions["setuptools"] = f"{oldest}.0.1"
    assert not machine.missing()


def test_every_part_is_reported_if_nothing_can_be_built(script, tmp_path, monkeypatch):
    check = script.Check(False, tmp_path)
    monkeypatch.setattr(check, "_build", lambda: check._note("build", script.Part("failed")))
    check.run()
    assert {name.partition(",")[0] for name in PARTS} == set(check.parts)
    assert {part.status for name, part in check.parts.items() if name != "build"} == {"not run"}


class TestAheadOfTime:
    """benchmarks/gpu/ahead_of_time.py: what it takes for the same results."""

    @pytest.fixture
    def check(self, monkeypatch):
        monkeypatch.syspath_prepend(SCRIPT.parent)
        monkeypatch.syspath_prepend(SCRIPT.parent / "gpu")
        spec = importlib.util.spec_from_file_location("ahead_of_time", SCRIPT.parent / "gpu" / "ahead_of_time.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.mark.parametrize(
        ("one", "other", "bits", "close"),
        [
            ([1.0, float("nan")], [1.0, float("nan")], True, True),
            ([1.0, 2.0], [1.0, 2.0 + 1e-6], False, True),
            ([1.0, 2.0], [1.0, 2.1], False, False),
            ([0.0], [-0.0], False, True),
            ([1, 2], [1, 3], False, False),
            ([1, 2], [1, 2, 3], False, False),
            ([1.0], [1], False, False),
        ],
    )
    def test_comparison(self, check, one, other, bits, close):
        results = [{"an operation": (seconds, [torch.tensor(each)])} for seconds, each in ((0.5, one), (2.0, other))]
        for exact, passed in ((True, bits), (False, close)):
            (row,) = check.compare(*results, exact)
            assert row == {
                "name": "an operation", "passed": passed, "same_bits": bits,
                "first_call": 0.5, "first_call_of_triton": 2.0,
            }  # fmt: skip

    def test_another_result_is_a_failure(self, check, monkeypatch, tmp_path):
        rows = [{"name": "one", "passed": True}, {"name": "other", "passed": False}, {"name": "build"}]
        monkeypatch.setattr(check.Check, "run", lambda self, folder: self.rows.extend(rows))
        monkeypatch.setattr(sys, "argv", ["ahead_of_time.py", "0", str(tmp_path / "rows.json")])
        with pytest.raises(SystemExit, match=r"other results than Triton's: other$"):
            check.main()
        assert json.loads((tmp_path / "rows.json").read_text()) == rows

    def test_no_time_is_left(self, check, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "argv", ["ahead_of_time.py", "0", str(tmp_path / "rows.json"), "--dry"])
        with pytest.raises(SystemExit, match=r"no time was left for -m spotfast\.cuda\.build"):
            check.main()

    def test_a_device_without_a_target(self, check, monkeypatch, tmp_path):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (10, 3))
        found = check.Check(False, 0.0)
        found.run(tmp_path)
        assert found.rows == [{"name": "build", "not_run": "there is no target for compute capability 10.3"}]
