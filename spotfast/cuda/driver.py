"""NVIDIA's driver, as far as launching a kernel needs it: libcuda, which comes with every driver, by ctypes."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

LIBRARY = "libcuda.so.1"
SUCCESS = 0
MAX_DYNAMIC_SHARED_SIZE_BYTES = 8  # CU_FUNC_ATTRIBUTE_...
DEFAULT_SHARED = 48 * 1024  # what a function may use without being told


class DriverError(RuntimeError):
    """The driver is missing, or a call has failed."""


class Driver:
    """The calls that are needed, with errors raised.

    Args:
        library: libcuda, or what takes its place in a test: its functions are called by their names.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self._contexts: dict[int, ctypes.c_void_p] = {}
        self._check("cuInit", ctypes.c_uint(0))
        version = ctypes.c_int()
        self._check("cuDriverGetVersion", ctypes.byref(version))
        self.version = version.value  # the CUDA version that it supports: 1000 * major + 10 * minor

    def make_current(self, device: int) -> None:
        """Make the context that torch uses on a device this thread's: a new thread has none."""
        context = self._contexts.get(device)
        if context is None:
            handle, context = ctypes.c_int(), ctypes.c_void_p()
            self._check("cuDeviceGet", ctypes.byref(handle), ctypes.c_int(device))
            self._check("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
            self._contexts[device] = context
        self._check("cuCtxSetCurrent", context)

    def load(self, image: bytes, symbol: str, shared: int) -> ctypes.c_void_p:
        """Return a function of a binary, loaded into the current context, allowed to use `shared` bytes."""
        module = ctypes.c_void_p()
        self._check("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(image))
        try:
            return self._function(module, symbol, shared)
        except DriverError:
            self._library.cuModuleUnload(module)  # if that fails too, the first error is the one to tell of
            raise

    def _function(self, module: ctypes.c_void_p, symbol: str, shared: int) -> ctypes.c_void_p:
        function = ctypes.c_void_p()
        self._check("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(symbol.encode()))
        if shared > DEFAULT_SHARED:
            attribute = ctypes.c_int(MAX_DYNAMIC_SHARED_SIZE_BYTES)
            self._check("cuFuncSetAttribute", function, attribute, ctypes.c_int(shared))
        return function

    def launch(
        self,
        function: ctypes.c_void_p,
        grid: tuple[int, int, int],
        threads: int,
        shared: int,
        stream: int,
        addresses: ctypes.Array[ctypes.c_void_p],
    ) -> None:
        """Start a function in the current context; `addresses` are those of the values of its parameters."""
        sizes = [ctypes.c_uint(size) for size in (*grid, threads, 1, 1, shared)]
        self._check("cuLaunchKernel", function, *sizes, ctypes.c_void_p(stream), addresses, None)

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != SUCCESS:
            raise DriverError(f"{name} failed: {self._message(status)}")

    def _message(self, status: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(ctypes.c_int(status), ctypes.byref(text))
        return f"error {status}" if text.value is None else f"{text.value.decode()} (error {status})"


@functools.cache
def driver() -> Driver:
    """Return this machine's driver.

    Raises:
        DriverError: without one.
    """
    try:
        return Driver(ctypes.CDLL(LIBRARY))
    except OSError as error:
        raise DriverError(f"{LIBRARY} cannot be loaded: {error}") from error
