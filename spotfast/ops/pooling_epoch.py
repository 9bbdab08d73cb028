"""Training a pooling sequence model on sequences of an epoch: negatives, states, scores, loss, gradients, updates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops import tables
from spotfast.ops.philox import check_range
from spotfast.ops.tables import EpochRange, EpochResult, Table, UpdateRule
from spotfast.reference import pooling_epoch as reference

LOSSES = ("pointwise", "bpr", "hinge", "adaptive_hinge")
PADDING = 0


def pooling_epoch(
    items: Table,
    sequences: Tensor,
    slots: int,
    num_items: int,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
    *,
    start: int = 0,
    report: Callable[[int], bool] = lambda positions: True,
    backend: str = "auto",
) -> EpochResult:
    """Train on sequences, in place: the table of items, and the states of the update rule.

    A user before step t is `sum of vectors[s_u] for u < t`, over the number of these items plus one; their score for
    item i is the product with `vectors[i]`, plus `biases[i]`. For the batches in turn,

        mean over all steps that are not padding of loss(score of the item that follows, scores of the negatives)

    is what the rule takes a step on, as `spotfast.ops.factorization_epoch` does. Negatives are uniform over 1 ..
    num_items - 1: those of step t of the sequence at a position are its slots from `t * slots` on.

    Args:
        items: the table of items; row 0 is padding, and has no gradient.
        sequences: int32 (n, L), n >= 1, contiguous, in the order of the epoch; 0 is padding.
        slots: negatives per step.
        num_items: items are below it, padding included; at least 2, at most the rows of `items`.
        loss: one of `LOSSES`.
        rule: the update rule.
        at: which epoch, and its batches.
        start: the position of the first sequence in the epoch.
        report: called now and then, and at the end, with the number of sequences done; returns whether to go on.
        backend: "auto", "native" or "reference".

    Returns:
        The mean of the losses of the batches, 0 for those of nothing but padding.

    Raises:
        ValueError: for tables, states or sequences that do not fit each other, naming them.
    """
    validation.choice("loss", loss, LOSSES)
    validation.integer("slots", slots, 1)
    tables.check_rule(rule)
    tables.check_range(at)
    tables.check_table("items", items, items.vectors.shape[1], rule)
    validation.integer("num_items", num_items, 2, len(items.vectors))
    _check_sequences(sequences, num_items, slots, at)
    check_range(start, start + len(sequences), 2**63 // (slots * sequences.shape[1]))
    backend = backends.choose("pooling_epoch", items.vectors.device, backend)
    if backend == "reference":
        losses = reference.pooling_epoch(items, sequences, slots, num_items, loss, rule, at, start, report)
        return EpochResult(sum(losses) / len(losses), len(losses))
    native = backends.native()
    mean, batches = native.pooling_epoch(
        items=tables.arrays(items),
        sequences=sequences.numpy(),
        start=start,
        slots=slots,
        num_items=num_items,
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


def _check_sequences(sequences: Tensor, num_items: int, slots: int, at: EpochRange) -> None:
    if sequences.dim() != 2 or 0 in sequences.shape or sequences.dtype != torch.int32 or not sequences.is_contiguous():
        raise ValueError(
            f"sequences must be contiguous int32 of shape (n, L), n >= 1, L >= 1, "
            f"got {sequences.dtype} of shape {tuple(sequences.shape)}"
        )
    lowest, highest = int(sequences.min()), int(sequences.max())
    if lowest < 0 or highest >= num_items:
        raise ValueError(f"sequences must be in [0, {num_items}), below num_items, got {lowest} .. {highest}")
    tables.check_batches(at, len(sequences), sequences.shape[1] * (1 + slots))
