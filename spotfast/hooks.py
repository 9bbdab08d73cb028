"""Hooks, by which others see or change what modules and optimizers do: torch keeps those of one, and those of all."""

from __future__ import annotations

from torch import nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

OF_MODULES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
OF_OPTIMIZERS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks", "_zero_grad_pre_hooks")
_OF_ALL_OPTIMIZERS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")


def on_all_modules() -> bool:
    """Whether there are hooks by `torch.nn.modules.module.register_module_forward_hook` and its like."""
    return any(getattr(modules, f"_global{name}") for name in OF_MODULES)


def on_all_optimizers() -> bool:
    """Whether there are hooks by `torch.optim.optimizer.register_optimizer_step_pre_hook` or `..._post_hook`."""
    return any(getattr(optimizers, name) for name in _OF_ALL_OPTIMIZERS)


def see_calls_of(module: nn.Module) -> bool:
    """Whether there are hooks that are run when the module is called."""
    return bool(module._forward_hooks or module._forward_pre_hooks) or on_all_modules()
