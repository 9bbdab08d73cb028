"""Sizes of memory, as people write them and as they read them; and what to say where there is none on the host."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spotfast import validation

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

# In the texts of errors for too little memory, of torch and then of NumPy, where they have no type of their own.
_TOO_LARGE = (
    *("DefaultCPUAllocator", "Storage size calculation overflowed"),
    *("array is too big", "Maximum allowed dimension exceeded"),
)
_WRITTEN = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")


def as_bytes(name: str, size: Any) -> int:
    """Return a size in bytes.

    Args:
        name: of the argument, for messages.
        size: an integer of at least 1, in bytes; or a number and a unit, as "512MB" or "1.5 GiB".

    Raises:
        ValueError, TypeError: naming the argument.

    Example:
        >>> as_bytes("memory_budget", "1.5 kB"), as_bytes("memory_budget", 2048)
        (1500, 2048)
    """
    if not isinstance(size, str):
        return validation.integer(name, size, 1)
    written = _WRITTEN.fullmatch(size)
    units = {unit.lower(): factor for unit, factor in UNITS.items()}
    if written is None or written[2].lower() not in units:
        raise ValueError(f"{name} must be bytes, or a number and one of {', '.join(UNITS)}, got {size!r}")
    return validation.integer(name, int(float(written[1]) * units[written[2].lower()]), 1)


def readable(size: int) -> str:
    """Return bytes as a short text, in whole units and rounded up.

    Example:
        >>> readable(999), readable(1_234_567)
        ('999 B', '1235 kB')
    """
    unit = "B"
    for larger in ("kB", "MB", "GB"):
        if size >= 10 * UNITS[larger] or (unit == "B" and size >= UNITS[larger]):
            unit = larger
    return f"{-(-size // UNITS[unit])} {unit}"


def most_within(memory_budget: int | str | None, size: int, num_bytes: Callable[[int], int], hint: str = "") -> int:
    """Return how large blocks may be.

    Args:
        memory_budget: as `as_bytes` takes it, or None: no limit.
        size: the largest that makes sense, at least 1.
        num_bytes: maps a size to the memory that is in use with blocks of it.
        hint: what the message says besides, if the budget does not even suffice for blocks of one.

    Raises:
        ValueError: if the budget does not suffice.

    Example:
        >>> most_within("1 kB", 64, lambda size: 100 * size)
        8
    """
    if memory_budget is None:
        return size
    budget = as_bytes("memory_budget", memory_budget)
    while size > 1 and num_bytes(size) > budget:
        size = (size + 1) // 2
    needed = num_bytes(size)
    if needed > budget:
        raise ValueError(f"memory_budget must be at least {readable(needed)} here{hint}, got {memory_budget!r}")
    return size


@contextmanager
def allocating(what: str, num_bytes: int) -> Iterator[None]:
    """In the block, a failure to allocate memory on the host is an error that says what it was for.

    CUDA devices have `spotfast.device_memory`.

    Args:
        what: names the arguments, and ends with "take".
        num_bytes: how much that is.

    Raises:
        MemoryError: from the error of NumPy or torch.
    """
    try:
        yield
    except (MemoryError, RuntimeError, ValueError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in _TOO_LARGE):
            raise
        raise MemoryError(f"{what} {readable(num_bytes)}, more than can be allocated") from error
