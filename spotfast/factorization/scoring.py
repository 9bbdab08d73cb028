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
from spotfast.inference import biases_of, evaluating, rows_of, vectors_of
from spotfast.ops import scores

FAR_BELOW = -1e36  # the bias of padding: below all scores, and all sums with it are finite, as ranking needs
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


def make_scorer(net: nn.Module, num_items: int, link: Link | None, first_item: int = 0) -> Scorer:
    """Return the fastest scorer that serves this network.

    Args:
        net: maps user ids (B,) and item ids (B,) to scores (B,).
        num_items: the items that `matrix` scores are 0 .. num_items - 1.
        link: from the network's scores to predictions; None if they are the same.
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
        link: from scores to predictions; None if they are the same.
    """

    def __init__(self, net: BilinearNet, num_items: int, link: Link | None, first_item: int) -> None:
        self._net = net
        self.link = link
        self._first_item = first_item
        device = next(net.parameters()).device
        with evaluating(net):
            all_items = torch.arange(num_items, device=device)
            vectors, index = vectors_of(net.item_embeddings, net.item_vectors, all_items)
            self._item_vectors = vectors[:num_items] if index is all_items else vectors[index]
            self._item_biases = biases_of(net.item_biases, all_items)
            self._item_biases[:first_item] = FAR_BELOW

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._item_vectors.shape[1]

    @property
    def num_bytes(self) -> int:
        """The memory in use beyond that of the network."""
        copied = 0 if self._item_vectors._base is not None else self._item_vectors.nbytes
        return copied + 3 * 8 * len(self._item_vectors)  # ids, and biases as they are looked up and copied

    def vectors(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what the scores of users (U,) for all items are computed from.

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
        return torch.stack([self.pairs(user.expand(self._num_items), items) for user in users])

    def pairs(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        with evaluating(self._net):
            chunks = zip(users.split(CALLED_PAIRS), items.split(CALLED_PAIRS), strict=True)
            called = [pair_scores(self._net, *chunk) for chunk in chunks]
            predictions = _linked(self._link, torch.cat(called)).float()
            return predictions.masked_fill(items < self._first_item, -torch.inf)


def _linked(link: Link | None, scores: Tensor) -> Tensor:
    return scores if link is None else link(scores)
