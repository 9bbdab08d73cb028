"""How a fitted factorization network scores users for items, outside training.

A plain `BilinearNet` is scored from its vectors (`spotfast.ops.scores`), any other network by calling it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from spotfast.factorization.calling import is_plain_bilinear, pair_scores
from spotfast.factorization.representations import BilinearNet
from spotfast.inference import all_vectors, biases_of, evaluating, rows_of, vectors_of
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

    @property
    def num_bytes(self) -> int:
        """The memory in use beyond that of the network, but for vectors of users and rows of scores."""
        ...


def make_scorer(net: nn.Module, num_items: int, link: Link | None, first_item: int = 0) -> Scorer:
    """Return the fastest scorer that serves this network.

    Args:
        net: maps user ids (B,) and item ids (B,) to scores (B,).
        num_items: the items that `matrix` scores are 0 .. num_items - 1.
        link: turns the network's scores into predictions, in place; None if they are the same.
        first_item: items below this one are padding, and score minus infinity.
    """
    if (
        isinstance(net, BilinearNet)
        and is_plain_bilinear(net)
        and all(p.dtype == torch.float32 for p in net.parameters())
    ):
        return VectorScorer(net, num_items, link, first_item)
    return CallingScorer(net, num_items, link, first_item)


class VectorScorer:
    """Scores by vectors and biases.

    Attributes:
        link: turns scores into predictions, in place; None if they are the same.
    """

    def __init__(self, net: BilinearNet, num_items: int, link: Link | None, first_item: int) -> None:
        self._net = net
        self.link = link
        self._first_item = first_item
        device = next(net.parameters()).device
        with evaluating(net):
            all_items = torch.arange(num_items, device=device)
            self._item_vectors, self._made_bytes = all_vectors(net.item_embeddings, net.item_vectors, all_items)
            self._item_biases = biases_of(net.item_biases, all_items)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._item_vectors.shape[1]

    @property
    def num_bytes(self) -> int:
        """The memory in use beyond that of the network, but for vectors of users and rows of scores."""
        return self._made_bytes + 24 * len(self._item_vectors)  # ids, and biases as they are looked up and copied

    def vectors(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the scores of users (U,) for all items are computed from; those of padding mean nothing.

        Returns:
            Vectors (U, D) and biases (U,) of the users, vectors (num_items, D) and biases (num_items,) of the items.
        """
        with evaluating(self._net):
            vectors, index = vectors_of(self._net.user_embeddings, self._net.user_vectors, users)
            biases = biases_of(self._net.user_biases, users)
            return rows_of(vectors, index), biases, self._item_vectors, self._item_biases

    def matrix(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Score users for all items."""
        predictions = _linked(self.link, scores.scores(*self.vectors(users), out=out))
        predictions[:, : self._first_item] = -torch.inf
        return predictions

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        distinct, index = users.unique(return_inverse=True)
        predictions = _linked(self.link, scores.pair_scores(*self.vectors(distinct), index, items))
        return predictions.masked_fill(items < self._first_item, -torch.inf)


class CallingScorer:
    """Scores by calling the network, always with the same number of pairs for the same request."""

    def __init__(self, net: nn.Module, num_items: int, link: Link | None, first_item: int) -> None:
        self._net = net
        self._num_items = num_items
        self._link = link
        self._first_item = first_item

    def matrix(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Score users for all items."""
        items = torch.arange(self._num_items, device=users.device)
        if out is None:
            out = torch.empty(len(users), self._num_items, device=users.device)
        for user, row in zip(users, out, strict=True):
            self._fill(row, user.expand(self._num_items), items)
        return out

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        out = torch.empty(len(users), device=users.device)
        self._fill(out, users, items)
        return out

    def _fill(self, out: Tensor, users: Tensor, items: Tensor) -> None:
        """Score pairs, straight into `out`: what is allocated for every row anew comes to much more in the end."""
        with evaluating(self._net):
            chunks = (tensor.split(CALLED_PAIRS) for tensor in (out, users, items))
            for part, some_users, some_items in zip(*chunks, strict=True):
                part.copy_(pair_scores(self._net, some_users, some_items))
        _linked(self._link, out).masked_fill_(items < self._first_item, -torch.inf)

    @property
    def num_bytes(self) -> int:
        """Ids, what they are compared with, and scores before they are where they belong; not inside the network."""
        return 16 * self._num_items


def _linked(link: Link | None, scores: Tensor) -> Tensor:
    return scores if link is None else link(scores)
