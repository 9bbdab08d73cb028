"""The engine of factorization models: whole epochs in C++ or Triton, for plain networks and optimizers."""

from __future__ import annotations

import threading

import torch
from torch import nn

from spotfast.factorization.representations import BilinearNet
from spotfast.ops.factorization_epoch import factorization_epoch
from spotfast.ops.tables import EpochRange, EpochResult, Table, UpdateRule
from spotfast.training import recognition
from spotfast.training.factorization import FactorizationTask
from spotfast.training.native import NativeEngine, Reporter
from spotfast.training.progress import Progress

LAYERS = ("user_embeddings", "user_biases", "item_embeddings", "item_biases")


class FactorizationEngine(NativeEngine):
    """Trains a plain `BilinearNet` with a plain optimizer.

    Args:
        net: the network.
        optimizer: over its parameters.
        task: what to train on.
        batch_size: interactions per step.

    Attributes:
        count: the interactions per epoch.

    Raises:
        NotRecognisedError: if it does not train this; the message says why.
    """

    def __init__(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, task: FactorizationTask, batch_size: int
    ) -> None:
        named = {name: getattr(net, name) for name in LAYERS if hasattr(net, name)}
        layers = recognition.require_plain(net, BilinearNet, named)
        for name, layer in zip(named, layers, strict=True):
            if layer.padding_idx is not None:
                raise recognition.NotRecognisedError(f"{name} has padding_idx={layer.padding_idx}")
        super().__init__("factorization_epoch", optimizer, [(layers[0], layers[1]), (layers[2], layers[3])])
        self.count = task.count
        self._task = task
        self._batch_size = batch_size

    def run(self, epoch: int, progress: Progress, interrupted: threading.Event) -> float:
        """Train for one epoch, as `spotfast.training.loop.Engine` says."""
        task, report = self._task, Reporter(progress, interrupted, self._batch_size)

        def train(tables: list[Table], rule: UpdateRule, steps: int) -> EpochResult:
            return factorization_epoch(
                tables[0],
                tables[1],
                task.interactions,
                task.sampling,
                task.loss_name,
                rule,
                EpochRange(task.seed, epoch, self._batch_size, steps),
                report=report,
            )

        return self._train(train, report)
