"""Every kernel compiles for every supported GPU, without spilling registers. No GPU is needed.

Not for the interpreter's process: `pytest tests/kernels -m "not interpreter"` (see conftest.py). The quick tests
compile every specialisation for sm_80 and for sm_90, before and from which on Triton takes different ways, and for the
others the last that is listed of each kernel; the slow ones compile what is left, and the PTX.
"""

from __future__ import annotations

import functools
import importlib
import multiprocessing
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import spotfast.kernels
from spotfast.backends import OPERATIONS
from spotfast.cuda.build import MAX_SPECIALISATIONS, TARGETS
from spotfast.cuda.compiling import resources, specialisations
from spotfast.cuda.manifest import PTX
from spotfast.cuda.shipped import FILES

triton = pytest.importorskip("triton", reason="triton is not installed: nothing to compile")

EVERYTHING = ("80", "90")
PROCESSES = 2

# Bounds on registers are those of the release that wheels are built with. Others may assemble a little worse: 32 more
# leave room for 3 programs of 128 threads at once, and 32 bytes are 8 numbers on the stack.
CONSTRAINTS = (Path(__file__).parents[2] / "constraints.txt").read_text("utf-8")
SLACK = 0 if f"triton=={triton.__version__}" in CONSTRAINTS.splitlines() else 32

LISTED = specialisations()
LAST = {name: number for number, (name, _) in enumerate(LISTED)}  # of each kernel
QUICK = [
    (target, number)
    for number, (name, _) in enumerate(LISTED)
    for target in TARGETS
    if target in EVERYTHING or LAST[name] == number
]
SLOW = [
    (target, number) for number in range(len(LISTED)) for target in (*TARGETS, PTX) if (target, number) not in QUICK
]


def describe(case):
    """A test's name: what is compiled, for which target."""
    target, number = case
    name, specialisation = LISTED[number]
    kinds = {kind[1:] for kind in specialisation.pointers.values()}
    constants = [f"{name}={value}" for name, value in specialisation.constants.items()]
    return "-".join([name, *sorted(kinds), *constants, target])


@pytest.fixture(scope="session")
def usages(request):
    """What every selected test's kernel uses, compiled side by side before the first of them."""
    cases = [item.callspec.params["case"] for item in request.session.items if "usages" in item.fixturenames]
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        return dict(zip(cases, pool.map(functools.partial(resources, None), cases), strict=True))


def check(usages, case):
    found = usages[case]
    assert isinstance(found, dict), found
    _, specialisation = LISTED[case[1]]
    registers, local_bytes = specialisation.registers + SLACK, specialisation.local_bytes + SLACK
    assert found["REG"] <= registers, f"{found}: more than {registers} registers"
    assert max(found["STACK"], found["LOCAL"]) <= local_bytes, f"registers are spilled: {found}"


@pytest.mark.parametrize("case", QUICK, ids=describe)
def test_compiles_without_spills(usages, case):
    check(usages, case)


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW, ids=describe)
def test_the_others_compile_without_spills(usages, case):
    check(usages, case)


def test_every_kernel_is_listed():
    found = {
        f"{info.name}.{name}"
        for info in pkgutil.iter_modules(spotfast.kernels.__path__)
        for name, value in vars(importlib.import_module(f"spotfast.kernels.{info.name}")).items()
        if name.endswith("_kernel") and getattr(value, "__module__", None) == f"spotfast.kernels.{info.name}"
    }
    assert found == set(LAST)


@pytest.mark.parametrize("operation", [name for name, by in OPERATIONS.items() if "triton" in by.get("cuda", ())])
def test_every_operation_has_kernels(operation):
    """What `doctor` says of an operation is said of these."""
    files = FILES.get(operation, (operation,))
    assert {name.partition(".")[0] for name in LAST} >= set(files)


def test_what_ships():
    """Not too much, nothing twice, and an exception only with a reason: 128 registers let 4 programs of 128 threads run
    on a multiprocessor at once."""
    assert len(LISTED) <= MAX_SPECIALISATIONS
    seen = [(name, str(entry.pointers), str(entry.constants), entry.num_warps) for name, entry in LISTED]
    assert len(set(seen)) == len(seen)
    exceptions = [name for name, entry in LISTED if entry.local_bytes or entry.registers > 128]
    assert exceptions == [name for name, entry in LISTED if entry.reason]


@pytest.mark.parametrize("name", LAST)
def test_values_do_not_lead_to_another_compilation(name):
    """Every scalar has a type of its own, and none is specialised for 1 or for multiples of 16."""
    specialisation = LISTED[LAST[name]][1]
    parameters = [parameter for parameter in specialisation.kernel.params if not parameter.is_constexpr]
    scalars = [parameter for parameter in parameters if parameter.name not in specialisation.pointers]
    given = [scalar for scalar in scalars if scalar.name not in specialisation.constants]
    assert [scalar.name for scalar in given if not (scalar.annotation_type and scalar.do_not_specialize)] == []
