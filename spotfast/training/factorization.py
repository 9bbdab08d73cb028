"""What factorization models train on: interactions, with negatives for implicit feedback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spotfast.interactions import Interactions
from spotfast.ops import permutation
from spotfast.ops.factorization_epoch import TrainingInteractions
from spotfast.ops.negative_sampling import NegativeSampling


class FactorizationTask:
    """Interactions in the order of the epoch, as tensors on the device.

    Args:
        interactions: checked, not empty.
        seed: of the random stream.
        device: where tensors are to be.
        loss_name: a name of `spotfast.ops.factorization_epoch.LOSSES`, for engines with losses of their own.
        sampling: where negatives come from; None for losses of ratings.

    Attributes:
        count: the number of interactions.
        interactions: as tensors; 8 bytes each, and 4 for a rating and for a weight.
    """

    def __init__(
        self,
        interactions: Interactions,
        seed: int,
        device: torch.device,
        loss_name: str,
        sampling: NegativeSampling | None = None,
    ) -> None:
        self.count = len(interactions)
        self.seed = seed
        self.loss_name = loss_name
        self.sampling = sampling
        pairs = np.empty((self.count, 2), np.int32)
        pairs[:, 0], pairs[:, 1] = interactions.user_ids, interactions.item_ids
        ratings = _floats("ratings", interactions.ratings, device) if sampling is None else None
        weights = _floats("weights", interactions.weights, device)
        self.interactions = TrainingInteractions(torch.from_numpy(pairs).to(device), ratings, weights)

    def _read(self, epoch: int, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
        """Return the order, the users, the items and, if there are any, the weights."""
        pairs, weights = self.interactions.pairs, self.interactions.weights
        order = permutation.permutation(self.seed, epoch, self.count, start, stop, device=pairs.device)
        users, items = pairs[order].T.long()
        return order, users, items, () if weights is None else (weights[order],)


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
        loss_name: str,
        score: Callable[[Tensor, Tensor], Tensor],
        loss: Callable[..., Tensor],
    ) -> None:
        super().__init__(interactions, seed, device, loss_name)
        self._score = score
        self._loss = loss

    def load(self, epoch: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return users, items, ratings and, if there are any, weights."""
        order, users, items, weights = self._read(epoch, start, stop)
        assert self.interactions.ratings is not None
        return users, items, self.interactions.ratings[order], *weights

    def loss(self, users: Tensor, items: Tensor, ratings: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch."""
        return self._loss(ratings, self._score(users, items), weights=weights)


class ImplicitTask(FactorizationTask):
    """Users, the items they interacted with, and negatives.

    Args:
        sampling: where negatives come from.
        score: scores (B,) of each column of candidates, from users (B,) and candidates (B, 1 + n).
        loss: a function of (positive scores (B,), negative scores, weights). Negative scores are (B,), or (n, B) for
            `several` negatives.
        several: whether the loss takes several negatives per positive.
    """

    def __init__(
        self,
        interactions: Interactions,
        seed: int,
        device: torch.device,
        loss_name: str,
        sampling: NegativeSampling,
        score: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
        loss: Callable[..., Tensor],
        several: bool,
    ) -> None:
        super().__init__(interactions, seed, device, loss_name, sampling)
        sampling.check(self.interactions.pairs[:, 0], int(interactions.user_ids.max()))
        self._draw = sampling.draw
        self._score = score
        self._loss = loss
        self._several = several

    def load(self, epoch: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return users (N,), candidates (N, 1 + slots), the positive first, and, if there are any, weights."""
        _, users, items, weights = self._read(epoch, start, stop)
        negatives = self._draw(self.seed, epoch, start, stop, users)
        return users, torch.cat([items.unsqueeze(1), negatives], dim=1), *weights

    def loss(self, users: Tensor, candidates: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of a batch."""
        positive, *negatives = self._score(users, candidates)
        return self._loss(positive, torch.stack(negatives) if self._several else negatives[0], weights=weights)


def _floats(name: str, values: Any, device: torch.device) -> Tensor | None:
    if values is None:
        return None
    with np.errstate(over="ignore"):
        floats = np.array(values, np.float32)
    if not np.isfinite(floats).all():
        largest = np.abs(np.asarray(values, np.float64)).max()
        raise ValueError(f"{name} must be at most {np.finfo(np.float32).max:.3g} in magnitude, got {largest:.3g}")
    return torch.from_numpy(floats).to(device)
