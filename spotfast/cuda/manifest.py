"""What an installation says of its compiled kernels: a JSON file beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FORMAT = 1  # of the JSON file
NAME = "manifest.json"
PTX = "ptx"  # the target that the driver compiles, for any device of compute capability 8.0 and above

Key = tuple[str, int, bool, frozenset[tuple[str, Any]], tuple[str | None, ...]]


@dataclass(frozen=True)
class Target:
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
class Binary:
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
class Program:
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

    @property
    def key(self) -> Key:
        """What a launch looks the program up by."""
        pointers = tuple(kind for _, kind in self.arguments if kind is None or kind.startswith("*"))
        constants = frozenset(self.constants.items())
        return self.kernel, self.num_warps, self.enable_fp_fusion, constants, pointers


@dataclass(frozen=True)
class Manifest:
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
        text = (folder / NAME).read_text(encoding="utf-8")
        try:
            fields = json.loads(text)
            version = fields.pop("format")
            if version != FORMAT:
                raise ValueError(f"format {version}, expected {FORMAT}")
            targets = {name: Target(**target) for name, target in fields.pop("targets").items()}
            programs = tuple(_program(**program) for program in fields.pop("programs"))
            if any(program.binaries.keys() != targets.keys() for program in programs):
                raise ValueError("a program lacks a binary")
            return cls(targets=targets, programs=programs, **fields)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{folder / NAME} is not a manifest of compiled kernels: {error}") from error


def _program(
    arguments: Iterable[tuple[str, str | None]], binaries: Mapping[str, dict[str, Any]], **fields: Any
) -> Program:
    found = {name: Binary(**binary) for name, binary in binaries.items()}
    return Program(arguments=tuple((name, kind) for name, kind in arguments), binaries=found, **fields)


def source_hash(folder: Path) -> str:
    """Return the hash of all Python files of the kernels' folder: device functions are inlined across files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        text = path.read_bytes()
        digest.update(f"{path.name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()
