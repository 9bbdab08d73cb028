"""Steps of every update rule on whole tables, by torch's own optimizers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from spotfast.ops.tables import UpdateRule


def stepper(
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
                indices, values = rows.unsqueeze(0), gradient[rows]
                leaf.grad = torch.sparse_coo_tensor(indices, values, leaf.shape, check_invariants=True)
        made.step()

    return step


@torch.no_grad()
def _rowwise_adagrad_step(
    rule: UpdateRule, leaves: list[Tensor], states: list[tuple[Tensor, ...]], gradients: Any, touched: list[Tensor]
) -> None:
    for leaf, gradient, (sums,) in zip(leaves, gradients, states, strict=True):
        sums.add_(gradient.square().mean(dim=1, keepdim=True))
        leaf.sub_(rule.learning_rate * gradient / (sums.sqrt() + rule.eps))
