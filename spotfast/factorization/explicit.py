"""Factorization models for explicit feedback: ratings."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from spotfast import losses
from spotfast.factorization.calling import pair_scores
from spotfast.factorization.model import FactorizationModel
from spotfast.factorization.scoring import Link
from spotfast.interactions import Interactions
from spotfast.model import OptimizerFunction
from spotfast.seeding import RandomStateLike
from spotfast.training.factorization import ExplicitTask


class ExplicitFactorizationModel(FactorizationModel):
    """Matrix factorization trained to predict ratings.

    Args:
        loss: "regression" (squared error), "poisson" (counts, at least 0: trains on and predicts `exp(score)`) or
            "logistic" (yes or no, as 1 and 0 or 1 and -1: ratings are cut to [0, 1]; predicts `sigmoid(score)`).
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
        device: the CPU or a CUDA device, as "cuda:0". Default: the CPU.

    Raises:
        ValueError, TypeError: naming the argument, the value and what is allowed.

    Example:
        >>> interactions = Interactions([0, 0, 1], [0, 1, 1], ratings=[5, 3, 4])
        >>> model = ExplicitFactorizationModel(n_iter=2, random_state=0)
        >>> model.fit(interactions)
        >>> model.predict([0, 1], [1, 0]).shape
        (2,)
    """

    LOSSES: ClassVar = ("regression", "poisson", "logistic")

    def __init__(
        self,
        loss: str = "regression",
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
        *,
        device: torch.device | str | None = None,
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

    @property
    def _link(self) -> Link | None:
        if self._loss == "poisson":
            return torch.exp_
        if self._loss == "logistic":
            # Not torch.sigmoid: its bits depend on where in a vector register a score happens to be.
            return lambda scores: scores.neg_().exp_().add_(1.0).reciprocal_()
        return None

    def _task(self, interactions: Interactions, net: nn.Module) -> ExplicitTask:
        assert self._stream_seed is not None

        def score(users: Tensor, items: Tensor) -> Tensor:
            scores = pair_scores(net, users, items)
            return torch.exp(scores) if self._loss == "poisson" else scores  # the logistic loss takes logits

        loss = getattr(losses, f"{self._loss}_loss")
        return ExplicitTask(interactions, self._stream_seed, self._device, self._loss, score, loss)

    def _check_interactions(self, interactions: Interactions) -> None:
        super()._check_interactions(interactions)
        if interactions.ratings is None:
            raise ValueError("ratings are needed to fit an explicit model, got interactions with ratings=None")
        if self._loss == "poisson" and interactions.ratings.min() < 0:
            position = int(interactions.ratings.argmin())
            raise ValueError(
                f"ratings must be at least 0 with loss='poisson', "
                f"got {interactions.ratings[position]!r} at position {position}"
            )
