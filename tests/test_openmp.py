"""The threads of torch's OpenMP, on which operations run where they can: fewer than were asked for, and in a fork."""

from __future__ import annotations

import ctypes
import sys

import pytest
import torch

from spotfast import backends

pytestmark = [
    pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, threads are always our own"),
]

DRAW = """
import os, signal, warnings
import torch
import spotfast
from spotfast.ops import philox

def draw():
    return philox.draws(1, 2, 3, 0, 1 << 18)

torch.set_num_threads(1)
expected = draw()
spotfast.set_num_threads(4)
"""

FEWER = """
assert torch.equal(draw(), expected)
print("same")
"""

FORKED = """
draw()
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons': forking with threads
child = os.fork()
if child == 0:
    signal.alarm(60)
    os._exit(int(not (draw().numpy() == expected.numpy()).all()))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("same")
"""

COUNTED = """
def count():
    return len(os.listdir("/proc/self/task"))

before = count()
draw()
print(count() - before)
"""


@pytest.mark.parametrize("limit", ["1", "3"])
def test_fewer_threads_than_were_asked_for(run_python, limit):
    assert run_python(DRAW + FEWER, OMP_THREAD_LIMIT=limit) == "same\n"


def test_a_forked_child_has_threads_of_its_own(run_python):
    """Those of OpenMP stay with the parent: a child that waited for them would wait for ever."""
    assert run_python(DRAW + FORKED) == "same\n"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "GOMP_parallel"), reason="torch has no such OpenMP")
def test_threads_stay(run_python):
    """They are OpenMP's, then: our own end with the operation."""
    assert run_python(DRAW + COUNTED) == "3\n"
