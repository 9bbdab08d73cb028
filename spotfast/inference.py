"""What scoring outside training needs: networks in evaluation mode, and the vectors and biases of their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spotfast import hooks
from spotfast.layers import TABLES


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put the network into evaluation mode without gradients; afterwards every module is in the mode it was in."""
    training = {module: module.training for module in net.modules()}
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in training.items():
            module.training = mode


def vectors_of(layer: nn.Module, lookup: Callable[[Tensor], Tensor], ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors, and the row of each id (N,) among them: the table itself where the layer is nothing but one.

    Args:
        layer: the layer of the vectors.
        lookup: a function from ids (N,) to vectors (N, D), for layers of other kinds.
        ids: int64 tensor of shape (N,).
    """
    seen = hooks.see_calls_of(layer)
    if isinstance(layer, nn.Embedding) and type(layer) in TABLES and layer.max_norm is None and not seen:
        return layer.weight.detach(), ids
    return lookup(ids).contiguous(), torch.arange(len(ids), device=ids.device)


def rows_of(vectors: Tensor, index: Tensor) -> Tensor:
    """Return rows (N, D) of vectors by their numbers (N,).

    On the CPU by one thread: torch's threads would go on waiting for work on the cores that the engine uses next.
    """
    return (
        torch.from_numpy(vectors.numpy()[index.numpy()])
        if vectors.is_cpu and vectors.dtype == torch.float32
        else vectors[index]
    )


def biases_of(layer: nn.Module, ids: Tensor) -> Tensor:
    """Return the biases of ids (N,), a tensor (N,) of its own that may be written to."""
    return layer(ids).reshape(-1).clone()
