"""The engine for any network and any optimizer: batches through torch's autograd.

It knows nothing about users and items. A `Task` loads what a range of the epoch's positions needs, many batches at
once, and computes the loss of one batch.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container
from typing import Protocol

import torch
from torch import Tensor

from spotfast import device_memory
from spotfast.optim import DeferredAdam
from spotfast.training.optimizer_state import allocate, state_bytes
from spotfast.training.progress import Progress

CHUNK_POSITIONS = 1 << 18  # loaded at once: order and negatives of many batches in one call each


class Task(Protocol):
    """What a model trains on."""

    count: int  # positions per epoch

    def load(self, epoch: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return tensors with one row for each of the positions [start, stop) of the epoch."""
        ...

    @property
    def loss(self) -> Callable[..., Tensor]:
        """A function from rows of the loaded tensors, a batch, to their mean loss."""
        ...


class AutogradEngine:
    """Trains a network on a task.

    Args:
        net: the network, already on its device.
        optimizer: over the network's parameters.
        task: what to train on.
        batch_size: positions per step; the last step of an epoch may have fewer.
        positions_at_once: how many positions are loaded at once, rounded down to whole batches, but at least one.

    Attributes:
        count: the positions per epoch.

    Raises:
        DeviceMemoryError: if the device has too little memory for gradients and what the optimizer keeps.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        task: Task,
        batch_size: int,
        positions_at_once: int = CHUNK_POSITIONS,
    ) -> None:
        by_rows = {id(layer.weight) for layer in net.modules() if getattr(layer, "sparse", False)}
        needed = {"gradients": _gradient_bytes(net, by_rows), "the optimizer's state": state_bytes(optimizer)[1]}
        device_memory.require(next(net.parameters()).device, needed, device_memory.FOR_TRAINING)
        allocate(optimizer, by_rows)
        self.count = task.count
        self._net = net
        self._optimizer = optimizer
        self._clear_gradients = _clearing_of(optimizer)
        self._task = task
        self._batch_size = batch_size
        self._chunk = max(1, positions_at_once // batch_size) * batch_size

    def run(self, epoch: int, progress: Progress, interrupted: threading.Event) -> float:
        """Train for one epoch, as `spotfast.training.loop.Engine` says."""
        self._net.train()
        try:
            losses = self._steps(epoch, progress, interrupted)
        finally:
            if isinstance(self._optimizer, DeferredAdam):
                self._optimizer.flush()
        return torch.stack(losses).double().mean().item()  # the one place where the loss leaves the device

    def _steps(self, epoch: int, progress: Progress, interrupted: threading.Event) -> list[Tensor]:
        losses = []
        for start in range(0, self.count, self._chunk):
            tensors = self._task.load(epoch, start, min(start + self._chunk, self.count))
            for batch in zip(*(tensor.split(self._batch_size) for tensor in tensors), strict=True):
                losses.append(self._step(batch))
                progress.advance(len(batch[0]))
                if interrupted.is_set():
                    return losses
        return losses

    def _step(self, batch: tuple[Tensor, ...]) -> Tensor:
        self._clear_gradients()
        loss = self._task.loss(*batch)
        loss.backward()
        self._optimizer.step()
        return loss.detach()


def _clearing_of(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
    """Return what sets gradients to None: the optimizer's `zero_grad`, or what torch's own comes to.

    The entry in a profile that torch's makes, too, takes a twenty-fifth of a small step.
    """
    if getattr(optimizer.zero_grad, "__func__", None) is not torch.optim.Optimizer.zero_grad:
        return optimizer.zero_grad

    def clear() -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    return clear


def _gradient_bytes(net: torch.nn.Module, by_rows: Container[int]) -> int:
    """Return the size of the gradients that are still to be allocated; those of rows are small."""
    return sum(p.nbytes for p in net.parameters() if p.requires_grad and p.grad is None and id(p) not in by_rows)
