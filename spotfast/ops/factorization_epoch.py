"""An epoch of training a factorization model: order, negatives, scores, loss, gradients, updates of rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops import tables
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.read_once import ReadOnce
from spotfast.ops.tables import EpochRange, EpochResult, Table, UpdateRule
from spotfast.reference import factorization_epoch as reference

if TYPE_CHECKING:
    from spotfast.kernels.factorization_epoch import Epoch

LOSSES = ("pointwise", "bpr", "hinge", "adaptive_hinge", "regression", "poisson", "logistic")
LOSSES_OF_RATINGS = ("regression", "poisson", "logistic")


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
    occurs several times are summed. Rules that move rows without a gradient, as Adam, do so to within rounding; all
    backends but the reference take such steps when a row is next read, and all that are left at the end of the epoch.

    On CUDA, vectors may be bfloat16: what is computed and kept beside them is float32, and stores are rounded at
    random, to the right value on average, the same in each run. The host waits for the device at the beginning of the
    first epoch of these interactions, where ids are checked, and at the end of the epoch; in between it stays at most a
    hundred steps ahead.

    Args:
        users: the table of users.
        items: the table of items.
        interactions: at least one; ids must be below the sizes of the tables.
        sampling: None for the losses of ratings; each user must have items that are no positives.
        loss: one of `LOSSES`.
        rule: the update rule.
        at: which epoch, and its batches.
        report: called now and then, and at the end, with the number of positions done; returns whether to go on. After
            an error in the middle of an epoch, too: all rows are up to date with the steps on these positions.
        backend: "auto", "native", "triton" or "reference".

    Raises:
        ValueError: for tables, states or interactions that do not fit each other, naming them.
        RuntimeError: for a backend that cannot run.
        DeviceMemoryError: if a CUDA device has too little memory, saying how much is needed. Nothing has changed then.
    """
    chosen = backends.choose("factorization_epoch", users.vectors.device, backend)
    _check(users, items, interactions, sampling, loss, rule, at, chosen)
    if chosen == "native":
        return _native(users, items, interactions, sampling, loss, rule, at, report)
    if chosen == "triton":
        epoch = None
        with backends.FallingBack("factorization_epoch", backend):
            epoch = _prepared(users, items, interactions, sampling, loss, rule, at)
        if epoch is not None:
            return EpochResult(*epoch.train(report))
        _check(users, items, interactions, sampling, loss, rule, at, "reference")

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
    mean, batches = native.factorization_epoch(
        users=tables.arrays(users),
        items=tables.arrays(items),
        pairs=interactions.pairs.numpy(),
        ratings=tables.array(interactions.ratings),
        weights=tables.array(interactions.weights),
        sampler=native.Sampler.__members__["none" if sampling is None else sampling.sampler],
        slots=0 if sampling is None else sampling.slots,
        num_items=0 if sampling is None else sampling.num_items,
        first_item=0 if sampling is None else sampling.first,
        indptr=None if positives is None else positives.indptr.numpy(),
        positives=None if positives is None else positives.items.numpy(),
        thresholds=None if thresholds is None else thresholds.numpy().astype(np.uint32),
        seed=at.seed,
        epoch=at.epoch,
        batch_size=at.batch_size,
        loss=native.Loss.__members__[loss],
        rule=native.Rule.__members__[rule.name],
        rule_settings=tables.native_rule(rule, at.steps),
        threads=backends.num_threads(),
        report=report,
    )
    return EpochResult(mean, batches)


def _prepared(
    users: Table,
    items: Table,
    interactions: TrainingInteractions,
    sampling: NegativeSampling | None,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
) -> Epoch:
    from spotfast.kernels import factorization_epoch as kernels

    def draw(start: int, stop: int, user_ids: Tensor) -> Tensor:
        assert sampling is not None
        return sampling.draw(at.seed, at.epoch, start, stop, user_ids, backend="triton")

    draws, slots = (None, 0) if sampling is None else (draw, sampling.slots)
    return kernels.prepare(users, items, interactions, draws, slots, loss, rule, at)


def _check(
    users: Table,
    items: Table,
    interactions: TrainingInteractions,
    sampling: NegativeSampling | None,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
    backend: str,
) -> None:
    validation.choice("loss", loss, LOSSES)
    tables.check_rule(rule)
    tables.check_range(at)
    dim, device = users.vectors.shape[1], users.vectors.device
    kinds = tables.VECTORS_IN_KERNELS if backend == "triton" else (torch.float32,)
    for name, table in (("users", users), ("items", items)):
        tables.check_table(name, table, dim, rule, kinds)
    tables.check_device("items.vectors", items.vectors, device)
    if backend == "triton" and dim > tables.MOST_COLUMNS_IN_KERNELS:
        raise ValueError(f"users.vectors must have at most {tables.MOST_COLUMNS_IN_KERNELS} columns here, got {dim}")
    of_ratings = loss in LOSSES_OF_RATINGS
    if of_ratings != (sampling is None) or of_ratings != (interactions.ratings is not None):
        needs = "ratings and no sampling" if of_ratings else "sampling and no ratings"
        raise ValueError(f"loss {loss!r} needs {needs}")
    if sampling is not None and sampling.num_items > len(items.vectors):
        raise ValueError(f"sampling.num_items must be at most {len(items.vectors)}, as items, got {sampling.num_items}")
    if sampling is not None and loss != "adaptive_hinge" and sampling.slots != 1:
        raise ValueError(f"sampling.slots must be 1 for loss {loss!r}, got {sampling.slots}")
    highest = _check_interactions(interactions, len(users.vectors), len(items.vectors), device)
    if sampling is not None:
        sampling.check(interactions.pairs[:, 0], highest)
    tables.check_batches(at, len(interactions.pairs), 1 + (0 if sampling is None else sampling.slots))


def _check_interactions(
    interactions: TrainingInteractions, num_users: int, num_items: int, device: torch.device
) -> int:
    """Raise for interactions that do not fit the tables; return the highest user."""
    pairs = interactions.pairs
    for name in ("pairs", "ratings", "weights"):
        tables.check_device(f"interactions.{name}", getattr(interactions, name), device)
    if pairs.dim() != 2 or pairs.shape[1] != 2 or len(pairs) == 0 or pairs.dtype != torch.int32:
        raise ValueError(
            f"interactions.pairs must be int32 of shape (n, 2), n >= 1, got {pairs.dtype} of shape {tuple(pairs.shape)}"
        )
    if not pairs.is_contiguous():
        raise ValueError(f"interactions.pairs must be contiguous, got strides {pairs.stride()}")
    for name, values in (("ratings", interactions.ratings), ("weights", interactions.weights)):
        if values is None:
            continue
        if values.shape != (len(pairs),) or values.dtype != torch.float32 or not values.is_contiguous():
            raise ValueError(
                f"interactions.{name} must be contiguous float32 of shape ({len(pairs)},), "
                f"got {values.dtype} of shape {tuple(values.shape)}, strides {values.stride()}"
            )
    lowest, highest = _bounds(pairs)
    for column, name, size in ((0, "users", num_users), (1, "items", num_items)):
        if lowest[column] < 0 or highest[column] >= size:
            raise ValueError(
                f"interactions.pairs[:, {column}] must be in [0, {size}), the rows of {name}, "
                f"got {lowest[column]} .. {highest[column]}"
            )
    return highest[0]


def _read_bounds(pairs: Tensor) -> tuple[list[int], list[int]]:
    """Return the lowest and the highest (user, item)."""
    lowest, highest = torch.stack(torch.aminmax(pairs, dim=0)).tolist()
    return lowest, highest


_bounds = ReadOnce(_read_bounds)
