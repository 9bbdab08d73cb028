"""`python -m spotfast doctor`: what is installed, which backend runs each operation, and how to get a better one."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from dataclasses import dataclass

import torch

from spotfast import backends
from spotfast._version import __version__
from spotfast.cli.errors import CommandError
from spotfast.cli.table import table
from spotfast.cuda.choice import mode, of_operation
from spotfast.cuda.manifest import PTX
from spotfast.cuda.shipped import shipped

CUDA = torch.device("cuda")


@dataclass(frozen=True)
class _Remedy:
    """What the lack of a backend costs, and how it ends.

    Attributes:
        cost: how its operations compare without it, as measured on 1 and 2 threads with a million draws,
            interactions or pairs, 3,700 items and 32 dimensions; training with a thousand rows and with 165,000.
        commands: get it: for an installed package and, where it differs, in a checkout of the source.
    """

    cost: str
    commands: tuple[str, ...]


_REMEDIES = {
    "native": _Remedy(
        "roughly 3 to 100 times slower; training goes through autograd (cutting windows: 1,000 times)",
        (backends.REINSTALL,),
    ),
    "numba": _Remedy("roughly 20 to 100 times slower", ("pip install numba",)),
    "triton": _Remedy(
        "slower by a factor that has not been measured",
        ("pip install 'spotfast[triton]'", "pip install -e '.[triton]'"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: there are none."""


def run(options: argparse.Namespace) -> int:
    """Print the report."""
    try:
        print("\n\n".join(report()))
    except ValueError as error:  # an environment variable with a value that does not exist
        raise CommandError(str(error)) from error
    return 0


def report() -> list[str]:
    """Return the sections of the report: versions, hardware, operations, kernels, and how to get what is missing."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    lacks: dict[str, str] = {}
    operations = _operations(devices, lacks)
    return [_versions(), _hardware(), *_environment(), operations, _kernels(), *_missing(lacks)]


def _versions() -> str:
    rows = [
        ("spotfast", __version__),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
    ]
    rows += [(name, _version(name)) for name in ("torch", "numpy", "numba", "triton")]
    return table(rows, "<<", header=False)


def _version(name: str) -> str:
    try:
        return str(importlib.import_module(name).__version__)
    except ImportError as error:
        gone = isinstance(error, ModuleNotFoundError) and error.name == name
        return "not installed" if gone else f"installed, but broken: {error}"


def _hardware() -> str:
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    rows = [
        ("C++ extension", _extension()),
        ("threads", f"{backends.num_threads()} of {os.cpu_count()} CPUs"),
        ("CUDA device", cuda),
        ("compiled kernels", _compiled()),
    ]
    return table(rows, "<<", header=False)


def _extension() -> str:
    isa = backends.native_isa()
    if isa == "baseline" and backends.native().cpu_has_avx2_fma():
        return "baseline, although this CPU has AVX2 and FMA"
    return isa or "missing"


def _compiled() -> str:
    if mode() == "0":
        return "not used: SPOTFAST_AOT=0 is set"
    found = shipped()
    if found.manifest is None:
        return f"not used: {found.reason}" if found.fault else "none"
    targets = ", ".join(name if name == PTX else f"sm_{name}" for name in found.manifest.targets)
    return f"{len(found.manifest.programs)} for {targets}, by triton {found.manifest.triton}"


def _environment() -> list[str]:
    """Variables that change the choice of backends, if any is set."""
    names = ("SPOTFAST_BACKEND", "SPOTFAST_AOT", "SPOTFAST_ISA", "TRITON_INTERPRET")
    lines = [f"{name}={os.environ[name]} is set" for name in names if name in os.environ]
    return ["\n".join(lines)] if lines else []


def _operations(devices: list[torch.device], lacks: dict[str, str]) -> str:
    """Return the table of backends, and note why better ones cannot run in `lacks`, a reason for each backend."""
    rows = [("operation", "device", "runs on", "better, but missing")]
    for operation, by_device in backends.OPERATIONS.items():
        for device in devices:
            if device.type not in by_device:
                rows.append((operation, device.type, "the CPU", ""))
                continue
            chosen = backends.best(operation, device)
            candidates = by_device[device.type]
            notes = []
            for name in candidates[: candidates.index(chosen)]:
                reason = backends.missing(name, device)
                if reason is not None:
                    lacks.setdefault(name, reason)
                    notes.append(f"{name} [{list(lacks).index(name) + 1}]")
            rows.append((operation, device.type, chosen, ", ".join(notes)))
    return table(rows, "<<<<")


def _kernels() -> str:
    """Return the table of what each operation's kernels run from on a CUDA device."""
    rows = [("operation", "CUDA kernels", "because")]
    for operation, by_device in backends.OPERATIONS.items():
        if "triton" not in by_device.get("cuda", ()):
            continue
        if not torch.cuda.is_available():
            rows.append((operation, "none", "no CUDA device"))
        elif backends.best(operation, CUDA) == "reference" and backends.missing("triton", CUDA) is None:
            rows.append((operation, "reference", "SPOTFAST_BACKEND=reference is set"))
        else:
            choice = of_operation(operation)
            fails = choice.source == "reference" and mode() == "require"  # nothing takes over
            rows.append((operation, "error" if fails else choice.source, choice.reason))
    return table(rows, "<<<")


def _missing(lacks: dict[str, str]) -> list[str]:
    sections = []
    for number, (name, reason) in enumerate(lacks.items(), 1):
        affected = [
            operation for operation, by_device in backends.OPERATIONS.items() if name in sum(by_device.values(), ())
        ]
        lines = [
            f"[{number}] {name}: {reason}",
            f"    It would run:   {', '.join(affected)}",
            f"    Without it:     the same results from the reference, {_REMEDIES[name].cost}",
        ]
        places = ("    Mend it:       ", "    In a checkout: ")
        lines += [f"{place} {command}" for place, command in zip(places, _REMEDIES[name].commands, strict=False)]
        sections.append("\n".join(lines))
    return sections or ["Nothing is missing."]
