"""How Numba kernels are compiled and run: cached where possible, with our number of threads, one at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import torch

from spotfast.threads import get_num_threads

_lock = threading.Lock()  # not every threading layer of Numba may be entered twice at once
_forked = False  # a child cannot use the thread pool that its parent started


def _after_fork() -> None:
    global _forked, _lock
    _forked, _lock = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class ParallelKernel:
    """A function whose outer loop is a `numba.prange`, compiled when first called.

    Its calls take turns, use as many threads as spotfast does, and leave the settings of Numba and torch as they
    were. In a forked child, which cannot use its parent's thread pool, it runs on one thread.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.__doc__ = function.__doc__
        self._parallel = _compile(function, parallel=True)
        self._serial = _compile(_renamed(function, f"{function.__name__}_serial"), parallel=False)

    def __call__(self, *arguments: Any) -> None:
        """Run the kernel."""
        with _lock:
            if _forked:
                self._serial(*arguments)
                return
            torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
            try:
                numba.set_num_threads(min(get_num_threads(), numba.config.NUMBA_NUM_THREADS))
                self._parallel(*arguments)
            finally:
                numba.set_num_threads(numba_threads)
                # Starting Numba's OpenMP threads raises the setting that torch reads as its own.
                torch.set_num_threads(torch_threads)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call."""
    return _compile(function, parallel=False)


def _renamed(function: Callable[..., None], name: str) -> Callable[..., None]:
    """Return a copy with another name. Numba's cache tells functions apart by name, not by how they are compiled."""
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    copy.__qualname__ = name
    return copy


def _compile(function: Callable[..., Any], parallel: bool) -> Any:
    try:
        return numba.njit(parallel=parallel, cache=True, nogil=True)(function)
    except RuntimeError:  # no folder where the compiled code could be kept is writable
        return numba.njit(parallel=parallel, nogil=True)(function)
