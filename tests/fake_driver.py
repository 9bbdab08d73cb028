"""A library that takes the place of the CUDA driver: of several files of tests."""

from __future__ import annotations

import ctypes
import itertools
import struct


def launched(library, function, *rest):
    """What a launch was asked for: function, sizes, stream, and the values at the addresses."""
    *sizes, stream, addresses, extra = rest
    assert extra is None
    values = [
        struct.unpack(f"@{code}", ctypes.string_at(address, struct.calcsize(f"@{code}")))[0]
        for code, address in zip(library.types, addresses, strict=True)
    ]
    return function.value, [size.value for size in sizes], stream.value, values


# What a function of the driver puts into its first argument, and what of its arguments matters.
OUTPUTS = {
    "cuDriverGetVersion": lambda library: library.version,
    "cuDeviceGet": lambda library, index: 50 + index.value,
    "cuDevicePrimaryCtxRetain": lambda library, handle: handle.value + 1000,
    "cuModuleLoadData": lambda library, image: next(library.handles),
    "cuModuleGetFunction": lambda library, module, symbol: module.value + 5000,
}
INPUTS = {
    "cuInit": lambda library, flags: flags.value,
    "cuCtxSetCurrent": lambda library, context: context.value,
    "cuModuleLoadData": lambda library, module, image: image.value,
    "cuModuleGetFunction": lambda library, function, module, symbol: symbol.value.decode(),
    "cuModuleUnload": lambda library, module: module.value,
    "cuFuncSetAttribute": lambda library, function, name, value: (function.value, name.value, value.value),
    "cuLaunchKernel": launched,
}


class FakeLibrary:
    """Takes libcuda's place, records its calls, and reads a launch's arguments from where they would be read.

    Attributes:
        calls: (name, what matters of the arguments).
        failing: the names of functions that report an error.
    """

    def __init__(self, types=(), version=13000):
        self.calls, self.failing, self.types, self.version = [], set(), types, version
        self.handles = itertools.count(100)

    def __getattr__(self, name):
        if name not in OUTPUTS and name not in INPUTS:
            raise AttributeError(name)

        def call(*arguments):
            if name in self.failing:
                self.calls.append((name, "failed"))
                return 209
            if name in OUTPUTS:
                arguments[0]._obj.value = OUTPUTS[name](self, *arguments[1:])
            self.calls.append((name, INPUTS.get(name, lambda *_: None)(self, *arguments)))
            return 0

        return call

    def cuGetErrorString(self, status, text):  # noqa: N802
        text._obj.value = b"no kernel image" if status.value == 209 else None
        return 0

    def called(self, name):
        return [what for other, what in self.calls if other == name]
