"""What an optimizer keeps for a table: read and written in the format of its class, and how much it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from spotfast.ops.tables import UpdateRule
from spotfast.optim import DeferredAdam
from spotfast.training.recognition import NotRecognisedError

_WITH_TWO_MOMENTS = (
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.SparseAdam),
    *(torch.optim.NAdam, torch.optim.RAdam, DeferredAdam),
)


def state_of(optimizer: torch.optim.Optimizer, rule: UpdateRule, weight: Tensor) -> tuple[Tensor, ...]:
    """Return what the optimizer keeps for a table, in the order of the rule's names; zeros before its first step.

    Raises:
        NotRecognisedError: if it keeps something in another format.
    """
    state = optimizer.state[weight]
    if not state:
        _set_step(optimizer, rule, weight, 0)
    columns = 1 if rule.name == "rowwise_adagrad" else weight.shape[1]
    for name in rule.states:
        if state.get(name) is None:
            state[name] = torch.zeros(len(weight), columns, device=weight.device)
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


def set_steps(optimizer: torch.optim.Optimizer, rule: UpdateRule, weights: Sequence[Tensor], steps: int) -> None:
    """Note how many steps an optimizer has taken, in the format of its class."""
    for weight in weights:
        _set_step(optimizer, rule, weight, steps)
    if isinstance(optimizer, DeferredAdam):
        optimizer.resume()


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


def _set_step(optimizer: torch.optim.Optimizer, rule: UpdateRule, weight: Tensor, steps: int) -> None:
    if rule.name in ("sgd", "momentum", "rowwise_adagrad"):
        return
    # Plain SparseAdam counts in a Python integer, the others in a tensor; their fused kernels do it on the device.
    group = optimizer.param_groups[0]
    fused = isinstance(optimizer, DeferredAdam) or group.get("fused") or group.get("capturable")
    device = weight.device if fused else torch.device("cpu")
    counted = steps if rule.name == "sparse_adam" else torch.tensor(float(steps), device=device)
    optimizer.state[weight]["step"] = counted
