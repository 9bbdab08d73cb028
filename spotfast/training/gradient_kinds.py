"""Which gradients torch's optimizers take: most refuse sparse ones, at their first step, and one refuses dense ones."""

from __future__ import annotations

import torch
from torch import nn

DENSE_ONLY = (
    *(torch.optim.Adadelta, torch.optim.Adafactor, torch.optim.Adam, torch.optim.Adamax, torch.optim.AdamW),
    *(torch.optim.ASGD, torch.optim.NAdam, torch.optim.RAdam, torch.optim.RMSprop, torch.optim.Rprop),
)


def check_gradients(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Raise if an optimizer of torch refuses the gradients of a built-in network's tables.

    Args:
        net: uses its tables by looking up rows, and in no other way.
        optimizer: over its parameters. Subclasses of torch's may have a step of their own, and are not looked at.

    Raises:
        ValueError: naming `sparse`.
    """
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    sparse = {
        layer.sparse
        for layer in net.modules()
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag)
        and layer.weight.requires_grad
        and id(layer.weight) in trained
    }
    kind = type(optimizer)
    if kind in DENSE_ONLY and True in sparse:
        raise ValueError(
            f"sparse must be False with torch.optim.{kind.__name__}, which takes no sparse gradients, got True. "
            "Without optimizer_func, sparse=True trains with the results of dense Adam (spotfast.optim.DeferredAdam)"
        )
    if kind is torch.optim.SparseAdam and False in sparse:
        raise ValueError("sparse must be True with torch.optim.SparseAdam, which takes no dense gradients, got False")
