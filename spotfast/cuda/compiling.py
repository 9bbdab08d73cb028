"""Compiling kernels ahead of time, with Triton, on a machine without a GPU."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from spotfast.cuda.choice import ALIGNMENT
from spotfast.cuda.manifest import PTX, SCALARS
from spotfast.kernels.specialisation import Specialisation

PTX_CAPABILITY = 80
PTX_VERSION = 80  # PTX 8.0, which drivers of CUDA 12.0 compile


class CompilationError(RuntimeError):
    """A specialisation cannot be compiled ahead of time."""


def specialisations(
    files: Collection[str] | None = None, listed: str = "SPECIALISATIONS"
) -> list[tuple[str, Specialisation]]:
    """Return the specialisations of the named kernel files, or of all, each with the "file.function" that it is of.

    `listed`: the files' list of them, "SPECIALISATIONS", which ship, or "OTHERS", which do not.
    """
    package = importlib.import_module("spotfast.kernels")
    found = []
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        if files is not None and module not in files:
            continue
        file = importlib.import_module(f"spotfast.kernels.{module}")
        found += [(f"{module}.{entry.kernel.fn.__name__}", entry) for entry in getattr(file, listed, [])]
    return found


def arguments(specialisation: Specialisation) -> tuple[tuple[str, str | None], ...]:
    """Return name and type of every argument of a specialisation, in order: None is a pointer that is not given.

    Raises:
        CompilationError: for a type that cannot be packed.
    """
    kinds: list[tuple[str, str | None]] = []
    for parameter in specialisation.kernel.params:
        if parameter.is_constexpr:
            continue
        name = parameter.name
        kind = specialisation.pointers.get(name, parameter.annotation_type)
        absent = name in specialisation.constants and specialisation.constants[name] is None
        if not absent and kind not in SCALARS and not kind.startswith("*"):
            raise CompilationError(f"{specialisation.kernel.fn.__name__}: {name} has the type {kind!r}")
        kinds.append((name, None if absent else kind))
    return tuple(kinds)


def constants(specialisation: Specialisation) -> dict[str, Any]:
    """Return the values of the constant parameters.

    Raises:
        CompilationError: if one has none, or is of a type that a manifest cannot hold.
    """
    values = {}
    for parameter in specialisation.kernel.params:
        if parameter.is_constexpr:
            value = specialisation.constants.get(parameter.name)
            if not isinstance(value, bool | int | float | str):
                name = f"{specialisation.kernel.fn.__name__}: {parameter.name}"
                raise CompilationError(f"{name} must be a number, a string or a bool, got {value!r}")
            values[parameter.name] = value
    return values


def compile_for(specialisation: Specialisation, target: str) -> Any:
    """Compile a specialisation for a target, "90" or "ptx", and return Triton's compiled kernel.

    Cubins take pointers for multiples of 16 bytes, as a launch checks; PTX takes nothing for granted.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kinds = dict(arguments(specialisation))
    signature = {parameter.name: kinds.get(parameter.name) or "constexpr" for parameter in specialisation.kernel.params}
    options: dict[str, Any] = {
        "num_warps": specialisation.num_warps,
        "enable_fp_fusion": specialisation.enable_fp_fusion,
    }
    assumed = {}
    if target == PTX:
        options["ptx_version"] = PTX_VERSION
    else:
        pointers = [place for place, kind in enumerate(signature.values()) if kind.startswith("*")]
        assumed = {(place,): [["tt.divisibility", ALIGNMENT]] for place in pointers}
    source = ASTSource(specialisation.kernel, signature, dict(specialisation.constants), assumed)
    return triton.compile(source, target=GPUTarget("cuda", capability(target), 32), options=options)


def capability(target: str) -> int:
    """Return the compute capability, times ten, that a target is compiled for."""
    return PTX_CAPABILITY if target == PTX else int(target)


def hidden_pointers(specialisation: Specialisation, compiled: Any) -> int:
    """Return how many pointers Triton has appended to the arguments of a compiled specialisation.

    Raises:
        CompilationError: if a launch would have to provide more than null pointers, or something else than expected.
    """
    name, metadata = specialisation.kernel.fn.__name__, compiled.metadata
    scratch = {field: size for field, size in metadata._asdict().items() if field.endswith("_scratch_size")}
    if any(scratch.values()):
        raise CompilationError(f"{name} needs scratch memory: {scratch}")
    if (metadata.num_warps, metadata.num_ctas) != (specialisation.num_warps, 1):
        raise CompilationError(f"{name} has {metadata.num_warps} warps and {metadata.num_ctas} programs per cluster")
    entry = compiled.asm["ptx"].split(".entry", 1)[1].split(")", 1)[0]
    found = [int(bits) for bits in re.findall(r"\.param \.[a-z](\d+)", entry)]
    expected = [_bits(kind) for _, kind in arguments(specialisation) if kind is not None]
    hidden = len(found) - len(expected)
    if hidden < 0 or found != expected + [64] * hidden:
        raise CompilationError(f"{name} has parameters of {found} bits, expected {expected} and pointers")
    return hidden


def resources(task: tuple[str, str, int]) -> dict[str, int] | str:
    """Compile one of `specialisations(None, listed)`, by its number, and return what a thread of it uses.

    Args:
        task: the target, the name of the list, and the number.

    Returns:
        "REG", registers, "STACK" and "LOCAL", bytes of either; or, as text, why there is no such program.
    """
    target, listed, number = task
    _, specialisation = specialisations(None, listed)[number]
    try:
        compiled = compile_for(specialisation, target)
        hidden_pointers(specialisation, compiled)
    except Exception as error:  # of the compiler: one of many types, some of which no other process could be handed
        return f"{type(error).__name__}: {error}"
    return usage(compiled.asm["cubin"])


def usage(cubin: bytes) -> dict[str, int]:
    """Return what a thread of a cubin uses, as triton's copy of cuobjdump reports it."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        report = subprocess.run([tool, "-res-usage", file], capture_output=True, text=True, check=True).stdout
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", report)}
    if found.keys() != {"REG", "STACK", "LOCAL"}:
        raise CompilationError(f"cuobjdump says something else: {report}")
    return found


def _bits(kind: str) -> int:
    return 64 if kind.startswith("*") else max(8, int("".join(filter(str.isdigit, kind))))
