"""What an installation says of its compiled kernels: a JSON file beside them."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

FORMAT = 1  # of the JSON file
NAME = "manifest.json"
PTX = "ptx"  # the target that the driver compiles, for any device of compute capability 8.0 and above

# Types of arguments: Triton's names, which pointers' begin with "*", and the characters of `struct` for numbers.
SCALARS = {
    "i1": "?", "i8": "b", "i16": "h", "i32": "i", "i64": "q",
    "u8": "B", "u16": "H", "u32": "I", "u64": "Q", "fp32": "f", "fp64": "d",
}  # fmt: skip
RANGES = {"num_warps": (1, 32), "hidden": (0, 8), "scratch": (0, 0)}  # of numbers in a manifest
OTHER_RANGES = (0, 1 << 28)  # bytes, mostly
NAMES = {"file": r"\w[\w.]*", "symbol": r"[A-Za-z_$][\w$]*"}  # of strings that are more than shown
TARGETS = r"\d{2,3}|ptx"

Key = tuple[str, int, bool, frozenset[tuple[str, Any]], tuple[str | None, ...]]


class _Checked:
    """A record whose plain fields are of the types that are declared for them, and in range: a file may say anything.

    Raises:
        TypeError: for another type, naming the field and its value.
        ValueError: for a value out of range, likewise.
    """

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]  # every class below is a dataclass
            value = getattr(self, field.name)
            if field.type in ("str", "int", "bool"):
                _check_type(field.name, value, field.type)
            if field.type == "str":
                _check_text(field.name, value)
            elif field.type == "int":
                _check_range(field.name, value)


def _check_type(name: str, value: object, kind: str) -> None:
    if type(value).__name__ != kind:  # exactly: True is no int
        raise TypeError(f"{name} must be of type {kind}, got {reprlib.repr(value)}")


def _check_text(name: str, value: str) -> None:
    if not (value.isascii() and value.isprintable()):
        raise ValueError(f"{name} must be printable ASCII, got {value!a}")
    if name in NAMES and not re.fullmatch(NAMES[name], value):
        raise ValueError(f"{name} must be a name, got {value!r}")


def _check_range(name: str, value: int) -> None:
    low, high = RANGES.get(name, OTHER_RANGES)
    if not low <= value <= high:
        raise ValueError(f"{name} must be in [{low}, {high}], got {reprlib.repr(value)}")


@dataclass(frozen=True)
class Target(_Checked):
    """What was compiled for one kind of device.

    Attributes:
        file: its compressed binaries, one after the other, beside the manifest.
        ptxas: the version of NVIDIA's assembler.
        minimum_driver: the CUDA version that a driver must support, as 1000 * major + 10 * minor.
    """

    file: str
    ptxas: str
    minimum_driver: int


@dataclass(frozen=True)
class Binary(_Checked):
    """A program as compiled for one target.

    Attributes:
        symbol: the function's name in the binary.
        shared: bytes of dynamic shared memory per program.
        scratch: bytes of global memory that a launch would have to provide: always 0.
        hidden: how many pointers Triton has appended to the parameters, for scratch memory: they are null.
        offset, length: where the compressed binary lies in the target's file, in bytes.
        sha256: of the binary, uncompressed.
    """

    symbol: str
    shared: int
    scratch: int
    hidden: int
    offset: int
    length: int
    sha256: str


@dataclass(frozen=True)
class Program(_Checked):
    """A kernel with a specialisation.

    Attributes:
        kernel: "file.function".
        arguments: name and type of every argument, in order; ("x", None) is a pointer that is not given.
        constants: the values of the kernel's constant parameters.
        num_warps: per program.
        enable_fp_fusion: whether a product and a sum may be rounded once.
        binaries: by the names of the targets.
    """

    kernel: str
    arguments: tuple[tuple[str, str | None], ...]
    constants: Mapping[str, Any]
    num_warps: int
    enable_fp_fusion: bool
    binaries: Mapping[str, Binary]

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, kind in self.arguments:
            if kind is not None and not (isinstance(kind, str) and (kind in SCALARS or kind.startswith("*"))):
                raise ValueError(f"{name} must be of a type that can be packed, got {reprlib.repr(kind)}")
        for name, value in self.constants.items():
            if not isinstance(value, bool | int | float | str):
                raise TypeError(f"{name} must be a number, a string or a bool, got {reprlib.repr(value)}")

    @property
    def key(self) -> Key:
        """What a launch looks the program up by."""
        pointers = tuple(kind for _, kind in self.arguments if kind is None or kind.startswith("*"))
        constants = frozenset(self.constants.items())
        return self.kernel, self.num_warps, self.enable_fp_fusion, constants, pointers


@dataclass(frozen=True)
class Manifest(_Checked):
    """All of it.

    Attributes:
        sources: `source_hash` of the kernels' folder.
        triton: its version.
        targets: by name: "80" for sm_80, and "ptx".
        programs: in the order in which they were compiled.
    """

    sources: str
    triton: str
    targets: Mapping[str, Target]
    programs: tuple[Program, ...]

    def write(self, folder: Path) -> None:
        """Write the JSON file."""
        text = json.dumps({"format": FORMAT, **asdict(self)}, indent=1)
        (folder / NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the JSON file.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if it is not a manifest of this format.
        """
        contents = (folder / NAME).read_bytes()
        try:
            return _manifest(json.loads(contents.decode()))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = ascii(str(error))[1:-1]  # which can be printed, whatever the file holds
            raise ValueError(f"{folder / NAME} is not a manifest of compiled kernels: {reason}") from error


def _manifest(found: Any) -> Manifest:
    """Make a manifest of what the file holds; the errors are those of reading one."""
    _check_type("the file", found, "dict")
    version = found.pop("format")
    if type(version) is not int or version != FORMAT:
        raise ValueError(f"format {version}, expected {FORMAT}")
    for name, kind in (("targets", "dict"), ("programs", "list")):
        _check_type(name, found[name], kind)
    unknown = [name for name in found["targets"] if not re.fullmatch(TARGETS, name)]
    if unknown:
        raise ValueError(f"a target must be {PTX!r} or the digits of a compute capability, got {unknown[0]!r}")
    targets = {name: Target(**target) for name, target in found.pop("targets").items()}
    programs = tuple(_program(**program) for program in found.pop("programs"))
    if any(program.binaries.keys() != targets.keys() for program in programs):
        raise ValueError("a program lacks a binary")
    return Manifest(targets=targets, programs=programs, **found)


def _program(
    arguments: Iterable[tuple[str, str | None]], constants: Any, binaries: Mapping[str, dict[str, Any]], **others: Any
) -> Program:
    _check_type("constants", constants, "dict")
    found = {name: Binary(**binary) for name, binary in binaries.items()}
    pairs = tuple((name, kind) for name, kind in arguments)
    return Program(arguments=pairs, constants=constants, binaries=found, **others)


def source_hash(folder: Path) -> str:
    """Return the hash of all Python files of the kernels' folder: device functions are inlined across files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()
