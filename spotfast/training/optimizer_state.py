"""What an optimizer keeps for a table, read and written in the format of its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from spotfast.ops.tables import UpdateRule
from spotfast.optim import DeferredAdam
from spotfast.training.recognition import NotRecognisedError


def state_of(optimizer: torch.optim.Optimizer, rule: UpdateRule, weight: Tensor) -> tuple[Tensor, ...]:
    """Return what the optimizer keeps for a table, in the order of the rule's names; zeros before its first step.

    Raises:
        NotRecognisedError: if it keeps something in another format.
    """
    state = optimizer.state[weight]
    if not state:
        _set_step(state, rule, 0)
    columns = 1 if rule.name == "rowwise_adagrad" else weight.shape[1]
    for name in rule.states:
        if state.get(name) is None:
            state[name] = torch.zeros(len(weight), columns)
        kept = state[name]
        if kept.shape != (len(weight), columns) or kept.dtype != torch.float32 or not kept.is_contiguous():
            raise NotRecognisedError(f"the optimizer's state {name} is {kept.dtype} of shape {tuple(kept.shape)}")
    return tuple(state[name] for name in rule.states)


def steps_of(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor]) -> int:
    """Return how many steps an optimizer has taken.

    Raises:
        NotRecognisedError: if tables have different numbers of steps.
    """
    steps = {int(optimizer.state[weight].get("step", 0)) for weight in weights}
    if len(steps) > 1:
        raise NotRecognisedError(f"the optimizer has taken different numbers of steps for its tables: {sorted(steps)}")
    return steps.pop()


def set_steps(optimizer: torch.optim.Optimizer, rule: UpdateRule, weights: Sequence[Tensor], steps: int) -> None:
    """Note how many steps an optimizer has taken, in the format of its class."""
    for weight in weights:
        _set_step(optimizer.state[weight], rule, steps)
    if isinstance(optimizer, DeferredAdam):
        optimizer.resume()


def _set_step(state: dict[str, Any], rule: UpdateRule, steps: int) -> None:
    if rule.name not in ("sgd", "momentum", "rowwise_adagrad"):
        # Plain SparseAdam counts in a Python integer, the others in a tensor.
        state["step"] = steps if rule.name == "sparse_adam" else torch.tensor(float(steps))
