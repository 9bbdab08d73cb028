"""Two processes run this folder: the interpreter's (TRITON_INTERPRET=1) and the compiler's (without).

    TRITON_INTERPRET=1 pytest tests/kernels           the kernels' results, on the CPU
    pytest tests/kernels -m "not interpreter"         their compilation for every supported GPU, without one

Triton chooses between the two as it is imported, so a test in the wrong process could only pretend. Without the
variable an interpreter test fails; with it, the compiler's tests are deselected, as the summary line tells.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spotfast.traffic import CACHED, LOADED, STORED

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
GUARD = 4096  # elements before and after every output: more than any program writes
POISON = -0x0123456789ABCDEF
TABLES = ("users", "items")
UNCOUNTED = ("take_kernel", "prepare_kernel")  # one program per step: all of it stays in the cache


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
def poisoned_memory(monkeypatch):
    """Memory that nothing was written to holds NaN, or numbers that are no index."""
    empty = torch.empty

    def poisoned(*arguments, **keywords):
        made = empty(*arguments, **keywords)
        return made.fill_(float("nan") if made.is_floating_point() else 2**30)

    monkeypatch.setattr(torch, "empty", poisoned)


@pytest.fixture
def large_blocks(monkeypatch):
    """One program for all rows that a kernel works on here: the interpreter takes as long for any number of rows."""
    for name in ("SCORED", "UPDATED", "SETTLED"):
        monkeypatch.setattr(f"spotfast.kernels.factorization_step.{name}", 64 * 64)


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


class Counted(Counter):
    """Bytes by kernel, direction and pointer."""

    def expect(self, model):
        """Assert that a model of memory traffic names the same arrays, and as many bytes of each."""
        found = {key: size for key, size in self.items() if size and not _is_uncounted(*key)}
        assert found == {key: access.requested for key, access in model.items() if access.requested}


@pytest.fixture
def counted(monkeypatch):
    """What all launches of this test load and store: a `Counted`. An atomic operation does both."""
    interpreter = pytest.importorskip("triton.runtime.interpreter", reason="triton is not installed")
    counted, launches, current = Counted(), Counter(), {}

    def add(direction, pointers, mask, size):
        addresses = np.broadcast_to(pointers, np.shape(mask))[np.asarray(mask, bool)].ravel()
        for name, (begin, end) in current["ranges"].items():
            inside = int(((addresses >= begin) & (addresses < end)).sum())
            addresses = addresses[(addresses < begin) | (addresses >= end)]
            counted[current["kernel"], direction, name] += inside * size
        assert not len(addresses), "outside of all arguments"

    memory = interpreter._interpreter

    def load(pointers, mask, other, dtype):
        add(LOADED, pointers, mask, np.dtype(dtype).itemsize)
        return memory.load(pointers, mask, other, dtype)

    def store(pointers, value, mask):
        add(STORED, pointers, mask, value.dtype.itemsize)
        return memory.store(pointers, value, mask)

    def atomic_rmw(operation, pointers, value, mask, order):
        for direction in (LOADED, STORED):
            add(direction, pointers, mask, value.dtype.itemsize)
        return memory.atomic_rmw(operation, pointers, value, mask, order)

    hooked = SimpleNamespace(**{name: getattr(memory, name) for name in dir(memory) if not name.startswith("__")})
    hooked.load, hooked.store, hooked.atomic_rmw = load, store, atomic_rmw
    monkeypatch.setattr(interpreter, "_interpreter", hooked)
    run = interpreter.GridExecutor.__call__

    def counting(executor, *arguments, **constants):
        named = dict(zip(executor.arg_names, arguments, strict=False))
        tensors = {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}
        current["ranges"] = {name: _addresses(tensor) for name, tensor in tensors.items()}
        kernel = executor.fn.__name__
        current["kernel"] = kernel + _table_of(kernel, constants, launches[kernel])
        launches[kernel] += 1
        run(executor, *arguments, **constants)

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", counting)
    return counted


@pytest.fixture
def uncounted():
    """Names of the kernels that the model leaves out."""
    return UNCOUNTED


def _addresses(tensor):
    """From the first byte to behind the last one, whatever the strides."""
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    return begin, begin + (last + 1) * tensor.element_size() if tensor.numel() else begin


def _table_of(kernel, constants, launches):
    """Which table a launch is on, as the model names it."""
    if "SCALED" in constants:
        return f", {TABLES[constants['SCALED']]}"
    if kernel in ("keys_kernel", "batch_runs_kernel", "settle_table_kernel"):  # in turn: that of users comes first
        return f", {TABLES[launches % 2]}"
    return ""


def _is_uncounted(kernel, direction, name):
    kernel = kernel.partition(",")[0]
    return kernel in UNCOUNTED or name in CACHED or (kernel, name) in CACHED


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
