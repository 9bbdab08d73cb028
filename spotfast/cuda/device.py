"""A CUDA device, as far as what runs a kernel depends on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from spotfast.cuda.driver import DriverError, driver


@dataclass(frozen=True)
class Device:
    """What the choice depends on.

    Attributes:
        index: torch's number of the device.
        capability: its compute capability.
        driver: the CUDA version that the driver supports, 1000 * major + 10 * minor; 0 where it cannot be loaded.
        trouble: why it cannot.
    """

    index: int
    capability: tuple[int, int]
    driver: int
    trouble: str = field(default="", compare=False)

    @classmethod
    def of(cls, index: int) -> Device:
        """Ask torch and the driver."""
        capability = torch.cuda.get_device_capability(index)
        try:
            return cls(index, capability, driver().version)
        except DriverError as error:
            return cls(index, capability, 0, str(error))

    def too_old_for(self, what: str, needed: int) -> str | None:
        """Return why the driver does not run what needs a CUDA version, as in `driver`, or None if it does."""
        if self.driver == 0:
            return f"the CUDA driver cannot be loaded: {self.trouble}"
        if self.driver >= needed:
            return None
        return f"the driver is too old: it supports CUDA {_version(self.driver)}, {what} needs {_version(needed)}"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
