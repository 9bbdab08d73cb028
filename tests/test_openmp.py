"""The threads of torch's OpenMP, on which operations run where they can: fewer than were asked for, and in a fork."""

from __future__ import annotations

import ctypes
import os
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

def draw(threads):
    spotfast.set_num_threads(threads)
    return philox.draws(1, 2, 3, 0, 1 << 18)

torch.set_num_threads(1)
"""

FEWER = """
assert torch.equal(draw(4), draw(1))
"""

FORKED = """
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons': forking with threads
child = os.fork()
if child == 0:
    signal.alarm(60)
    draw(4)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""

COUNTED = """
def count():
    return len(os.listdir("/proc/self/task"))

before = count()
draw(4)
print(count() - before)
"""


@pytest.fixture
def run(run_python, monkeypatch):
    """`run(code, **environment)`: what a fresh interpreter prints, with the defaults of OpenMP."""
    for name in [name for name in os.environ if name.startswith("OMP_")]:
        monkeypatch.delenv(name)
    return run_python


@pytest.mark.parametrize("limit", ["1", "3"])
def test_fewer_threads_than_were_asked_for(run, limit):
    run(DRAW + FEWER, OMP_THREAD_LIMIT=limit)


@pytest.mark.parametrize("before", ["draw(4)", "torch.set_num_threads(4)\n(torch.ones(1 << 20) + 1).sum()"])
def test_a_forked_child_has_threads_of_its_own(run, before):
    """Those of OpenMP stay with the parent, and a child that waited for them would wait for ever.

    Whether our operations or torch's have started them: the extension is loaded by the first of ours.
    """
    run(DRAW + before + FORKED)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "GOMP_parallel"), reason="torch has no such OpenMP")
def test_threads_stay(run):
    """They are OpenMP's, then: our own end with the operation."""
    assert run(DRAW + COUNTED) == "3\n"
