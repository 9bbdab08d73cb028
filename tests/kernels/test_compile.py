"""Every kernel compiles for every supported GPU, without spilling registers. No GPU is needed.

Not for the interpreter's process: `pytest tests/kernels -m "not interpreter"` (see conftest.py). The quick tests
compile all that ships for every target, and for one target what does not ship; the slow ones this for the other
targets, and the PTX. What was compiled once comes from Triton's cache.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import pkgutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

import spotfast.kernels
from spotfast.backends import OPERATIONS
from spotfast.cuda.build import MAX_SPECIALISATIONS, TARGETS, set_environment
from spotfast.cuda.compiling import resources, specialisations
from spotfast.cuda.manifest import PTX
from spotfast.cuda.shipped import FILES

triton = pytest.importorskip("triton", reason="triton is not installed: nothing to compile")

PROCESSES = 2

# Bounds on registers are those of the release that wheels are built with. Others may assemble a little worse: 32 more
# leave room for 3 programs of 128 threads at once, and 32 bytes are 8 numbers on the stack.
CONSTRAINTS = (Path(__file__).parents[2] / "constraints.txt").read_text("utf-8")
SLACK = 0 if f"triton=={triton.__version__}" in CONSTRAINTS.splitlines() else 32

LISTED = specialisations()
FORMS = {"SPECIALISATIONS": LISTED, "OTHERS": specialisations(listed="OTHERS")}
LAST = {name: number for number, (name, _) in enumerate(LISTED)}  # of each kernel
SHIPPED = [(target, "SPECIALISATIONS", number) for number in range(len(LISTED)) for target in TARGETS]
OTHERS = [("80", "OTHERS", number) for number in range(len(FORMS["OTHERS"]))]
SLOW = [
    *((PTX, "SPECIALISATIONS", number) for number in range(len(LISTED))),
    *((target, listed, number) for _, listed, number in OTHERS for target in TARGETS[1:]),
]


def describe(case):
    """A test's name: what is compiled, for which target."""
    target, listed, number = case
    name, specialisation = FORMS[listed][number]
    kinds = {kind[1:] for kind in specialisation.pointers.values()}
    constants = [f"{name}={value}" for name, value in specialisation.constants.items()]
    return "-".join([name, *sorted(kinds), *constants, target])


@pytest.fixture(scope="session")
def usages(request):
    """What every selected test's kernel uses, compiled side by side before the first of them, as a wheel's are."""
    cases = [item.callspec.params["case"] for item in request.session.items if "usages" in item.fixturenames]
    context = multiprocessing.get_context("spawn")
    cache = os.environ.get("TRITON_CACHE_DIR", str(Path.home() / ".triton" / "cache"))  # Triton's own
    with ProcessPoolExecutor(PROCESSES, context, set_environment, (cache,)) as pool:
        return dict(zip(cases, pool.map(resources, cases), strict=True))


def check(usages, case):
    found = usages[case]
    assert isinstance(found, dict), found
    _, listed, number = case
    _, specialisation = FORMS[listed][number]
    registers, local_bytes = specialisation.registers + SLACK, specialisation.local_bytes + SLACK
    assert found["REG"] <= registers, f"{found}: more than {registers} registers"
    assert max(found["STACK"], found["LOCAL"]) <= local_bytes, f"registers are spilled: {found}"


@pytest.mark.parametrize("case", [*SHIPPED, *OTHERS], ids=describe)
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
    every = [pair for forms in FORMS.values() for pair in forms]
    exceptions = [name for name, entry in every if entry.local_bytes or entry.registers > 128]
    assert exceptions == [name for name, entry in every if entry.reason]


@pytest.mark.parametrize("name", LAST)
def test_values_do_not_lead_to_another_compilation(name):
    """Every scalar has a type of its own, and none is specialised for 1 or for multiples of 16."""
    specialisation = LISTED[LAST[name]][1]
    parameters = [parameter for parameter in specialisation.kernel.params if not parameter.is_constexpr]
    scalars = [parameter for parameter in parameters if parameter.name not in specialisation.pointers]
    given = [scalar for scalar in scalars if scalar.name not in specialisation.constants]
    assert [scalar.name for scalar in given if not (scalar.annotation_type and scalar.do_not_specialize)] == []
