"""An epoch of training a factorization model, with dense gradients and torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spotfast.reference import dense_steps, score_loss
from spotfast.reference.permutation import permutation

if TYPE_CHECKING:
    from spotfast.ops.factorization_epoch import TrainingInteractions
    from spotfast.ops.tables import EpochRange, Table, UpdateRule

Draw = Callable[[int, int, Tensor], Tensor]  # (start, stop, users (N,)) -> negatives (N, slots)


def factorization_epoch(
    users: Table,
    items: Table,
    interactions: TrainingInteractions,
    draw: Draw | None,
    loss: str,
    rule: UpdateRule,
    at: EpochRange,
    report: Callable[[int], bool],
) -> list[float]:
    """Train in place; arguments as in `spotfast.ops.factorization_epoch`.

    Returns:
        The losses of the batches.
    """
    parameters = [users.vectors, users.biases, items.vectors, items.biases]
    leaves = [parameter.detach().requires_grad_() for parameter in parameters]
    states = [users.vector_states, users.bias_states, items.vector_states, items.bias_states]
    step = dense_steps.stepper(rule, leaves, states, at.steps)
    count = len(interactions.pairs)
    order = permutation(at.seed, at.epoch, count, 0, count, interactions.pairs.device)
    losses = []
    for start in range(0, count, at.batch_size):
        stop = min(start + at.batch_size, count)
        batch = order[start:stop]
        user_ids, candidates = interactions.pairs[batch].long().split(1, dim=1)
        if draw is not None:
            candidates = torch.cat([candidates, draw(start, stop, user_ids.squeeze(1))], dim=1)
        user_vectors, user_biases, item_vectors, item_biases = leaves
        scores = (user_vectors[user_ids] * item_vectors[candidates]).sum(2)  # [B, C]
        scores = scores + user_biases[user_ids.squeeze(1)] + item_biases[candidates].squeeze(2)
        ratings = None if interactions.ratings is None else interactions.ratings[batch]
        charged = score_loss.of_scores(loss, scores, ratings)
        mean = (charged if interactions.weights is None else interactions.weights[batch] * charged).mean()
        gradients = torch.autograd.grad(mean, leaves)
        touched = [user_ids.unique(), user_ids.unique(), candidates.unique(), candidates.unique()]
        step(gradients, touched)
        losses.append(mean.item())
        if not report(stop):
            break
    return losses
