"""A kernel's arguments as the driver wants them: an address for each, of a value of the right size."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

import torch

from spotfast.cuda.manifest import SCALARS

POINTER = "P"
# The names of pointers, as in a manifest, by what they point to.
POINTERS = {
    torch.bool: "*i1", torch.int8: "*i8", torch.int16: "*i16", torch.int32: "*i32", torch.int64: "*i64",
    torch.uint8: "*u8", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32",
    torch.float64: "*fp64",
}  # fmt: skip


class Packing:
    """Packs the values of arguments of given types.

    Args:
        kinds: Triton's name of each type, a key of `SCALARS` or one that begins with "*".
        hidden: how many null pointers follow.
    """

    def __init__(self, kinds: Sequence[str], hidden: int) -> None:
        codes = [POINTER if kind.startswith("*") else SCALARS[kind] for kind in kinds] + [POINTER] * hidden
        layout = "@" + "".join(codes)  # native sizes and alignments
        self._pack = struct.Struct(layout).pack_into
        self._offsets = [
            struct.calcsize(layout[: place + 2]) - struct.calcsize("@" + code) for place, code in enumerate(codes)
        ]
        self._nulls = (0,) * hidden
        self._block = ctypes.c_char * max(1, struct.calcsize(layout))
        self._addresses = ctypes.c_void_p * len(codes)

    def pack(self, values: Sequence[int | float]) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_void_p]]:
        """Return a block of memory with the values, which must be kept until the launch, and the address of each.

        Raises:
            struct.error: for a value beyond the range of its type, or a wrong number of them.
        """
        block = self._block()
        self._pack(block, 0, *values, *self._nulls)
        begin = ctypes.addressof(block)
        return block, self._addresses(*[begin + offset for offset in self._offsets])
