"""Training a pooling sequence model, with dense gradients and torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spotfast.reference import dense_steps, negatives, score_loss

if TYPE_CHECKING:
    from spotfast.ops.tables import EpochRange, Table, UpdateRule

PADDING = 0


def pooling_epoch(
    items: Table,
    sequences: Tensor,
    slots: int,
    num_items: int,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
    start: int,
    report: Callable[[int], bool],
) -> list[float]:
    """Train in place; arguments as in `spotfast.ops.pooling_epoch`.

    Returns:
        The losses of the batches.
    """
    leaves = [parameter.detach().requires_grad_() for parameter in (items.vectors, items.biases)]
    step = dense_steps.stepper(rule, leaves, [items.vector_states, items.bias_states], at.steps)
    length = sequences.shape[1]
    losses = []
    for first in range(0, len(sequences), at.batch_size):
        batch = sequences[first : first + at.batch_size].long()
        draws = start + first, start + first + len(batch), length * slots, num_items, PADDING + 1, batch.device
        drawn = negatives.uniform(at.seed, at.epoch, *draws).view(len(batch), length, slots)
        follows = batch != PADDING
        candidates = torch.cat([batch.unsqueeze(2), drawn], dim=2)[follows]  # [steps, 1 + slots]
        vectors, biases = leaves
        scores = (_states(vectors, batch)[follows].unsqueeze(1) * vectors[candidates]).sum(2)
        scores = scores + biases[candidates].squeeze(2)
        # The sum of nothing is zero, where the mean is not a number.
        mean = score_loss.of_scores(loss, scores, None).sum() / max(len(scores), 1)
        gradients = torch.autograd.grad(mean, leaves)
        step(gradients, [candidates.unique()] * 2)
        losses.append(mean.item())
        if not report(first + len(batch)):
            break
    return losses


def _states(vectors: Tensor, sequences: Tensor) -> Tensor:
    """Users before each step, (B, L, D)."""
    follows = (sequences != PADDING).unsqueeze(2)
    inputs = vectors[sequences] * follows
    before = inputs.cumsum(1) - inputs
    return before / (follows.cumsum(1) - follows.long() + 1)
