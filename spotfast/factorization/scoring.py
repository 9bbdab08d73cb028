"""How a fitted factorization network scores users for items, outside training.

A plain `BilinearNet` is scored from its vectors (`spotfast.ops.scores`), any other network by calling it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from spotfast.factorization.calling import is_plain_bilinear, pair_scores
from spotfast.factorization.representations import BilinearNet
from spotfast.layers import ScaledEmbedding, ZeroEmbedding
from spotfast.ops import scores

CALLED_PAIRS = 1 << 18  # pairs per call of someone's network

Link = Callable[[Tensor], Tensor]


class Scorer(Protocol):
    """Scores of users for items, on the network's device."""

    def matrix(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Score users (U,) for all items: float32 of shape (U, num_items), in `out` if that saves a copy."""
        ...

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs of users (P,) and items (P,): float32 of shape (P,), by vectors to the bit as in `matrix`."""
        ...


def make_scorer(net: nn.Module, num_items: int, link: Link) -> Scorer:
    """Return the fastest scorer that serves this network.

    Args:
        net: maps user ids (B,) and item ids (B,) to scores (B,).
        num_items: the items that `matrix` scores are 0 .. num_items - 1.
        link: from the network's scores to predictions.
    """
    if (
        isinstance(net, BilinearNet)
        and is_plain_bilinear(net)
        and all(p.dtype == torch.float32 for p in net.parameters())
    ):
        return VectorScorer(net, num_items, link)
    return CallingScorer(net, num_items, link)


class VectorScorer:
    """Scores by vectors and biases."""

    def __init__(self, net: BilinearNet, num_items: int, link: Link) -> None:
        self._net = net
        self._link = link
        device = next(net.parameters()).device
        with evaluating(net):
            all_items = torch.arange(num_items, device=device)
            vectors, index = _vectors(net.item_embeddings, net.item_vectors, all_items)
            self._item_vectors = vectors[:num_items] if index is all_items else vectors[index]
            self._item_biases = _column(net.item_biases, all_items)

    def matrix(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Score users for all items."""
        with evaluating(self._net):
            vectors, index = _vectors(self._net.user_embeddings, self._net.user_vectors, users)
            biases = _column(self._net.user_biases, users)
            return self._link(scores.scores(vectors[index], biases, self._item_vectors, self._item_biases, out=out))

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        with evaluating(self._net):
            distinct, index = users.unique(return_inverse=True)
            vectors, rows = _vectors(self._net.user_embeddings, self._net.user_vectors, distinct)
            biases = _column(self._net.user_biases, distinct)
            return self._link(
                scores.pair_scores(vectors[rows], biases, self._item_vectors, self._item_biases, index, items)
            )


class CallingScorer:
    """Scores by calling the network, always with the same number of pairs for the same request."""

    def __init__(self, net: nn.Module, num_items: int, link: Link) -> None:
        self._net = net
        self._num_items = num_items
        self._link = link

    def matrix(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Score users for all items."""
        items = torch.arange(self._num_items, device=users.device)
        return torch.stack([self.pairs(user.expand(self._num_items), items) for user in users])

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        with evaluating(self._net):
            chunks = zip(users.split(CALLED_PAIRS), items.split(CALLED_PAIRS), strict=True)
            called = [pair_scores(self._net, *chunk) for chunk in chunks]
            return self._link(torch.cat(called)).float()


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


def _vectors(layer: nn.Module, lookup: Callable[[Tensor], Tensor], ids: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors, and the row of each id among them: the table itself where the layer is nothing but a table."""
    if (
        isinstance(layer, nn.Embedding)
        and type(layer) in (nn.Embedding, ScaledEmbedding, ZeroEmbedding)
        and layer.max_norm is None
        and not layer._forward_hooks
        and not layer._forward_pre_hooks
    ):
        return layer.weight.detach(), ids
    return lookup(ids).contiguous(), torch.arange(len(ids), device=ids.device)


def _column(layer: nn.Module, ids: Tensor) -> Tensor:
    return layer(ids).reshape(-1).contiguous()
