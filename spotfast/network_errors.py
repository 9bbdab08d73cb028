"""Errors inside anyone's networks, explained."""

from __future__ import annotations

from torch import Tensor


def explain(error: Exception, method: str, **tensors: Tensor) -> None:
    """Say of an error inside a network, as a note, what the network was called with.

    Whether inputs fit its `forward`, and its tables the ids, only the network itself can find out.

    Args:
        error: what it raised.
        method: what was called.
        tensors: what it was called with; the last one holds ids of items.
    """
    called = ", ".join(f"{name} of shape {tuple(tensor.shape)}" for name, tensor in tensors.items())
    *_, ids = tensors.values()
    error.add_note(f"raised in {method} of representation, called with {called}, item ids up to {ids.max()}")
