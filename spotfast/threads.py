"""How many threads the CPU engines use."""

from __future__ import annotations

_setting: dict[str, int | None] = {"threads": None}


def set_num_threads(threads: int | None) -> None:
    """Set how many threads spotfast uses on the CPU; results do not depend on it.

    Args:
        threads: at least 1; None for as many as torch uses (`torch.get_num_threads()`), which is the default.

    Raises:
        ValueError, TypeError: for anything else.

    Example:
        >>> set_num_threads(1)
        >>> get_num_threads()
        1
        >>> set_num_threads(None)
    """
    from spotfast import validation  # numpy, which importing spotfast does not need

    _setting["threads"] = None if threads is None else validation.integer("threads", threads, 1, 1024)


def get_num_threads() -> int:
    """Return how many threads spotfast uses on the CPU."""
    chosen = _setting["threads"]
    if chosen is not None:
        return chosen
    import torch

    return torch.get_num_threads()
