"""What an optimizer keeps for a table: read and written in the format of its class, and how much it is."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spotfast.ops.tables import UpdateRule
from spotfast.optim import DeferredAdam, RowwiseAdagrad
from spotfast.training.recognition import NotRecognisedError

_WITH_TWO_MOMENTS = (
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.SparseAdam),
    *(torch.optim.NAdam, torch.optim.RAdam, DeferredAdam),
)
_MOMENTS, _BUFFER = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)


def state_of(optimizer: torch.optim.Optimizer, rule: UpdateRule, weight: Tensor) -> tuple[Tensor, ...]:
    """Return what the optimizer keeps for a table, in the order of the rule's names; zeros before its first step.

    Raises:
        NotRecognisedError: if it keeps something in another format.
    """
    state = optimizer.state[weight]
    columns = 1 if rule.name == "rowwise_adagrad" else weight.shape[1]
    missing = [name for name in rule.states if state.get(name) is None]
    zeros = {name: torch.zeros(len(weight), columns, device=weight.device) for name in missing}
    if not state:
        state.update(_count(optimizer, optimizer.param_groups[0], weight, 0))
    state.update(zeros)
    for name in rule.states:
        kept = state[name]
        plain = kept.dtype == torch.float32 and kept.device == weight.device and kept.is_contiguous()
        if kept.shape != (len(weight), columns) or not plain:
            raise NotRecognisedError(
                f"the optimizer's state {name} is {kept.dtype} of shape {tuple(kept.shape)} on {kept.device}"
            )
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


def set_steps(optimizer: torch.optim.Optimizer, weights: Sequence[Tensor], steps: int) -> None:
    """Note how many steps an optimizer with one group of parameters has taken, in the format of its class."""
    for weight in weights:
        optimizer.state[weight].update(_count(optimizer, optimizer.param_groups[0], weight, steps))
    if isinstance(optimizer, DeferredAdam):
        optimizer.resume()


def allocate(optimizer: torch.optim.Optimizer, by_rows: Container[int] = ()) -> None:
    """Allocate what an optimizer would allocate while it takes its first step, when some parameters have moved.

    That of `torch.optim.Adam`, `AdamW`, `SparseAdam`, and `SGD` with momentum and without dampening. Adagrad and our
    own have it before they move anything; of others it is not known.

    Args:
        optimizer: of any class.
        by_rows: the `id` of each parameter whose gradients are sparse; with momentum, `SGD` keeps those as they are.
    """
    for group in optimizer.param_groups:
        names = _names_kept(optimizer, group)
        for parameter in group["params"]:
            if names == _BUFFER and id(parameter) in by_rows:
                continue
            if names and parameter.requires_grad and not optimizer.state.get(parameter):
                zeros = {name: torch.zeros_like(parameter) for name in names}
                optimizer.state[parameter] = {**_count(optimizer, group, parameter, 0), **zeros}


def state_bytes(optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    """Return the size of what an optimizer has allocated, and of what it is going to allocate at its first step.

    The second is known of torch's usual optimizers and of ours, and 0 for others.
    """
    allocated = missing = 0
    for group in optimizer.param_groups:
        numbers = _numbers_kept(optimizer, group)
        for parameter in group["params"]:
            kept = [value for value in optimizer.state.get(parameter, {}).values() if isinstance(value, Tensor)]
            allocated += sum(value.nbytes for value in kept)
            size = max(4, parameter.itemsize) if isinstance(optimizer, DeferredAdam) else parameter.itemsize
            missing += 0 if kept else numbers * size * parameter.numel()
    return allocated, missing


def _numbers_kept(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> int:
    """Return how many numbers per weight an optimizer allocates at its first step."""
    if isinstance(optimizer, _WITH_TWO_MOMENTS):
        return 3 if group.get("amsgrad") else 2
    if isinstance(optimizer, torch.optim.SGD):
        return 1 if group["momentum"] else 0
    return 1 if isinstance(optimizer, torch.optim.RMSprop) else 0


def _names_kept(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of these numbers, zeros before the first step, where that is known."""
    if type(optimizer) in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SparseAdam):
        return (*_MOMENTS, "max_exp_avg_sq") if group.get("amsgrad") else _MOMENTS
    if type(optimizer) is torch.optim.SGD and group["momentum"] and not group["dampening"]:
        return _BUFFER
    return ()


def _count(optimizer: torch.optim.Optimizer, group: Mapping[str, Any], weight: Tensor, steps: int) -> dict[str, Any]:
    """Return the number of steps taken, as the optimizer keeps it, if it does."""
    if isinstance(optimizer, torch.optim.SGD | RowwiseAdagrad):
        return {}
    if isinstance(optimizer, torch.optim.SparseAdam):
        return {"step": steps}
    fused = isinstance(optimizer, DeferredAdam) or group.get("fused") or group.get("capturable")
    return {"step": torch.tensor(float(steps), device=weight.device if fused else torch.device("cpu"))}
