"""What scoring outside training needs: networks in evaluation mode, and the vectors and biases of their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn

from spotfast import hooks
from spotfast.deferred_table import DeferredTable, catch_up
from spotfast.layers import TABLES

Lookup = Callable[[Tensor], Tensor]

LOOKED_UP = 1 << 12  # ids at once, of all


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


def vectors_of(layer: nn.Module, lookup: Lookup, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors, and the row of each id (N,) among them: the table itself where the layer is nothing but one.

    Args:
        layer: the layer of the vectors.
        lookup: a function from ids (N,) to vectors (N, D), for layers of other kinds.
        ids: int64 tensor of shape (N,).
    """
    if _is_table(layer):
        catch_up(layer, ids)
        return layer.weight.detach(), ids
    return lookup(ids).contiguous(), torch.arange(len(ids), device=ids.device)


def all_vectors(layer: nn.Module, lookup: Lookup, every: Tensor) -> tuple[Tensor, int]:
    """Return the vectors (N, D) of the ids 0 .. N - 1, and the bytes made for them: 0 for the table itself.

    Args:
        layer: as in `vectors_of`.
        lookup: likewise.
        every: the ids 0 .. N - 1 in order.
    """
    if _is_table(layer):
        return vectors_of(layer, lookup, every)[0][: len(every)], 0
    first, *others = every.split(LOOKED_UP)  # some at a time: layers of other kinds need more for an id than its vector
    some = lookup(first)
    vectors = some.new_empty(len(every), some.shape[1])
    vectors[: len(first)] = some
    for ids in others:
        vectors[ids[0] : ids[-1] + 1] = lookup(ids)
    return vectors, vectors.nbytes


def _is_table(layer: nn.Module) -> TypeGuard[nn.Embedding]:
    """Tell whether all that a layer does is to look up rows, brought up to date by `DeferredAdam` perhaps."""
    if not isinstance(layer, nn.Embedding) or type(layer) not in TABLES or layer.max_norm is not None:
        return False
    if layer._forward_hooks or hooks.on_all_modules():
        return False
    return all(map(DeferredTable.owns, layer._forward_pre_hooks.values()))


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
