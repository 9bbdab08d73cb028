"""How every launcher starts a kernel: as it was compiled ahead of time, or by Triton's compiler."""

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from spotfast.cuda.choice import ALIGNMENT, JIT
from spotfast.cuda.device import Device
from spotfast.cuda.functions import KernelMissingError, find
from spotfast.cuda.packing import POINTERS
from spotfast.cuda.shipped import shipped

_functions: dict[tuple[Any, ...], Any] = {}  # None where Triton compiles, an error where it cannot
_lock = threading.Lock()
_rehearsals = threading.local()  # .depth: how many this thread is in


@contextlib.contextmanager
def rehearsal() -> Iterator[None]:
    """Within it, launches of this thread find or compile, and load, what would run, and start nothing.

    What changes tables step by step does so first: a missing kernel is an error before anything has changed.
    """
    _rehearsals.depth = getattr(_rehearsals, "depth", 0) + 1
    try:
        yield
    finally:
        _rehearsals.depth -= 1


def is_rehearsal() -> bool:
    """Return whether launches start nothing."""
    return getattr(_rehearsals, "depth", 0) > 0


def aligned(tensor: Tensor) -> Tensor:
    """Return a tensor that begins at a multiple of 16 bytes, for kernels that only read it: this one or a packed copy.

    A slice may begin anywhere. Kernels that were compiled ahead of time take the alignment for granted, and Triton
    would compile one more for those that are not.
    """
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone(memory_format=torch.contiguous_format)


def packed(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor that begins at a multiple of 16 bytes: this one or a copy, as `aligned` does."""
    return aligned(tensor.contiguous())


def launch(
    kernel: Any,
    grid: tuple[int, ...],
    *arguments: Any,
    num_warps: int = 4,
    enable_fp_fusion: bool = False,
    **constants: Any,
) -> None:
    """Start a kernel on the device of its tensors and on torch's current stream there.

    The first start of its kind on a device chooses, compiles and loads what runs it, outside of any capture of a
    graph. In a `rehearsal`, that is all.

    Args:
        kernel: the jitted function.
        grid: programs along up to three axes, all at least 1.
        *arguments: tensors, integers, floats, and None for pointers that are not given, in the order of the kernel's
            parameters.
        num_warps: per program.
        enable_fp_fusion: whether a product and a sum may be rounded once.
        **constants: the kernel's constant parameters.

    Raises:
        KernelMissingError: if the kernel was not compiled for this device and cannot be.
        RuntimeError: likewise, where SPOTFAST_AOT=require is set; or for an error of the driver.
    """
    values: list[int | float] = []
    types: list[torch.dtype | None] = []
    tensor, bits = None, 0
    for argument in arguments:
        if isinstance(argument, Tensor):
            pointer = argument.data_ptr()
            bits |= pointer
            tensor = argument
            values.append(pointer)
            types.append(argument.dtype)
        elif argument is None:
            types.append(None)
        else:
            values.append(argument)
    options = {"num_warps": num_warps, "enable_fp_fusion": enable_fp_fusion}
    if tensor is None or tensor.device.type != "cuda":  # the interpreter
        if not is_rehearsal():
            kernel[grid](*arguments, **constants, **options)
        return
    device = tensor.device.index
    aligned = bits % ALIGNMENT == 0
    key = (kernel.fn, device, num_warps, enable_fp_fusion, frozenset(constants.items()), tuple(types), aligned)
    with torch.cuda.device_of(tensor):
        known = key in _functions
        function = _functions[key] if known else _find(key)
        if isinstance(function, KernelMissingError):
            raise KernelMissingError(*function.args)
        if function is None and (is_rehearsal() or not known):
            function = _compile(key, kernel, grid, arguments, constants | options)
        if is_rehearsal():
            return
        if function is None:
            kernel[grid](*arguments, **constants, **options)
        else:
            function(grid, values)


def _find(key: tuple[Any, ...]) -> Any:
    """Choose what runs a launch and remember it."""
    with _lock:
        if key not in _functions:
            _functions[key] = _choose(key, {})
        return _functions[key]


def _choose(key: tuple[Any, ...], broken: Mapping[str, str]) -> Any:
    """Return what runs a launch, None where Triton compiles it; `broken` is what has failed before."""
    function, device, num_warps, enable_fp_fusion, constants, types, aligned = key
    pointers = tuple(None if dtype is None else POINTERS.get(dtype, str(dtype)) for dtype in types)
    known = (_name(function), num_warps, enable_fp_fusion, constants, pointers)
    return find(known, Device.of(device), aligned, shipped(), broken)


def _compile(
    key: tuple[Any, ...], kernel: Any, grid: tuple[int, ...], arguments: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Let Triton compile and load what it is to run; it remembers that by itself, for each alignment of pointers.

    Whatever goes wrong there, what is next runs, which is returned and remembered; or that there is nothing is.
    """
    try:
        compiled = kernel.warmup(*arguments, grid=grid, **options)
        if compiled is not None:
            _ = compiled.run  # what launches it, made and loaded at the first access
    except Exception as error:
        try:
            _functions[key] = _choose(key, {JIT: f"Triton cannot compile it: {type(error).__name__}: {error}"})
        except KernelMissingError as missing:
            _functions[key] = missing
            raise missing from error
    return _functions[key]


def _name(function: Any) -> str:
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
