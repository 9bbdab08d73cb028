"""Two processes run this folder: the interpreter's (TRITON_INTERPRET=1) and the compiler's (without).

    TRITON_INTERPRET=1 pytest tests/kernels           the kernels' results, on the CPU
    pytest tests/kernels -m "not interpreter"         their compilation for every supported GPU, without one

Triton chooses between the two as it is imported, so a test in the wrong process could only pretend. Without the
variable an interpreter test fails; with it, the compiler's tests are deselected, as the summary line tells.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GUARD = 4096  # elements before and after every output: more than any program writes
POISON = -0x0123456789ABCDEF


def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    compilers = [item for item in items if item.path.is_relative_to(here) and not _is_for_interpreter(item)]
    if INTERPRETED and compilers:
        config.hook.pytest_deselected(items=compilers)
        items[:] = [item for item in items if item not in compilers]


@pytest.fixture(autouse=True)
def _right_process(request):
    if _is_for_interpreter(request.node) and not INTERPRETED:
        pytest.fail("needs a process of its own: TRITON_INTERPRET=1 pytest tests/kernels", pytrace=False)


@pytest.fixture
def same(monkeypatch):
    """`same(function, *arguments)`: its result with the Triton backend, after asserting that the reference's is equal.

    Outputs are poisoned before the kernels run, and guards around them must not change.
    """

    def same(function, *arguments, **keywords):
        with monkeypatch.context() as patch:
            guards = _guard_outputs(patch)
            result = function(*arguments, **keywords, backend="triton")
        expected = function(*arguments, **keywords, backend="reference")
        assert guards
        for before, after in guards:
            assert (before == POISON).all() and (after == POISON).all(), "written outside of the output"
        assert result.dtype == expected.dtype == torch.int64
        assert result.shape == expected.shape
        wrong = (result != expected).nonzero()
        assert not len(wrong), f"{len(wrong)} of {result.numel()} differ, the first at {wrong[0].tolist()}"
        return result

    return same


def _guard_outputs(patch):
    guards = []

    def poisoned(size, *, dtype, device):
        shape = torch.Size([size] if isinstance(size, int) else size)
        buffer = torch.full((shape.numel() + 2 * GUARD,), POISON, dtype=dtype, device=device)
        before, output, after = buffer.split([GUARD, shape.numel(), GUARD])
        guards.append((before, after))
        return output.view(shape)

    patch.setattr(torch, "empty", poisoned)
    return guards


def _is_for_interpreter(item):
    return item.get_closest_marker("interpreter") is not None
