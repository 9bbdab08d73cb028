"""Plain PyTorch loops that train factorization models: the best one that we know, and Spotlight's own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from spotfast import losses
from spotfast.interactions import Interactions

DIM = 32
LEARNING_RATES = {"adam": 1e-2, "adagrad": 1e-1, "sgd": 2.56}  # for SGD of a batch's mean: a hundredth per interaction


@dataclass(frozen=True)
class Training:
    """What is trained, and how.

    Attributes:
        loss: "bpr", "adaptive_hinge" or "regression".
        batch_size: interactions per step.
        slots: negatives per positive of the adaptive hinge loss.
        l2: the penalty of Adam.
        optimizer: "adam", "adagrad" or "sgd".
    """

    loss: str
    batch_size: int
    slots: int = 5
    l2: float = 0.0
    optimizer: str = "adam"

    @property
    def negatives(self) -> int:
        """How many negatives a positive gets."""
        return {"bpr": 1, "adaptive_hinge": self.slots, "regression": 0}[self.loss]

    def make_optimizer(self, parameters: object, fused: bool) -> torch.optim.Optimizer:
        """Make an optimizer over some parameters."""
        rate = LEARNING_RATES[self.optimizer]
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=rate, weight_decay=self.l2, fused=fused)
        return {"adagrad": torch.optim.Adagrad, "sgd": torch.optim.SGD}[self.optimizer](parameters, lr=rate)


class Loop(Protocol):
    """Trains epoch by epoch."""

    def __init__(self, data: Interactions, training: Training, seed: int = 0) -> None: ...

    def epoch(self) -> float:
        """Train for an epoch; return the mean of the losses of its batches."""
        ...


class Tables(nn.Module):
    """Vectors and biases of users and items, initialised as the models' are."""

    def __init__(self, data: Interactions) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(data.num_users, DIM), nn.Embedding(data.num_items, DIM)
        self.user_biases, self.item_biases = nn.Embedding(data.num_users, 1), nn.Embedding(data.num_items, 1)
        for vectors in (self.users, self.items):
            nn.init.normal_(vectors.weight, std=1 / DIM)
        for biases in (self.user_biases, self.item_biases):
            nn.init.zeros_(biases.weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Score pairs."""
        products = (self.users(users) * self.items(items)).sum(1)
        return products + self.user_biases(users).squeeze(1) + self.item_biases(items).squeeze(1)


class BestLoop:
    """As an expert would write it: rows gathered once, negatives drawn per epoch, losses read per epoch."""

    def __init__(self, data: Interactions, training: Training, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self._data, self._training = data, training
        self._net = Tables(data)
        self._optimizer = training.make_optimizer(self._net.parameters(), fused=True)
        self._columns = _tensors(data)
        self._random = np.random.default_rng(seed)

    def epoch(self) -> float:
        """Train for an epoch; return the mean of the losses of its batches."""
        users, items, ratings = self._columns
        order = torch.randperm(len(users))
        candidates = items[order].unsqueeze(1)
        if self._training.negatives:
            shape = len(users), self._training.negatives
            negatives = torch.from_numpy(self._random.integers(0, self._data.num_items, shape))
            candidates = torch.cat([candidates, negatives], 1)
        columns = users[order], candidates, ratings[order]
        values = []
        for batch in zip(*(column.split(self._training.batch_size) for column in columns), strict=True):
            self._optimizer.zero_grad()
            value = self._loss(*batch)
            value.backward()
            self._optimizer.step()
            values.append(value.detach())
        return torch.stack(values).mean().item()

    def _loss(self, users: Tensor, candidates: Tensor, ratings: Tensor) -> Tensor:
        net, flat = self._net, candidates.flatten()
        vectors = net.items(flat).view(*candidates.shape, DIM)
        scores = (net.users(users).unsqueeze(1) * vectors).sum(2) + net.item_biases(flat).view(candidates.shape)
        scores = scores + net.user_biases(users)
        positive, negatives = scores[:, 0], scores[:, 1:]
        if self._training.loss == "regression":
            return ((ratings - positive) ** 2).mean()
        if self._training.loss == "bpr":
            return (1 - torch.sigmoid(positive - negatives[:, 0])).mean()
        return torch.clamp(negatives.max(1).values - positive + 1, min=0).mean()


class SpotlightLoop:
    """As Spotlight does it: the network called twice, negatives drawn and the loss read at every step."""

    def __init__(self, data: Interactions, training: Training, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self._data, self._training = data, training
        self._net = Tables(data)
        self._optimizer = training.make_optimizer(self._net.parameters(), fused=False)
        self._random = np.random.RandomState(seed)

    def epoch(self) -> float:
        """Train for an epoch; return the mean of the losses of its batches."""
        columns = _tensors(self._data.take(self._random.permutation(len(self._data))))
        values = []
        for batch in zip(*(column.split(self._training.batch_size) for column in columns), strict=True):
            value = self._loss(*batch)
            self._optimizer.zero_grad()
            values.append(value.item())
            value.backward()
            self._optimizer.step()
        return float(np.mean(values))

    def _loss(self, users: Tensor, items: Tensor, ratings: Tensor) -> Tensor:
        positive = self._net(users, items)
        if self._training.loss == "regression":
            return losses.regression_loss(ratings, positive)
        # Unlike Spotlight, which mixes up users here, slot by slot: at the same cost.
        slots = self._training.negatives
        drawn = torch.from_numpy(self._random.randint(0, self._data.num_items, len(users) * slots, np.int64))
        negatives = self._net(users.repeat(slots), drawn).view(slots, -1)
        if self._training.loss == "bpr":
            return losses.bpr_loss(positive, negatives[0])
        return losses.adaptive_hinge_loss(positive, negatives)


def train(kind: type[Loop], data: Interactions, training: Training, epochs: int, seed: int = 0) -> list[float]:
    """Train with a new loop of some kind; return the losses of the epochs."""
    loop = kind(data, training, seed)
    return [loop.epoch() for _ in range(epochs)]


best = partial(train, BestLoop)
spotlight = partial(train, SpotlightLoop)


def _tensors(data: Interactions) -> tuple[Tensor, Tensor, Tensor]:
    users, items = (torch.from_numpy(ids.astype(np.int64)) for ids in (data.user_ids, data.item_ids))
    ratings = np.zeros(len(data), np.float32) if data.ratings is None else data.ratings
    return users, items, torch.from_numpy(ratings)
