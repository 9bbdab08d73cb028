"""Checks that wheels carry the CUDA kernels that they should, whole, and that they are no larger than is allowed.

Usage: python scripts/check_wheel.py [--targets "80;90"] WHEEL...

Without --targets, a wheel may carry kernels for any targets, or none; --targets "" means none. Needs Python alone.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMPILED = "spotfast/cuda/compiled"
KERNELS = "spotfast/kernels"
MAX_BYTES = 4 << 20  # of a wheel without kernels
MAX_TARGET_BYTES = 2 << 20  # more, for each target: what the build allows it


def main(arguments: list[str] | None = None) -> int:
    """Print what is wrong, and a line for each wheel where nothing is; return 0 if nothing is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, nargs="+")
    parser.add_argument("--targets", help='as in SPOTFAST_CUDA_TARGETS: "80;90"')
    options = parser.parse_args(arguments)
    targets = None if options.targets is None else {name.strip() for name in options.targets.split(";")} - {""}
    status = 0
    for wheel in options.wheels:
        found = faults(wheel, targets)
        for line in found:
            print(line, file=sys.stderr)
        if found:
            status = 1
        else:
            print(f"{wheel.name}: {wheel.stat().st_size:,} bytes, nothing is wrong")
    return status


def faults(wheel: Path, targets: Collection[str] | None) -> list[str]:
    """Return a line for all that is wrong with a wheel.

    Args:
        wheel: the file.
        targets: those that it has to carry kernels for, "80" for sm_80, and no others; None if that does not matter.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
            members = [name for name in archive.namelist() if name.startswith((f"{COMPILED}/", f"{KERNELS}/"))]
            archive.extractall(folder, members)
            carried, lines = _kernels(Path(folder), targets)
    except (OSError, zipfile.BadZipFile) as error:
        return [f"{wheel.name}: cannot be read: {error}"]
    size, allowed = wheel.stat().st_size, MAX_BYTES + carried * MAX_TARGET_BYTES
    if size > allowed:
        lines.append(f"{size:,} bytes, allowed are {allowed:,} with {carried} targets")
    return [f"{wheel.name}: {line}" for line in lines]


def _kernels(root: Path, targets: Collection[str] | None) -> tuple[int, list[str]]:
    """Return how many targets the files of a wheel are for, and what is wrong with them."""
    described = _manifest_module()
    folder = root / COMPILED
    if not folder.exists():
        return 0, [f"no compiled kernels, expected {', '.join(sorted(targets))}"] if targets else []
    try:
        manifest = described.Manifest.read(folder)
    except FileNotFoundError:
        return 0, [f"missing: {COMPILED}/{described.NAME}"]
    except (OSError, ValueError) as error:
        return 0, [str(error).replace(f"{root}/", "")]
    lines = []
    carried = set(manifest.targets)
    expected = carried if targets is None else {*targets, *([described.PTX] if "80" in targets else [])}
    if carried != expected:
        lines.append(f"kernels for {_list(carried)}, expected {_list(expected)}")
    if manifest.sources != described.source_hash(root / KERNELS):
        lines.append("the kernels were compiled from other sources than it carries")
    lines += [f"twice in the manifest: {key}" for key, n in Counter(p.key for p in manifest.programs).items() if n > 1]
    found = {path.name for path in folder.iterdir()}
    named = {described.NAME, *(target.file for target in manifest.targets.values())}
    lines += [f"missing: {COMPILED}/{name}" for name in sorted(named - found)]
    lines += [f"too many: {COMPILED}/{name}" for name in sorted(found - named)]
    for name, target in manifest.targets.items():
        if target.file in found:
            data = (folder / target.file).read_bytes()
            lines += [f"{COMPILED}/{target.file}: {line}" for line in _images(name, manifest.programs, data)]
    return len(carried), lines


def _images(target: str, programs: Collection[Any], data: bytes) -> Iterator[str]:
    """Yield what is wrong with the file of a target: it has to hold one image after the other, and nothing besides."""
    end = 0
    for program in sorted(programs, key=lambda program: program.binaries[target].offset):
        binary = program.binaries[target]
        if binary.offset != end:
            yield f"{program.kernel} begins at byte {binary.offset}, expected {end}"
        end = binary.offset + binary.length
        try:
            image = zlib.decompress(data[binary.offset : end])
        except zlib.error as error:
            yield f"{program.kernel} cannot be decompressed: {error}"
            continue
        if hashlib.sha256(image).hexdigest() != binary.sha256:
            yield f"{program.kernel} has another checksum than the manifest says"
        elif binary.symbol.encode() not in image:
            yield f"{program.kernel} has no function {binary.symbol}"
    if end != len(data):
        yield f"{len(data):,} bytes, the manifest has {end:,}"


def _list(targets: Collection[str]) -> str:
    return ", ".join(sorted(targets)) or "no target"


def _manifest_module() -> ModuleType:
    """Import the format of the manifest from this checkout, without the package, which takes torch."""
    name = "manifest_of_checkout"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "spotfast" / "cuda" / "manifest.py")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)  # before it runs: its dataclasses look there
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


if __name__ == "__main__":
    sys.exit(main())
