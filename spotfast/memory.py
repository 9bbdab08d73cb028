"""Sizes of memory, as people write them and as they read them."""

from __future__ import annotations

import re
from typing import Any

from spotfast import validation

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

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
