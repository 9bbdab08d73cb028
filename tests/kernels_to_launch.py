"""Kernels as a build leaves them, what they are asked for by, and what damages them: of several files of tests."""

from __future__ import annotations

import hashlib
import zlib

from spotfast.cuda.device import Device
from spotfast.cuda.manifest import Binary, Manifest, Program, Target, source_hash
from spotfast.cuda.shipped import Shipped

H100 = Device(0, (9, 0), 13000)
A10 = Device(1, (8, 6), 12040)
NEWEST = Device(0, (12, 1), 13000)
TYPES = {"*fp32": "P", "i32": "i", "i64": "q", "fp32": "f", "u64": "Q"}  # the codes of Python's struct
ARGUMENTS = (("out", "*fp32"), ("n", "i32"), ("seed", "u64"), ("absent", None), ("scale", "fp32"), ("start", "i64"))
VALUES = (0x7000, -3, 2**64 - 1, 0.25, -(2**40))


def image(kernel, target):
    """What the driver is handed of a kernel."""
    return f"{kernel} for {target}".encode() * 20


def ship(folder, targets=("80", "86", "90", "ptx"), kernels=("file.a_kernel",), shared=1024):
    """Write compiled kernels as a build does; return what they are as an installation's."""
    sources, compiled = folder / "kernels", folder / "compiled"
    for place in (sources, compiled):
        place.mkdir(exist_ok=True)
    (sources / "file.py").write_text("def a_kernel(): pass\n")
    described, binaries = {}, {kernel: {} for kernel in kernels}
    for target in targets:
        parts = b""
        for kernel in kernels:
            part = zlib.compress(image(kernel, target))
            digest = hashlib.sha256(image(kernel, target)).hexdigest()
            symbol = kernel.partition(".")[2]
            binaries[kernel][target] = Binary(symbol, shared, 0, 2, len(parts), len(part), digest)
            parts += part
        (compiled / f"{target}.bin").write_bytes(parts)
        described[target] = Target(f"{target}.bin", "12.9.86", 13000 if target == "90" else 12000)
    programs = tuple(Program(kernel, ARGUMENTS, {"BLOCK": 32}, 4, False, binaries[kernel]) for kernel in kernels)
    Manifest(source_hash(sources), "3.9.0", described, programs).write(compiled)
    return Shipped(compiled, sources)


def key(**changes):
    """What a launch of `file.a_kernel` is found by, or another launch."""
    fields = {"kernel": "file.a_kernel", "num_warps": 4, "fusion": False, "constants": {"BLOCK": 32}}
    fields |= {"pointers": ("*fp32", None)} | changes
    return (*list(fields.values())[:3], frozenset(fields["constants"].items()), fields["pointers"])


def corrupt(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def swap(path):
    path.write_bytes(zlib.compress(b"another kernel" * 30).ljust(path.stat().st_size, b"\0"))


DAMAGES = {
    "corrupt": (corrupt, "compiled kernels are corrupt: .*90.bin"),
    "swapped": (swap, "compiled kernels are corrupt: .*90.bin"),
    "cut": (lambda path: path.write_bytes(path.read_bytes()[:9]), "compiled kernels are corrupt: .*90.bin"),
    "missing": (lambda path: path.unlink(), "compiled kernels are missing: .*90.bin cannot be read"),
}
