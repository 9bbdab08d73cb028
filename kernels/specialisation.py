"""What a kernel is compiled for: the types of its pointers and the values of its constants."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Specialisation:
    """One compiled form of a kernel.

    Attributes:
        kernel: the jitted function.
        pointers: the type of what each pointer parameter points to, as "*fp32"; scalars have annotations.
        constants: the value of each constant parameter; None for a pointer that is not given.
        num_warps: per program.
        enable_fp_fusion: whether a product and a sum may be rounded once.
        registers: how many registers a thread may use; above 128 only with a reason.
        local_bytes: how many bytes of local memory a thread may use; above 0 only with a reason.
        reason: why.
    """

    kernel: Any
    pointers: Mapping[str, str]
    constants: Mapping[str, Any]
    num_warps: int = 4
    enable_fp_fusion: bool = False
    registers: int = 128
    local_bytes: int = 0
    reason: str = ""
