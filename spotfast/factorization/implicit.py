"""Factorization models for implicit feedback: what users interacted with, not what they thought of it."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from spotfast import losses, validation
from spotfast.arguments import Argument
from spotfast.factorization.calling import candidate_scores
from spotfast.factorization.model import FactorizationModel
from spotfast.interactions import Interactions
from spotfast.model import MOST_NEGATIVES, OptimizerFunction
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.negatives import popularity_thresholds
from spotfast.positives import Positives
from spotfast.seeding import RandomStateLike
from spotfast.training.factorization import ImplicitTask

NEGATIVES = ("uniform", "unseen", "popularity")


class ImplicitFactorizationModel(FactorizationModel):
    """Matrix factorization trained to score a user's items above sampled negatives.

    Args:
        loss: "pointwise", "bpr", "hinge" or "adaptive_hinge" (see `spotfast.losses`).
        embedding_dim: the length of user and item vectors, at least 1.
        n_iter: epochs per call of `fit`.
        batch_size: interactions per optimizer step, at least 1.
        l2: L2 penalty (the default optimizer's `weight_decay`), at least 0.
        learning_rate: of the default optimizer, Adam.
        optimizer_func: a function of the network's parameters that returns a torch optimizer, called at the first
            `fit`. Default: dense Adam.
        use_cuda: train on the GPU; the same as `device="cuda"`.
        representation: a network `net(user_ids (B,), item_ids (B,)) -> scores (B,)`. Default: `BilinearNet`.
        sparse: sparse gradients for the built-in tables: the default optimizer moves the rows of a batch only, with
            the results of dense Adam (`spotfast.optim.DeferredAdam`).
        random_state: None, an int, a numpy `RandomState` (advanced, not copied) or a `Generator`. The same seed gives
            the same model.
        num_negative_samples: negatives per positive for the adaptive hinge loss; the others use one.
        device: the CPU or a CUDA device, as "cuda:0". Default: the CPU.
        negatives: where negatives are drawn from: "unseen" (uniformly from the items that the user has not
            interacted with; the default, see docs/negatives.md), "uniform" (from all items, as Spotlight does), or
            "popularity" (from unseen items, in proportion to their interactions).

    Raises:
        ValueError, TypeError: naming the argument, the value and what is allowed.

    Example:
        >>> interactions = Interactions([0, 0, 1, 1], [0, 1, 1, 2])
        >>> model = ImplicitFactorizationModel(loss="bpr", n_iter=2, random_state=0)
        >>> model
        <ImplicitFactorizationModel: [uninitialised]>
        >>> model.fit(interactions)
        >>> model.predict(0).shape
        (3,)
    """

    LOSSES: ClassVar = ("pointwise", "bpr", "hinge", "adaptive_hinge")

    _num_negative_samples: int
    _negatives: str
    num_negative_samples: Argument[int] = Argument(partial(validation.integer, low=1, high=MOST_NEGATIVES))
    negatives: Argument[str] = Argument(partial(validation.choice, allowed=NEGATIVES))

    def __init__(
        self,
        loss: str = "pointwise",
        embedding_dim: int = 32,
        n_iter: int = 10,
        batch_size: int = 256,
        l2: float = 0.0,
        learning_rate: float = 1e-2,
        optimizer_func: OptimizerFunction | None = None,
        use_cuda: bool = False,
        representation: nn.Module | None = None,
        sparse: bool = False,
        random_state: RandomStateLike = None,
        num_negative_samples: int = 5,
        *,
        device: torch.device | str | None = None,
        negatives: str = "unseen",
    ) -> None:
        super().__init__(
            loss,
            embedding_dim,
            n_iter,
            batch_size,
            l2,
            learning_rate,
            optimizer_func,
            use_cuda,
            representation,
            sparse,
            random_state,
            device,
        )
        self.num_negative_samples = num_negative_samples
        self.negatives = negatives

    def _settings(self) -> dict[str, Any]:
        return {
            **super()._settings(),
            "num_negative_samples": self._num_negative_samples,
            "negatives": self._negatives,
        }

    @property
    def _slots(self) -> int:
        return self._num_negative_samples if self._loss == "adaptive_hinge" else 1

    def _check_interactions(self, interactions: Interactions) -> None:
        super()._check_interactions(interactions)
        self._check_batches(len(interactions), 1 + self._slots)

    def _task(self, interactions: Interactions, net: nn.Module) -> ImplicitTask:
        assert self._stream_seed is not None
        loss = getattr(losses, f"{self._loss}_loss")
        sampling, score = self._sampling(interactions, self._slots), partial(candidate_scores, net)
        several = self._loss == "adaptive_hinge"
        return ImplicitTask(interactions, self._stream_seed, self._device, self._loss, sampling, score, loss, several)

    def _sampling(self, interactions: Interactions, slots: int) -> NegativeSampling:
        assert self._num_items is not None
        if self._negatives == "uniform":
            return NegativeSampling("uniform", slots, self._num_items, self._first_item)
        positives = self._positives(interactions).to(self._device)
        if self._negatives == "unseen":
            return NegativeSampling("unseen", slots, self._num_items, self._first_item, positives)
        counts = np.bincount(interactions.item_ids, minlength=self._num_items)
        thresholds = popularity_thresholds(counts).to(self._device)
        return NegativeSampling("popularity", slots, self._num_items, self._first_item, positives, thresholds)

    def _positives(self, interactions: Interactions) -> Positives:
        """Items that are not negatives of each user. Users of every item have no others: any item is drawn for them.

        With an id map, padding is among them.
        """
        assert self._num_users is not None and self._num_items is not None
        positives = Positives.from_interactions(
            interactions.user_ids, interactions.item_ids, self._num_users, self._num_items
        )
        items = self._num_items - self._first_item
        full = positives.counts() == items
        if full.any():
            warnings.warn(
                f"{int(full.sum())} users (the first is user {int(full.int().argmax())}) interacted with all "
                f"{items} items: their negatives are drawn from all items",
                stacklevel=5,
            )
            positives = positives.without(full)
        return positives.with_padding() if self._first_item else positives
