"""The engine of factorization models: whole epochs in C++, for plain networks and optimizers."""

from __future__ import annotations

import threading

import torch
from torch import nn

from spotfast import backends
from spotfast.factorization import optimizer_state, recognition
from spotfast.ops.factorization_epoch import EpochRange, Table, factorization_epoch
from spotfast.optim import DeferredAdam
from spotfast.training.factorization import FactorizationTask
from spotfast.training.progress import Progress


class FactorizationEngine:
    """Trains a plain `BilinearNet` with a plain optimizer.

    Args:
        net: the network.
        optimizer: over its parameters.
        task: what to train on.
        batch_size: interactions per step.

    Attributes:
        count: the interactions per epoch.

    Raises:
        spotfast.factorization.recognition.NotRecognisedError: if it does not train this; the message says why.
    """

    def __init__(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, task: FactorizationTask, batch_size: int
    ) -> None:
        self.count = task.count
        self._optimizer = optimizer
        self._task = task
        self._batch_size = batch_size
        self._layers = recognition.tables_of(net)
        self._weights = [layer.weight for layer in self._layers]
        if backends.choose("factorization_epoch", self._weights[0].device) != "native":
            reason = backends.missing("native", self._weights[0].device) or "SPOTFAST_BACKEND=reference is set"
            raise recognition.NotRecognisedError(f"the C++ engine cannot run: {reason}")
        optimizer_state.steps_of(optimizer, self._weights)
        rule = recognition.rule_of(optimizer, self._layers)
        for weight in self._weights:
            optimizer_state.state_of(optimizer, rule, weight)

    def run(self, epoch: int, progress: Progress, interrupted: threading.Event) -> float:
        """Train for one epoch, as `spotfast.training.loop.Engine` says."""
        done = 0

        def report(positions: int) -> bool:
            nonlocal done
            progress.advance(positions - done)
            done = positions
            return not interrupted.is_set()

        if isinstance(self._optimizer, DeferredAdam):
            self._optimizer.flush()
        rule = recognition.rule_of(self._optimizer, self._layers)
        steps = optimizer_state.steps_of(self._optimizer, self._weights)
        states = [optimizer_state.state_of(self._optimizer, rule, weight) for weight in self._weights]
        user_vectors, user_biases, item_vectors, item_biases = (weight.detach() for weight in self._weights)
        result = factorization_epoch(
            Table(user_vectors, user_biases, states[0], states[1]),
            Table(item_vectors, item_biases, states[2], states[3]),
            self._task.interactions,
            self._task.sampling,
            self._task.loss_name,
            rule,
            EpochRange(self._task.seed, epoch, self._batch_size, steps),
            report=report,
        )
        optimizer_state.set_steps(self._optimizer, rule, self._weights, steps + result.batches)
        return result.loss
