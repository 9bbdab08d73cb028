"""What is launched for models as most people have them is what wheels carry, and nothing besides."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from spotfast.cuda.compiling import arguments, constants, specialisations
from spotfast.cuda.packing import Packing

pytest.importorskip("triton", reason="triton is not installed: nothing to launch")

LISTS = "SPECIALISATIONS", "OTHERS"
RECORDER = Path(__file__).parent / "record_launches.py"


@functools.cache
def recorded(what):
    """What is launched, and for each launch the lists of arguments that it was given."""
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, RECORDER, what]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_launched_is_what_ships():
    launched = recorded("models").keys()
    shipped = {as_recorded(name, entry) for name, entry in specialisations()}
    assert sorted(launched - shipped) == []  # these would need a compiler
    assert sorted(shipped - launched) == []  # and these are of no use


def test_other_rules_and_losses_launch_what_is_compiled_by_the_tests():
    launched = recorded("others").keys()
    shipped, others = ({as_recorded(*pair) for pair in specialisations(None, name)} for name in LISTS)
    assert sorted(launched - shipped - others) == []
    assert sorted(others - launched) == []


def test_the_work_of_the_gpu_script_needs_no_other():
    shipped = {as_recorded(name, entry) for name, entry in specialisations()}
    launched = recorded("work").keys()
    assert len(launched) > 10
    assert sorted(launched - shipped) == []


@pytest.mark.parametrize("what", ["models", "work"])
def test_what_launches_are_given_can_be_packed(what):
    """As many arguments as a cubin has, each in the range of its type: the interpreter takes anything."""
    kinds = {as_recorded(name, entry): [kind for _, kind in arguments(entry)] for name, entry in specialisations()}
    for launch, given in recorded(what).items():
        packing = Packing([kind for kind in kinds[launch] if kind is not None], 0)
        for values in given:
            packing.pack(values)


def as_recorded(name, entry):
    pointers = [kind for _, kind in arguments(entry) if kind is None or kind.startswith("*")]
    return json.dumps([name, entry.num_warps, entry.enable_fp_fusion, constants(entry), pointers], sort_keys=True)
