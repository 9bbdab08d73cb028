"""What is launched for models as most people have them is what wheels carry, and nothing besides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spotfast.cuda.compiling import arguments, constants, specialisations

pytest.importorskip("triton", reason="triton is not installed: nothing to launch")

LISTS = "SPECIALISATIONS", "OTHERS"
RECORDER = Path(__file__).parent / "record_launches.py"


def recorded(what):
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, RECORDER, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_what_is_launched_is_what_ships():
    launched = recorded("models")
    shipped = {as_recorded(name, entry) for name, entry in specialisations()}
    assert sorted(launched - shipped) == []  # these would need a compiler
    assert sorted(shipped - launched) == []  # and these are of no use


def test_other_rules_and_losses_launch_what_is_compiled_by_the_tests():
    launched = recorded("others")
    shipped, others = ({as_recorded(*pair) for pair in specialisations(None, name)} for name in LISTS)
    assert sorted(launched - shipped - others) == []
    assert sorted(others - launched) == []


def test_the_work_of_the_gpu_script_needs_no_other():
    shipped = {as_recorded(name, entry) for name, entry in specialisations()}
    launched = recorded("work")
    assert len(launched) > 10
    assert sorted(launched - shipped) == []


def as_recorded(name, entry):
    pointers = [kind for _, kind in arguments(entry) if kind is None or kind.startswith("*")]
    return json.dumps([name, entry.num_warps, entry.enable_fp_fusion, constants(entry), pointers], sort_keys=True)
