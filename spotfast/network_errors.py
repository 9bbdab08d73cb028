"""Errors inside anyone's networks, explained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor


@contextmanager
def explained(method: str, **tensors: Tensor) -> Iterator[None]:
    """Say of an error inside a network, as a note, what the network was called with.

    Whether inputs fit its `forward`, and its tables the ids, only the network itself can find out.

    Args:
        method: what was called.
        tensors: what it was called with; the last one holds ids of items.
    """
    try:
        yield
    except Exception as error:
        called = ", ".join(f"{name} of shape {tuple(tensor.shape)}" for name, tensor in tensors.items())
        *_, ids = tensors.values()
        error.add_note(f"raised in {method} of representation, called with {called}, item ids up to {ids.max()}")
        raise
