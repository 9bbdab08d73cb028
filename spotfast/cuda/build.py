"""Compiles the kernels into a folder, for the wheel that is being built: `python -m spotfast.cuda.build`.

The same sources, Triton and targets give the same bytes: no line numbers, no paths, no dates, a fixed order.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib
import importlib.util
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import zlib
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spotfast.cuda.manifest import PTX, Binary, Manifest, Program, Target, source_hash

if TYPE_CHECKING:
    from spotfast.kernels.specialisation import Specialisation

TARGETS = ("80", "86", "89", "90", "100", "120")
PTX_OF = "80"  # the target that PTX comes with
MAX_SPECIALISATIONS = 120
MAX_BYTES = 2 << 20  # of a target, compressed: 14 MiB for six and the PTX
# The variables that processes keep beside Python's own: where files, programs and libraries are, and the language.
ENVIRONMENT = {
    "PATH", "HOME", "USER", "LANG", "LANGUAGE", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV",
    "TEMP", "TMP", "SYSTEMROOT", "SYSTEMDRIVE", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "PATHEXT",
}  # fmt: skip
FIRST_DRIVERS = {"80": 11000, "86": 11010, "89": 11080, "90": 12000, "100": 12080, "120": 12080, PTX: 12000}


class BuildError(RuntimeError):
    """The kernels cannot be compiled as asked."""


@dataclass(frozen=True)
class Compiled:
    """One specialisation for one target, as a worker hands it back."""

    symbol: str
    shared: int
    hidden: int
    ptxas: str
    image: bytes


def main(arguments: list[str] | None = None) -> int:
    """Compile for the targets of the command line."""
    parser = argparse.ArgumentParser(prog="python -m spotfast.cuda.build", description=__doc__)
    parser.add_argument("targets", help='as in SPOTFAST_CUDA_TARGETS: "80;90"')
    parser.add_argument("folder", type=Path, help="what to make")
    parser.add_argument("--jobs", type=int, help="processes that compile (default: one per CPU)")
    parser.add_argument("--files", nargs="+", help="compile the kernels of these files only")
    options = parser.parse_args(arguments)
    try:
        manifest = build(parse_targets(options.targets), options.folder, options.jobs, options.files)
    except BuildError as error:
        print(f"spotfast: {error}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in options.folder.iterdir())
    print(f"{len(manifest.programs)} kernels for {', '.join(manifest.targets)}: {size / 2**20:.1f} MiB")
    return 0


def parse_targets(text: str) -> list[str]:
    """Return the targets of a value of SPOTFAST_CUDA_TARGETS, in order.

    Raises:
        BuildError: for one that does not exist.
    """
    names = {name.strip() for name in text.split(";")} - {""}
    unknown = sorted(names - set(TARGETS))
    if unknown or not names:
        found = ", ".join(map(repr, unknown)) or "none"
        raise BuildError(f"SPOTFAST_CUDA_TARGETS must be some of {';'.join(TARGETS)}, got {found}")
    return [name for name in TARGETS if name in names]


def build(targets: list[str], folder: Path, jobs: int | None, files: Collection[str] | None) -> Manifest:
    """Compile every specialisation for some targets and write binaries and manifest.

    The environment of this process changes: see `set_environment`.

    Args:
        targets: as `parse_targets` returns them; "80" brings the PTX along.
        folder: what to make; what it holds is replaced.
        jobs: processes that compile, None for one per CPU.
        files: the names of the kernels' files, None for all.

    Raises:
        BuildError: if something cannot be compiled, or is too much.
    """
    if importlib.util.find_spec("triton") is None:
        raise BuildError("SPOTFAST_CUDA_TARGETS needs triton, which is not installed: pip install triton")
    targets = targets + [PTX] * (PTX_OF in targets)
    with tempfile.TemporaryDirectory() as cache:
        set_environment(cache)
        from spotfast.cuda.compiling import CompilationError, specialisations

        try:
            found = specialisations(files)
            if not 0 < len(found) <= MAX_SPECIALISATIONS:
                raise BuildError(f"{len(found)} specialisations, expected 1 to {MAX_SPECIALISATIONS}")
            work = [(target, number) for target in targets for number in range(len(found))]
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(jobs, mp_context=context) as pool:
                compiled = list(pool.map(functools.partial(_compile, files), work))
        except CompilationError as error:
            raise BuildError(str(error)) from error
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    manifest = _write(folder, targets, found, compiled)
    manifest.write(folder)
    return manifest


def set_environment(cache: str) -> None:
    """Let nothing outside of the sources and of Triton have a say in what is compiled, here and in processes to come.

    Triton, LLVM, MLIR and ptxas read variables under many names, so those that may stay are listed, not those that may
    not.
    """
    for name in list(os.environ):
        if name.upper() not in ENVIRONMENT and not name.startswith(("LC_", "PYTHON")):
            del os.environ[name]
    os.environ["TRITON_CACHE_DIR"] = cache
    os.environ["TRITON_DISABLE_LINE_INFO"] = "1"


def _compile(files: Collection[str] | None, task: tuple[str, int]) -> Compiled:
    """Compile one specialisation for one target, in a process of the pool."""
    from triton.backends.nvidia.compiler import get_ptxas_version

    from spotfast.cuda.compiling import capability, compile_for, hidden_pointers, specialisations

    target, number = task
    _, specialisation = specialisations(files)[number]
    compiled = compile_for(specialisation, target)
    version = re.search(r"\bV(\d+\.\d+\.\d+)", get_ptxas_version(capability(target)))
    if version is None:
        raise BuildError("ptxas does not tell its version")
    return Compiled(
        symbol=compiled.metadata.name,
        shared=compiled.metadata.shared,
        hidden=hidden_pointers(specialisation, compiled),
        ptxas=version[1],
        image=compiled.asm["ptx"].encode() if target == PTX else compiled.asm["cubin"],
    )


def _write(
    folder: Path, targets: list[str], found: list[tuple[str, Specialisation]], compiled: list[Compiled]
) -> Manifest:
    """Write the files of all targets, and return the manifest; `compiled` holds one target after the other."""
    from spotfast.cuda.compiling import arguments, constants

    described, binaries = {}, {}
    for place, target in enumerate(targets):
        part = compiled[place * len(found) : (place + 1) * len(found)]
        described[target], binaries[target] = _write_target(folder, target, part)
    programs = tuple(
        Program(
            kernel=name,
            arguments=arguments(specialisation),
            constants=constants(specialisation),
            num_warps=specialisation.num_warps,
            enable_fp_fusion=specialisation.enable_fp_fusion,
            binaries={target: binaries[target][number] for target in targets},
        )
        for number, (name, specialisation) in enumerate(found)
    )
    sources = source_hash(Path(importlib.import_module("spotfast.kernels").__path__[0]))
    return Manifest(sources, importlib.import_module("triton").__version__, described, programs)


def _write_target(folder: Path, target: str, compiled: list[Compiled]) -> tuple[Target, list[Binary]]:
    """Write the file of a target, and return what the manifest says of it."""
    binaries, parts, offset = [], [], 0
    for result in compiled:
        part = zlib.compress(result.image, 9)
        digest = hashlib.sha256(result.image).hexdigest()
        binaries.append(Binary(result.symbol, result.shared, 0, result.hidden, offset, len(part), digest))
        parts.append(part)
        offset += len(part)
    if offset > MAX_BYTES:
        raise BuildError(f"the kernels for {target} take {offset} bytes, the wheel has room for {MAX_BYTES}")
    file = f"{target}.bin" if target == PTX else f"sm_{target}.bin"
    (folder / file).write_bytes(b"".join(parts))
    ptxas = compiled[0].ptxas
    return Target(file, ptxas, minimum_driver(target, ptxas)), binaries


def minimum_driver(target: str, ptxas: str) -> int:
    """Return the CUDA version that a driver must support: the assembler's major version, which later ones share.

    PTX is written for the first version of its own (see `compiling.PTX_VERSION`), whichever assembler has checked it.
    """
    return FIRST_DRIVERS[target] if target == PTX else max(FIRST_DRIVERS[target], 1000 * int(ptxas.partition(".")[0]))


if __name__ == "__main__":
    sys.exit(main())
