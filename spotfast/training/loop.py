"""One loop for all models: epochs, batches, optimizer steps, history.

The loop knows nothing about users and items. A `Task` loads what a range of the epoch's positions needs, many batches
at once, and computes the loss of one batch.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from spotfast.optim import DeferredAdam
from spotfast.training.history import Epoch, History
from spotfast.training.interrupt import deferred_interrupt
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


class Trainer:
    """Trains a network on tasks, epoch after epoch.

    Args:
        net: the network, already on its device.
        optimizer: over the network's parameters.
        batch_size: positions per step; the last step of an epoch may have fewer.
        history: where epochs are recorded; its length is the number of the next epoch.
        positions_at_once: how many positions are loaded at once, rounded down to whole batches, but at least one.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        history: History,
        positions_at_once: int = CHUNK_POSITIONS,
    ) -> None:
        self._net = net
        self._optimizer = optimizer
        self._batch_size = batch_size
        self._history = history
        self._chunk = max(1, positions_at_once // batch_size) * batch_size

    def run(self, task: Task, epochs: int, verbose: bool = False) -> None:
        """Train for some epochs.

        An interrupt (Ctrl-C) takes effect between two steps; the epoch it falls in counts as done.

        Raises:
            ValueError: if the mean loss of an epoch is not finite.
        """
        self._net.train()
        for number in range(epochs):
            progress = Progress(number, task.count, verbose)
            started = time.perf_counter()
            try:
                with deferred_interrupt() as interrupted:
                    losses = self._run_epoch(task, progress, interrupted)
                    self._finish_epoch(losses, started)
            finally:
                progress.close()
            loss = self._history[-1].loss
            if not math.isfinite(loss):
                raise ValueError(
                    f"the loss of epoch {number} is {loss}: training diverged. "
                    "Lower learning_rate, or check ratings and weights for extreme values"
                )
            progress.report(loss)

    def _run_epoch(self, task: Task, progress: Progress, interrupted: threading.Event) -> list[Tensor]:
        epoch = len(self._history)
        losses = []
        for start in range(0, task.count, self._chunk):
            tensors = task.load(epoch, start, min(start + self._chunk, task.count))
            for batch in zip(*(tensor.split(self._batch_size) for tensor in tensors), strict=True):
                losses.append(self._step(task, batch))
                progress.advance(len(batch[0]))
                if interrupted.is_set():
                    return losses
        return losses

    def _finish_epoch(self, losses: list[Tensor], started: float) -> None:
        if isinstance(self._optimizer, DeferredAdam):
            self._optimizer.flush()
        loss = torch.stack(losses).double().mean().item()  # the one place where the loss leaves the device
        self._history.append(Epoch(len(self._history), loss, time.perf_counter() - started))

    def _step(self, task: Task, batch: tuple[Tensor, ...]) -> Tensor:
        self._optimizer.zero_grad()
        loss = task.loss(*batch)
        loss.backward()
        self._optimizer.step()
        return loss.detach()
