"""A launch's arguments are where the driver reads them, as the bytes that it expects."""

from __future__ import annotations

import ctypes
import struct

import pytest
import torch

from spotfast.cuda.manifest import SCALARS
from spotfast.cuda.packing import POINTERS, Packing


class TestPacking:
    @pytest.mark.parametrize(("kind", "values"), {
        "i1": (False, True), "i8": (-128, 127), "i16": (-(2**15), 2**15 - 1), "i32": (-(2**31), 2**31 - 1),
        "i64": (-(2**63), 2**63 - 1), "u8": (0, 255), "u16": (0, 2**16 - 1), "u32": (0, 2**32 - 1),
        "u64": (0, 2**64 - 1), "fp32": (-0.5, 3.0), "fp64": (0.1, 1e300), "*fp32": (0, 2**64 - 16),
    }.items())  # fmt: skip
    def test_every_type(self, kind, values):
        """Both values, between others that shift them, at addresses of the right alignment."""
        code = "P" if kind.startswith("*") else SCALARS[kind]
        size = struct.calcsize(f"@{code}")
        block, addresses = Packing(["i8", kind, "i8", kind], 1).pack([1, values[0], 2, values[1]])
        assert [address % size for address in addresses[1:4:2]] == [0, 0]
        found = [struct.unpack(f"@{code}", ctypes.string_at(address, size))[0] for address in addresses[1:4:2]]
        assert tuple(found) == values
        assert ctypes.string_at(addresses[4], 8) == bytes(8)
        assert addresses[4] + 8 <= ctypes.addressof(block) + len(block)

    def test_all_scalars_are_tested(self):
        names = self.test_every_type.pytestmark[0].args[1]
        assert {kind for kind, _ in names} == {*SCALARS, "*fp32"}

    @pytest.mark.parametrize(("kind", "value"), [("i32", 2**31), ("u32", -1), ("u64", 2**64), ("i64", 0.5)])
    def test_out_of_range(self, kind, value):
        with pytest.raises(struct.error):
            Packing([kind], 0).pack([value])

    @pytest.mark.parametrize("values", [(), (1,), (1, 2, 3)])
    def test_wrong_number(self, values):
        with pytest.raises(struct.error):
            Packing(["i32", "i32"], 0).pack(values)

    def test_pointers(self):
        assert POINTERS[torch.bfloat16] == "*bf16"
        assert all(name[1:] in {*SCALARS, "bf16", "fp16"} for name in POINTERS.values())
