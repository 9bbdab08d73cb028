"""Which networks and optimizers the engines train: plain ones, whose semantics they have.

Recognition is strict. Anything that could change what a step does, be it a subclass, a hook, a frozen table or an
option that the engine does not have, leaves the model to autograd, and the reason is given.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from spotfast import hooks
from spotfast.deferred_table import DeferredTable
from spotfast.layers import TABLES
from spotfast.ops.tables import MOST_DECAY, UpdateRule
from spotfast.optim import DeferredAdam, RowwiseAdagrad

_PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class NotRecognisedError(Exception):
    """The engine does not train this; the message says why."""


def require_plain(net: nn.Module, kind: type[nn.Module], layers: dict[str, nn.Module]) -> tuple[nn.Embedding, ...]:
    """Return the tables of a network, if it is just what we made it.

    Args:
        net: the network.
        kind: the class that it must be of; a subclass will not do.
        layers: all its layers, by name.

    Raises:
        NotRecognisedError: naming what is not plain.
    """
    if type(net) is not kind:
        raise NotRecognisedError(f"the network is a {type(net).__name__}, not the built-in {kind.__name__}")
    _require_unchanged("the network", net)
    if hooks.on_all_modules():
        raise NotRecognisedError("torch has hooks on all modules")
    tables = tuple(_plain_table(name, layer) for name, layer in layers.items())
    if len({table.weight.data_ptr() for table in tables}) < len(tables):
        raise NotRecognisedError("layers share their weights")
    return tables


def rule_of(optimizer: torch.optim.Optimizer, layers: tuple[nn.Embedding, ...]) -> UpdateRule:
    """Return the update rule of an optimizer over the weights of some layers, with its learning rate of now.

    Raises:
        NotRecognisedError: if the engine has no such rule.
    """
    kind = type(optimizer)
    if kind not in _RULES:
        raise NotRecognisedError(f"the optimizer is {kind.__module__}.{kind.__name__}")
    if any(getattr(optimizer, name, None) for name in hooks.OF_OPTIMIZERS):
        raise NotRecognisedError("the optimizer has hooks")
    if hooks.on_all_optimizers():
        raise NotRecognisedError("torch has hooks on all optimizers")
    step = vars(optimizer).get("step")
    if step is not None and not getattr(step, "_wrapped_by_lr_sched", False):  # schedulers count its calls
        raise NotRecognisedError("the optimizer has a step of its own")
    groups = optimizer.param_groups
    if len(groups) != 1:
        raise NotRecognisedError(f"the optimizer has {len(groups)} groups of parameters, not one")
    weights = {id(layer.weight) for layer in layers}
    if len(groups[0]["params"]) != len(weights) or {id(p) for p in groups[0]["params"]} != weights:
        raise NotRecognisedError("the optimizer is not over all tables and nothing else")
    for option in ("amsgrad", "maximize", "differentiable", "nesterov", "dampening"):
        if groups[0].get(option):
            raise NotRecognisedError(f"the optimizer has {option}={groups[0][option]}")
    rule = _RULES[kind](groups[0])
    _require_gradients_of_kind(kind, rule, {layer.sparse for layer in layers})
    if not rule.eps > 0:
        raise NotRecognisedError(f"the optimizer has eps={rule.eps}")
    return rule


def _require_unchanged(what: str, module: nn.Module) -> None:
    """Raise for hooks, but for those by which `DeferredAdam` catches up rows, which the engines do themselves."""
    replaced = any(callable(value) for name, value in vars(module).items() if not name.startswith("_"))
    if replaced or any(not DeferredTable.owns(hook) for name in hooks.OF_MODULES for hook in _hooks(module, name)):
        raise NotRecognisedError(f"{what} has hooks, or methods of its own")


def _hooks(module: nn.Module, name: str) -> list[Any]:
    return list((getattr(module, name, None) or {}).values())


def _plain_table(name: str, layer: nn.Module) -> nn.Embedding:
    if type(layer) not in TABLES:
        raise NotRecognisedError(f"{name} is a {type(layer).__name__}")
    assert isinstance(layer, nn.Embedding)
    _require_unchanged(name, layer)
    for option, plain in (("max_norm", None), ("scale_grad_by_freq", False)):
        if getattr(layer, option) != plain:
            raise NotRecognisedError(f"{name} has {option}={getattr(layer, option)}")
    weight = layer.weight
    if weight.dtype != torch.float32 or not weight.is_contiguous():
        raise NotRecognisedError(f"{name} is {weight.dtype} with strides {weight.stride()}, not contiguous float32")
    if not weight.requires_grad:
        raise NotRecognisedError(f"{name} is frozen")
    if any(getattr(weight, name, None) for name in _PARAMETER_HOOKS):
        raise NotRecognisedError(f"{name} has hooks on its gradient")
    return layer


def _require_gradients_of_kind(kind: type, rule: UpdateRule, sparse: set[bool]) -> None:
    """Raise for what torch itself refuses, or does otherwise: sparse gradients in a rule for dense ones."""
    if kind is torch.optim.SparseAdam and sparse != {True}:
        raise NotRecognisedError("SparseAdam needs tables with sparse=True")
    if kind is not DeferredAdam and rule.name in ("adam", "momentum") and sparse != {False}:
        raise NotRecognisedError(f"{kind.__name__} needs tables with sparse=False")


def _adamw(group: dict[str, Any]) -> UpdateRule:
    return _adam({**group, "decoupled_weight_decay": True})  # which torch says itself from 2.7 on


def _adam(group: dict[str, Any]) -> UpdateRule:
    decoupled = bool(group.get("decoupled_weight_decay"))
    rate, decay = float(group["lr"]), float(group["weight_decay"])
    if decoupled and rate * decay > MOST_DECAY:
        raise NotRecognisedError(f"the optimizer has lr * weight_decay = {rate * decay}")
    betas = float(group["betas"][0]), float(group["betas"][1])
    return UpdateRule("adam", rate, betas, float(group["eps"]), decay, decoupled and decay > 0)


def _sparse_adam(group: dict[str, Any]) -> UpdateRule:
    betas = float(group["betas"][0]), float(group["betas"][1])
    return UpdateRule("sparse_adam", float(group["lr"]), betas, float(group["eps"]))


def _sgd(group: dict[str, Any]) -> UpdateRule:
    _require_no_decay(group)
    momentum = float(group["momentum"])
    return UpdateRule("momentum" if momentum else "sgd", float(group["lr"]), momentum=momentum)


def _adagrad(group: dict[str, Any]) -> UpdateRule:
    _require_no_decay(group)
    return UpdateRule("adagrad", float(group["lr"]), eps=float(group["eps"]), lr_decay=float(group["lr_decay"]))


def _rowwise_adagrad(group: dict[str, Any]) -> UpdateRule:
    return UpdateRule("rowwise_adagrad", float(group["lr"]), eps=float(group["eps"]))


def _require_no_decay(group: dict[str, Any]) -> None:
    if group["weight_decay"]:
        raise NotRecognisedError(f"the optimizer has weight_decay={group['weight_decay']}")


_RULES: dict[type, Callable[[dict[str, Any]], UpdateRule]] = {
    torch.optim.Adam: _adam,
    torch.optim.AdamW: _adamw,
    DeferredAdam: _adam,
    torch.optim.SparseAdam: _sparse_adam,
    torch.optim.SGD: _sgd,
    torch.optim.Adagrad: _adagrad,
    RowwiseAdagrad: _rowwise_adagrad,
}
