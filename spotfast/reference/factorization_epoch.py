"""An epoch of training a factorization model, with dense gradients and torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spotfast.reference import score_loss
from spotfast.reference.permutation import permutation

if TYPE_CHECKING:
    from spotfast.ops.factorization_epoch import EpochRange, Table, TrainingInteractions, UpdateRule

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
    optimizer = _optimizer(rule, leaves, states, at.steps)
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
        optimizer(gradients, touched)
        losses.append(mean.item())
        if not report(stop):
            break
    return losses


def _optimizer(
    rule: UpdateRule, leaves: list[Tensor], states: list[tuple[Tensor, ...]], steps: int
) -> Callable[[Any, list[Tensor]], None]:
    """Return a function that takes a step, from dense gradients and the rows that have one."""
    if rule.name == "rowwise_adagrad":
        return partial(_rowwise_adagrad_step, rule, leaves, states)
    lr, betas, eps = rule.learning_rate, rule.betas, rule.eps
    made: torch.optim.Optimizer
    if rule.name == "adam":
        made = (torch.optim.AdamW if rule.decoupled else torch.optim.Adam)(leaves, lr, betas, eps, rule.weight_decay)
    elif rule.name == "sparse_adam":
        made = torch.optim.SparseAdam(leaves, lr, betas, eps)
    elif rule.name == "adagrad":
        made = torch.optim.Adagrad(leaves, lr, rule.lr_decay, eps=eps)
    else:
        made = torch.optim.SGD(leaves, lr, rule.momentum)
    for leaf, own in zip(leaves, states, strict=True):
        count = steps if rule.name == "sparse_adam" else torch.tensor(float(steps))
        made.state[leaf] = {"step": count, **dict(zip(rule.states, own, strict=True))}

    def step(gradients: Any, touched: list[Tensor]) -> None:
        for leaf, gradient, rows in zip(leaves, gradients, touched, strict=True):
            leaf.grad = gradient
            if rule.name == "sparse_adam":
                # A sum of zeros is a gradient, too, here.
                leaf.grad = torch.sparse_coo_tensor(rows.unsqueeze(0), gradient[rows], leaf.shape)
        made.step()

    return step


@torch.no_grad()
def _rowwise_adagrad_step(
    rule: UpdateRule, leaves: list[Tensor], states: list[tuple[Tensor, ...]], gradients: Any, touched: list[Tensor]
) -> None:
    for leaf, gradient, (sums,) in zip(leaves, gradients, states, strict=True):
        sums.add_(gradient.square().mean(dim=1, keepdim=True))
        leaf.sub_(rule.learning_rate * gradient / (sums.sqrt() + rule.eps))
