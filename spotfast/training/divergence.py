"""Training that diverged: the error, and what is left behind in the network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

WHAT_TO_DO = "make a new model (with a new representation, if one was passed in), or load a saved one"


class DivergedError(ValueError):
    """The loss of an epoch is not finite."""


@contextmanager
def from_finite_parameters(net: nn.Module, undone: bool) -> Iterator[None]:
    """Train in the block.

    Args:
        net: what is trained.
        undone: whether nobody sees the network again if the block raises.

    Raises:
        ValueError: before the block, if a parameter to train is not finite.
        DivergedError: that of the block, with what the network is now, unless it is undone.
    """
    infinite = _not_finite(net)
    if infinite is not None:
        raise ValueError(f"the network's {infinite}: no training can go on from there. To go on, {WHAT_TO_DO}")
    try:
        yield
    except DivergedError as error:
        if undone:
            raise
        infinite = _not_finite(net)
        found = "" if infinite is None else f" (its {infinite})"
        raise DivergedError(f"{error}. The network keeps the steps taken{found}: to go on, {WHAT_TO_DO}") from None


def _not_finite(net: nn.Module) -> str | None:
    """Name the first parameter to train that is not finite, and a value of it; None if there is none."""
    for name, parameter in net.named_parameters():
        if parameter.requires_grad and parameter.is_floating_point() and parameter.numel():
            for value in map(float, parameter.detach().aminmax()):  # NaN if there is one; no copy, unlike `isfinite`
                if not math.isfinite(value):
                    return f"parameter {name} holds {value}"
    return None
