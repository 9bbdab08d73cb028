"""What factorization models train on: batches of interactions, with negatives for implicit feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spotfast.interactions import Interactions
from spotfast.ops import permutation

Draw = Callable[[int, int, int, Tensor], Tensor]  # (epoch, start, stop, users (N,)) -> negatives (N, slots)


class FactorizationTask:
    """Interactions in the order of the epoch, as tensors on the device.

    Attributes:
        count: the number of interactions.
    """

    def __init__(self, interactions: Interactions, seed: int, device: torch.device) -> None:
        def on_device(array: Any, dtype: torch.dtype) -> Tensor:
            array = np.asarray(array)
            native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
            return torch.from_numpy(native).to(device, dtype)

        self.count = len(interactions)
        self._on_device = on_device
        self._seed = seed
        self._device = device
        self._users = on_device(interactions.user_ids, torch.int64)
        self._items = on_device(interactions.item_ids, torch.int64)
        self._weights = None if interactions.weights is None else on_device(interactions.weights, torch.float32)

    def _order(self, epoch: int, start: int, stop: int) -> Tensor:
        return permutation.permutation(self._seed, epoch, self.count, start, stop, device=self._device)

    def _weights_at(self, order: Tensor) -> tuple[Tensor, ...]:
        return () if self._weights is None else (self._weights[order],)


class ExplicitTask(FactorizationTask):
    """Users, items and their ratings.

    Args:
        score: predicts what the loss takes, from users (B,) and items (B,).
        loss: a function of (observed ratings, predicted ratings, weights).
    """

    def __init__(
        self,
        interactions: Interactions,
        seed: int,
        device: torch.device,
        score: Callable[[Tensor, Tensor], Tensor],
        loss: Callable[..., Tensor],
    ) -> None:
        super().__init__(interactions, seed, device)
        self._ratings = self._on_device(interactions.ratings, torch.float32)
        self._score = score
        self._loss = loss

    def load(self, epoch: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return users, items, ratings and, if there are any, weights."""
        order = self._order(epoch, start, stop)
        return self._users[order], self._items[order], self._ratings[order], *self._weights_at(order)

    def loss(self, users: Tensor, items: Tensor, ratings: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch."""
        return self._loss(ratings, self._score(users, items), weights=weights)


class ImplicitTask(FactorizationTask):
    """Users, the items they interacted with, and negatives.

    Args:
        score: scores positives (B,) and negatives (n, B), from users (B,) and candidates (B, 1 + n).
        loss: a function of (positive scores (B,), negative scores, weights). Negative scores are (B,), or (n, B) for
            `several` negatives.
        draw: draws the negatives of a range of positions.
        several: whether the loss takes several negatives per positive.
    """

    def __init__(
        self,
        interactions: Interactions,
        seed: int,
        device: torch.device,
        score: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        loss: Callable[..., Tensor],
        draw: Draw,
        several: bool,
    ) -> None:
        super().__init__(interactions, seed, device)
        self._score = score
        self._loss = loss
        self._draw = draw
        self._several = several

    def load(self, epoch: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return users (N,), candidates (N, 1 + slots), the positive first, and, if there are any, weights."""
        order = self._order(epoch, start, stop)
        users = self._users[order]
        negatives = self._draw(epoch, start, stop, users)
        candidates = torch.cat([self._items[order].unsqueeze(1), negatives], dim=1)
        return users, candidates, *self._weights_at(order)

    def loss(self, users: Tensor, candidates: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch."""
        positive, negatives = self._score(users, candidates)
        return self._loss(positive, negatives if self._several else negatives[0], weights=weights)
