"""What a device runs a kernel from: a cubin of this installation, Triton's compiler, PTX, or nothing.

Environment:
    SPOTFAST_AOT=0         use no kernels that were compiled ahead of time.
    SPOTFAST_AOT=require   use no others: a kernel that was not compiled for the device is an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeVar

import torch

from spotfast import validation
from spotfast.cuda.device import Device
from spotfast.cuda.driver import DriverError
from spotfast.cuda.jit import jit_missing
from spotfast.cuda.manifest import PTX, Program
from spotfast.cuda.shipped import ImageError, Shipped, shipped

ALIGNMENT = 16  # bytes; cubins take it for granted of every pointer, PTX does not
FIRST_PTX = (8, 0)
JIT: Final = "JIT"

T = TypeVar("T")
Source = Literal["cubin", "JIT", "PTX", "reference"]


@dataclass(frozen=True)
class Choice:
    """The answer.

    Attributes:
        source: "reference" means that the kernel cannot run.
        reason: why nothing better, or, of a cubin, which.
        target: the name of the target, of a cubin or of PTX.
        fault: whether something is wrong that the user should hear of.
    """

    source: Source
    reason: str
    target: str = ""
    fault: bool = False


@dataclass(frozen=True)
class _Refusal:
    reason: str
    fault: bool = False


def mode() -> str:
    """Return SPOTFAST_AOT: "0", "1" or "require".

    Raises:
        ValueError: for another value.
    """
    return validation.choice("SPOTFAST_AOT", os.environ.get("SPOTFAST_AOT", "1"), ["0", "1", "require"])


def choose(
    programs: Sequence[Program],
    shipped: Shipped,
    device: Device,
    aligned: bool = True,
    broken: Mapping[str, str] | None = None,
) -> Choice:
    """Choose what runs some programs on a device.

    Args:
        programs: one, or all of an operation; empty if what is launched was not compiled ahead of time.
        shipped: what the installation carries.
        device: where.
        aligned: whether all pointers are multiples of 16 bytes.
        broken: what has failed, with the reason: targets to be loaded, or, by "JIT", Triton to compile.
    """
    wanted = mode()
    broken = broken or {}
    cubin = _cubin(programs, shipped, device, aligned, broken)
    if not isinstance(cubin, _Refusal):
        return Choice("cubin", f"sm_{cubin}", cubin)
    if wanted == "require":
        return Choice("reference", f"SPOTFAST_AOT=require is set, but {cubin.reason}", fault=cubin.fault)
    jit = broken[JIT] if JIT in broken else jit_missing(device)
    if jit is None:
        return Choice(JIT, cubin.reason, fault=cubin.fault)
    ptx = _ptx(programs, shipped, device, broken)
    reason, fault = f"{cubin.reason}; {jit}", cubin.fault or JIT in broken
    if ptx is None:
        return Choice("PTX", reason, PTX, fault)
    return Choice("reference", reason if ptx.reason in reason else f"{reason}; {ptx.reason}", fault=fault)


def select(capability: tuple[int, int], targets: Collection[str]) -> str | None:
    """Return the target whose cubins a device runs.

    From 9.0 on they hold instructions of one chip only; an 8.x runs those of a lower minor version, too.
    """
    major, minor = capability
    if major >= 9:
        name = f"{major}{minor}"
        return name if name in targets else None
    lower = [f"{major}{m}" for m in range(minor, -1, -1)]
    return next((name for name in lower if name in targets), None)


def choose_working(
    programs: Sequence[Program],
    shipped: Shipped,
    device: Device,
    aligned: bool,
    load: Callable[[str], T],
    broken: Mapping[str, str] | None = None,
) -> tuple[Choice, T | None]:
    """Choose as `choose` does, passing over targets that fail to load.

    Args:
        programs: as for `choose`.
        shipped: as for `choose`.
        device: as for `choose`.
        aligned: as for `choose`.
        load: loads the programs of a target, by its name.
        broken: as for `choose`: what has failed before.

    Returns:
        The choice, and what was loaded, None where Triton or nothing runs the programs.
    """
    broken = dict(broken or {})
    while True:
        choice = choose(programs, shipped, device, aligned, broken)
        if not choice.target:
            return choice, None
        try:
            return choice, load(choice.target)
        except (ImageError, DriverError) as error:
            broken[choice.target] = str(error)


def of_operation(operation: str) -> Choice:
    """Choose for the kernels of an operation, on torch's current device. Reads their binaries, and loads none."""
    found = shipped()
    device = Device.of(torch.cuda.current_device())
    programs = found.of_operation(operation)
    choice, _ = choose_working(
        programs, found, device, True, lambda target: [found.image(target, each.binaries[target]) for each in programs]
    )
    return choice


def missing(device: torch.device) -> str | None:
    """Return why kernels cannot run on a CUDA device, or None if they can, or if the launch is to say why."""
    if mode() == "require":
        return None
    if not torch.cuda.is_available():
        return jit_missing(None)
    found = shipped()
    index = torch.cuda.current_device() if device.index is None else device.index
    if found.manifest is None:
        return jit_missing(Device.of(index))
    choice = choose(found.manifest.programs, found, Device.of(index))
    return choice.reason if choice.source == "reference" else None


def _cubin(
    programs: Sequence[Program], shipped: Shipped, device: Device, aligned: bool, broken: Mapping[str, str]
) -> str | _Refusal:
    """Return the name of the target, or why there is none."""
    for variable, value in (("SPOTFAST_AOT", "0"), ("TRITON_INTERPRET", "1")):
        if os.environ.get(variable) == value:
            return _Refusal(f"{variable}={value} is set")
    name = _target(shipped, device)
    if isinstance(name, _Refusal):
        return name
    if name in broken:
        return _Refusal(broken[name], True)
    if not programs:
        return _Refusal("not among those compiled ahead of time")
    if not aligned:
        return _Refusal(f"a pointer is not a multiple of {ALIGNMENT} bytes")
    return name


def _target(shipped: Shipped, device: Device) -> str | _Refusal:
    """Return the target of the cubins for a device, whichever kernels they hold."""
    manifest = shipped.manifest
    if manifest is None:
        return _Refusal(shipped.reason, shipped.fault)
    targets = [name for name in manifest.targets if name != PTX]
    name = select(device.capability, targets)
    if name is None:
        major, minor = device.capability
        return _Refusal(f"compute capability {major}.{minor} is not among those compiled for: {_list(targets)}", True)
    too_old = device.too_old_for(f"sm_{name}", manifest.targets[name].minimum_driver)
    return name if too_old is None else _Refusal(too_old, True)


def _ptx(programs: Sequence[Program], shipped: Shipped, device: Device, broken: Mapping[str, str]) -> _Refusal | None:
    """Return why the driver cannot compile the PTX, or None if it can."""
    manifest = shipped.manifest
    if os.environ.get("SPOTFAST_AOT") == "0":
        return _Refusal("SPOTFAST_AOT=0 is set")
    if manifest is None:
        return _Refusal(shipped.reason, shipped.fault)
    if not programs or PTX not in manifest.targets:
        return _Refusal("there is no PTX of it")
    if device.capability < FIRST_PTX:
        return _Refusal("PTX needs a compute capability of 8.0 or above")
    too_old = device.too_old_for("PTX", manifest.targets[PTX].minimum_driver)
    if too_old is not None:
        return _Refusal(too_old, True)
    return _Refusal(broken[PTX], True) if PTX in broken else None


def _list(targets: Sequence[str]) -> str:
    return ", ".join(f"{name[:-1]}.{name[-1]}" for name in targets)
