"""Compiled kernels as functions to be called: loaded once per device, found again by what a launch is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from spotfast.cuda.choice import Choice, choose_working, mode
from spotfast.cuda.device import Device
from spotfast.cuda.driver import Driver, driver
from spotfast.cuda.manifest import Key, Program
from spotfast.cuda.packing import Packing
from spotfast.cuda.shipped import Shipped
from spotfast.warnings import slow_once


class KernelMissingError(RuntimeError):
    """A kernel was not compiled for what it is to run on, and nothing here can compile it: the reference can run."""


class Function:
    """A compiled kernel on one device.

    Args:
        program: what it is.
        target: the name of the target.
        image: the binary.
        device: torch's number of the device.
        driver: what loads and launches it.

    Raises:
        DriverError: if the driver does not load it.
    """

    def __init__(self, program: Program, target: str, image: bytes, device: int, driver: Driver) -> None:
        binary = program.binaries[target]
        kinds = [kind for _, kind in program.arguments if kind is not None]
        self._packing = Packing(kinds, binary.hidden)
        self._device, self._driver = device, driver
        self._threads, self._shared = 32 * program.num_warps, binary.shared
        driver.make_current(device)
        self._handle = driver.load(image, binary.symbol, binary.shared)

    def __call__(self, grid: tuple[int, ...], values: Sequence[int | float]) -> None:
        """Start it on the current stream of its device.

        Args:
            grid: programs along up to three axes.
            values: of the arguments that are given; addresses for tensors.
        """
        x, y, z = (*grid, 1, 1)[:3]
        block, addresses = self._packing.pack(values)
        stream = torch.cuda.current_stream(self._device).cuda_stream
        self._driver.make_current(self._device)
        self._driver.launch(self._handle, (x, y, z), self._threads, self._shared, stream, addresses)
        del block  # not before: the addresses point into it, until the driver has copied the values


def find(
    key: Key, device: Device, aligned: bool, shipped: Shipped, broken: Mapping[str, str] | None = None
) -> Function | None:
    """Return what runs a launch, or None where Triton compiles the kernel.

    Warns, once of each, of what is wrong with the compiled kernels.

    Args:
        key: what is launched.
        device: where.
        aligned: whether all pointers are multiples of 16 bytes.
        shipped: what the installation carries.
        broken: as for `choose`: what has failed before.

    Raises:
        KernelMissingError: if nothing here can run it.
        RuntimeError: likewise, where SPOTFAST_AOT=require wants no other to take over.
    """
    program = shipped.find(key)

    def load(target: str) -> Function:
        assert program is not None  # or there would be no target
        return Function(program, target, shipped.image(target, program.binaries[target]), device.index, driver())

    programs = [] if program is None else [program]
    choice, function = choose_working(programs, shipped, device, aligned, load, broken)
    if choice.source == "reference":
        error = RuntimeError if mode() == "require" else KernelMissingError
        raise error(f"the kernel {key[0]} cannot run on cuda:{device.index}: {choice.reason}")
    if choice.fault:
        _warn(choice)
    return function


def _warn(choice: Choice) -> None:
    compiler = {"JIT": "Triton compiles them", "PTX": "The driver compiles their PTX"}[choice.source]
    slow_once(f"kernels are not run as they were compiled ahead of time: {choice.reason}. {compiler} at the first call")
