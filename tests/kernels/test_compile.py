"""Every kernel compiles for every supported GPU, without spilling registers. No GPU is needed.

Not for the interpreter's process: `pytest tests/kernels -m "not interpreter"` (see conftest.py).
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import spotfast.kernels

triton = pytest.importorskip("triton", reason="triton is not installed: nothing to compile")

CAPABILITIES = [80, 86, 89, 90, 100, 120]

# The types of the pointers, by the name of the parameter; those of the scalars are annotations.
POINTERS = {"out": "*i64", "users": "*i64", "indptr": "*i64", "items": "*i32", "thresholds": "*i64"}

# (module, kernel) -> the constants of each variant that its launcher asks for.
VARIANTS = {
    ("philox", "draws_kernel"): [{"BLOCKS": "BLOCKS"}],
    ("permutation", "permutation_kernel"): [{"ROUNDS": 6, "LANES": "LANES"}, {"ROUNDS": 16, "LANES": "LANES"}],
    ("negatives", "uniform_kernel"): [{"BLOCKS": "UNIFORM_BLOCKS"}],
    ("negatives", "unseen_kernel"): [{"BLOCKS": "UNSEEN_BLOCKS"}],
    ("negatives", "popularity_kernel"): [{"LANES": "POPULARITY_LANES"}],
}


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("module", "kernel", "constants"),
    [(*name, constants) for name, variants in VARIANTS.items() for constants in variants],
)
def test_compiles_without_spills(tmp_path, module, kernel, constants, capability):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    file = importlib.import_module(f"spotfast.kernels.{module}")
    function = getattr(file, kernel)
    values = {name: getattr(file, value) if isinstance(value, str) else value for name, value in constants.items()}
    source = ASTSource(function, signature(function), values)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=file.OPTIONS)
    usage = resources(compiled.asm["cubin"], tmp_path)
    assert usage["REG"] <= 128, usage  # at least 4 programs of 128 threads on a multiprocessor
    assert usage["STACK"] == usage["LOCAL"] == 0, f"registers are spilled: {usage}"


def test_no_kernel_is_missing_here():
    found = {
        (info.name, name)
        for info in pkgutil.iter_modules(spotfast.kernels.__path__)
        for name in vars(importlib.import_module(f"spotfast.kernels.{info.name}"))
        if name.endswith("_kernel")
    }
    assert found == set(VARIANTS)


@pytest.mark.parametrize(("module", "kernel"), VARIANTS)
def test_values_do_not_lead_to_another_compilation(module, kernel):
    """Every scalar has a type of its own, and none is specialised for 1 or for multiples of 16."""
    function = getattr(importlib.import_module(f"spotfast.kernels.{module}"), kernel)
    scalars = [p for p in function.params if not p.is_constexpr and p.name not in POINTERS]
    assert scalars
    assert [p.name for p in scalars if not (p.annotation_type and p.do_not_specialize)] == []


def signature(function):
    """The types of a kernel's parameters."""
    types = {p.name: "constexpr" if p.is_constexpr else p.annotation_type for p in function.params}
    return types | {name: POINTERS[name] for name in types if name in POINTERS}


def resources(cubin, folder):
    """What a cubin uses per thread: registers, and bytes of stack and of local memory."""
    file = folder / "kernel.cubin"
    file.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    report = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    usage = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report)}
    assert set(usage) == {"REG", "STACK", "LOCAL"}, report
    return usage
