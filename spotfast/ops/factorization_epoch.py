"""An epoch of training a factorization model: order, negatives, scores, loss, gradients, updates of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops import negatives
from spotfast.ops.philox import check_stream
from spotfast.positives import Positives
from spotfast.reference import factorization_epoch as reference

LOSSES = ("pointwise", "bpr", "hinge", "adaptive_hinge", "regression", "poisson", "logistic")
LOSSES_OF_RATINGS = ("regression", "poisson", "logistic")


@dataclass(frozen=True)
class UpdateRule:
    """How rows move along their gradients, with the semantics of the torch optimizer of that name.

    Attributes:
        name: a key of `STATES`. "adam" is AdamW if `decoupled`; "sgd" has no momentum, "momentum" is SGD with it;
            "rowwise_adagrad" keeps one sum per row, of the means of its squared gradients.
        learning_rate: at least 0.
        betas, eps, weight_decay, decoupled: of Adam. `eps` is that of Adagrad, too; above 0.
        momentum: of "momentum".
        lr_decay: of Adagrad.
    """

    STATES: ClassVar[dict[str, tuple[str, ...]]] = {
        "adam": ("exp_avg", "exp_avg_sq"),
        "sparse_adam": ("exp_avg", "exp_avg_sq"),
        "sgd": (),
        "momentum": ("momentum_buffer",),
        "adagrad": ("sum",),
        "rowwise_adagrad": ("sum",),
    }

    name: str
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    momentum: float = 0.0
    lr_decay: float = 0.0

    @property
    def states(self) -> tuple[str, ...]:
        """The names of what the rule keeps, as torch's optimizers call it."""
        return self.STATES[self.name]


@dataclass(frozen=True)
class Table:
    """Rows of users or items, and what the update rule keeps for them: float32, contiguous, trained in place.

    Attributes:
        vectors: (N, D).
        biases: (N, 1).
        vector_states: in the order of the rule's names, (N, D); (N, 1) for "rowwise_adagrad".
        bias_states: likewise, (N, 1).
    """

    vectors: Tensor
    biases: Tensor
    vector_states: tuple[Tensor, ...] = ()
    bias_states: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class TrainingInteractions:
    """What an epoch goes through.

    Attributes:
        pairs: int32 (n, 2), user and item.
        ratings: float32 (n,), for the losses of ratings.
        weights: float32 (n,), or None.
    """

    pairs: Tensor
    ratings: Tensor | None = None
    weights: Tensor | None = None


@dataclass(frozen=True)
class NegativeSampling:
    """Where negatives are drawn from.

    Attributes:
        sampler: "uniform", "unseen" or "popularity" (see `spotfast.ops.negatives`).
        slots: negatives per positive.
        num_items: the size of the catalogue.
        first: the first item that may be drawn; those below are padding.
        positives: for "unseen" and "popularity".
        thresholds: for "popularity".
    """

    sampler: str
    slots: int
    num_items: int
    first: int = 0
    positives: Positives | None = None
    thresholds: Tensor | None = None

    def draw(self, seed: int, epoch: int, start: int, stop: int, users: Tensor, backend: str = "auto") -> Tensor:
        """Draw the negatives of a range of positions, whose users are (stop - start,): int64 (stop - start, slots)."""
        at = seed, epoch, start, stop, self.slots
        if self.sampler == "uniform":
            return negatives.uniform(*at, self.num_items, first=self.first, device=users.device, backend=backend)
        assert self.positives is not None
        if self.sampler == "unseen":
            return negatives.unseen(*at, self.positives, users, backend=backend)
        assert self.thresholds is not None
        return negatives.popularity(*at, self.thresholds, self.positives, users, backend=backend)


@dataclass(frozen=True)
class EpochRange:
    """Which epoch it is, and how it is cut.

    Attributes:
        seed: of the random stream.
        epoch: its number.
        batch_size: interactions per step.
        steps: that the update rule has taken before.
    """

    seed: int
    epoch: int
    batch_size: int
    steps: int


@dataclass(frozen=True)
class EpochResult:
    """What came of it.

    Attributes:
        loss: the mean of the losses of the batches.
        batches: how many steps were taken; fewer than the epoch has if it was stopped.
    """

    loss: float
    batches: int


def factorization_epoch(
    users: Table,
    items: Table,
    interactions: TrainingInteractions,
    sampling: NegativeSampling | None,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
    *,
    report: Callable[[int], bool] = lambda positions: True,
    backend: str = "auto",
) -> EpochResult:
    """Train for an epoch, in place: the tables, and the states of the update rule.

    With `score(u, i) = vectors[u] . vectors[i] + biases[u] + biases[i]`, for the batches of the epoch in turn:

        mean over the batch of weight * loss(score of the positive, scores of the negatives)

    is what the rule takes a step on. All scores of a batch are of the weights before it; the gradients of a row that
    occurs several times are summed. Rules that move rows without a gradient, as Adam, do so to within rounding; the
    C++ engine takes such steps when a row is next read, and all that are left at the end of the epoch.

    Args:
        users: the table of users.
        items: the table of items.
        interactions: at least one; ids must be below the sizes of the tables.
        sampling: None for the losses of ratings.
        loss: one of `LOSSES`.
        rule: the update rule.
        at: which epoch, and its batches.
        report: called now and then with the number of positions done; returns whether to go on.
        backend: "auto", "native" or "reference".

    Raises:
        ValueError: for tables, states or interactions that do not fit each other, naming them.
    """
    _check(users, items, interactions, sampling, loss, rule, at)
    backend = backends.choose("factorization_epoch", users.vectors.device, backend)
    if backend == "native":
        return _native(users, items, interactions, sampling, loss, rule, at, report)

    def draw(start: int, stop: int, user_ids: Tensor) -> Tensor:
        assert sampling is not None
        return sampling.draw(at.seed, at.epoch, start, stop, user_ids, backend="reference")

    draws = None if sampling is None else draw
    losses = reference.factorization_epoch(users, items, interactions, draws, loss, rule, at, report)
    return EpochResult(sum(losses) / len(losses), len(losses))


def _native(
    users: Table,
    items: Table,
    interactions: TrainingInteractions,
    sampling: NegativeSampling | None,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
    report: Callable[[int], bool],
) -> EpochResult:
    native = backends.native()
    positives = None if sampling is None else sampling.positives
    thresholds = None if sampling is None or sampling.thresholds is None else sampling.thresholds
    settings = native.RuleSettings(
        learning_rate=rule.learning_rate,
        beta1=rule.betas[0],
        beta2=rule.betas[1],
        eps=rule.eps,
        weight_decay=rule.weight_decay,
        decoupled=rule.decoupled,
        momentum=rule.momentum,
        lr_decay=rule.lr_decay,
        steps=at.steps,
    )
    mean, batches = native.factorization_epoch(
        users=_arrays(users),
        items=_arrays(items),
        pairs=interactions.pairs.numpy(),
        ratings=_array(interactions.ratings),
        weights=_array(interactions.weights),
        sampler=native.Sampler.__members__["none" if sampling is None else sampling.sampler],
        slots=0 if sampling is None else sampling.slots,
        first_item=0 if sampling is None else sampling.first,
        indptr=None if positives is None else positives.indptr.numpy(),
        positives=None if positives is None else positives.items.numpy(),
        thresholds=None if thresholds is None else thresholds.numpy().astype(np.uint32),
        seed=at.seed,
        epoch=at.epoch,
        batch_size=at.batch_size,
        loss=native.Loss.__members__[loss],
        rule=native.Rule.__members__[rule.name],
        rule_settings=settings,
        threads=backends.num_threads(),
        report=report,
    )
    return EpochResult(mean, batches)


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().numpy()


def _arrays(table: Table) -> tuple[Any, ...]:
    """Vectors, biases, two states of the vectors, two of the biases; None for those that the rule does not keep."""
    states = [(*own, None, None)[:2] for own in (table.vector_states, table.bias_states)]
    return tuple(_array(tensor) for tensor in (table.vectors, table.biases, *states[0], *states[1]))


def _check(
    users: Table,
    items: Table,
    interactions: TrainingInteractions,
    sampling: NegativeSampling | None,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
) -> None:
    validation.choice("loss", loss, LOSSES)
    validation.choice("rule.name", rule.name, tuple(UpdateRule.STATES))
    validation.real("rule.learning_rate", rule.learning_rate, 0.0)
    validation.real("rule.eps", rule.eps, 0.0, exclude_low=True)
    check_stream(at.seed, at.epoch)
    validation.integer("at.batch_size", at.batch_size, 1)
    validation.integer("at.steps", at.steps, 0)
    dim = users.vectors.shape[1]
    for name, table in (("users", users), ("items", items)):
        _check_table(name, table, dim, rule)
    of_ratings = loss in LOSSES_OF_RATINGS
    if of_ratings != (sampling is None) or of_ratings != (interactions.ratings is not None):
        needs = "ratings and no sampling" if of_ratings else "sampling and no ratings"
        raise ValueError(f"loss {loss!r} needs {needs}")
    if sampling is not None and sampling.num_items != len(items.vectors):
        raise ValueError(f"sampling.num_items must be {len(items.vectors)}, as items, got {sampling.num_items}")
    if sampling is not None and loss != "adaptive_hinge" and sampling.slots != 1:
        raise ValueError(f"sampling.slots must be 1 for loss {loss!r}, got {sampling.slots}")
    _check_interactions(interactions, len(users.vectors), len(items.vectors))


def _check_table(name: str, table: Table, dim: int, rule: UpdateRule) -> None:
    rows = len(table.vectors)
    state_dim = 1 if rule.name == "rowwise_adagrad" else dim
    expected = [
        ("vectors", table.vectors, dim),
        ("biases", table.biases, 1),
        *(("vector_states", state, state_dim) for state in table.vector_states),
        *(("bias_states", state, 1) for state in table.bias_states),
    ]
    for part, tensor, columns in expected:
        if tensor.shape != (rows, columns) or tensor.dtype != torch.float32 or not tensor.is_contiguous():
            raise ValueError(
                f"{name}.{part} must be contiguous float32 of shape ({rows}, {columns}), "
                f"got {tensor.dtype} of shape {tuple(tensor.shape)}, strides {tensor.stride()}"
            )
    for part, states in (("vector_states", table.vector_states), ("bias_states", table.bias_states)):
        if len(states) != len(rule.states):
            raise ValueError(f"{name}.{part} must be {rule.states} for rule {rule.name!r}, got {len(states)} tensors")


def _check_interactions(interactions: TrainingInteractions, num_users: int, num_items: int) -> None:
    pairs = interactions.pairs
    if pairs.dim() != 2 or pairs.shape[1] != 2 or len(pairs) == 0 or pairs.dtype != torch.int32:
        raise ValueError(
            f"interactions.pairs must be int32 of shape (n, 2), n >= 1, got {pairs.dtype} of shape {tuple(pairs.shape)}"
        )
    if not pairs.is_contiguous():
        raise ValueError(f"interactions.pairs must be contiguous, got strides {pairs.stride()}")
    for name, values in (("ratings", interactions.ratings), ("weights", interactions.weights)):
        if values is not None and (values.shape != (len(pairs),) or values.dtype != torch.float32):
            raise ValueError(
                f"interactions.{name} must be float32 of shape ({len(pairs)},), "
                f"got {values.dtype} of shape {tuple(values.shape)}"
            )
    lowest, highest = pairs.amin(dim=0).tolist(), pairs.amax(dim=0).tolist()
    for column, name, size in ((0, "users", num_users), (1, "items", num_items)):
        if lowest[column] < 0 or highest[column] >= size:
            raise ValueError(
                f"interactions.pairs[:, {column}] must be in [0, {size}), the rows of {name}, "
                f"got {lowest[column]} .. {highest[column]}"
            )
