"""Categories of warnings, and warnings that are given once."""

import warnings

_given: set[str] = set()


class PerformanceWarning(UserWarning):
    """Results are as they should be, but they take far longer than they could."""


def slow_once(message: str, stacklevel: int = 3) -> None:
    """Give a `PerformanceWarning`, unless it has been given before: of what is met again at every step."""
    if message not in _given:
        _given.add(message)
        warnings.warn(message, PerformanceWarning, stacklevel=stacklevel)
