"""What the engines of all models share: the tables of a network, and an optimizer whose part they take."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import torch
from torch import nn

from spotfast import backends, device_memory
from spotfast.ops.tables import MOST_COLUMNS_IN_KERNELS, EpochResult, Table, UpdateRule
from spotfast.optim import DeferredAdam
from spotfast.training import optimizer_state, recognition
from spotfast.training.progress import Progress

ENGINES = {"cpu": "C++", "cuda": "Triton"}  # by the type of the device


class NativeEngine:
    """Trains tables of vectors and biases with the update rule of a plain optimizer.

    In C++ on the CPU, by Triton kernels on CUDA devices.

    Args:
        operation: what trains them, a key of `spotfast.backends.OPERATIONS`.
        optimizer: over the tables, and nothing else.
        layers: pairs of a table of vectors and one of biases.

    Raises:
        NotRecognisedError: if this engine does not train this; the message says why.
        DeviceMemoryError: if the device has too little memory for what the optimizer keeps.
    """

    def __init__(
        self, operation: str, optimizer: torch.optim.Optimizer, layers: Sequence[tuple[nn.Embedding, nn.Embedding]]
    ) -> None:
        self._optimizer = optimizer
        self._layers = layers
        self._all_layers = tuple(layer for pair in layers for layer in pair)
        self._weights = [layer.weight for layer in self._all_layers]
        device = self._weights[0].device
        if any(weight.device != device for weight in self._weights):
            raise recognition.NotRecognisedError("tables are on different devices")
        _require_engine(operation, device)
        for vectors, biases in layers:
            if vectors.embedding_dim != layers[0][0].embedding_dim or biases.embedding_dim != 1:
                raise recognition.NotRecognisedError("vectors are not of one length, or biases of more than one column")
            if vectors.num_embeddings != biases.num_embeddings:
                raise recognition.NotRecognisedError("there are not as many biases as vectors")
            if device.type == "cuda" and vectors.embedding_dim > MOST_COLUMNS_IN_KERNELS:
                raise recognition.NotRecognisedError(f"vectors have more than {MOST_COLUMNS_IN_KERNELS} numbers")
        rule = recognition.rule_of(optimizer, self._all_layers)
        self._steps = optimizer_state.steps_of(optimizer, self._weights)  # once: it is counted on the device
        state = optimizer_state.state_bytes(optimizer)[1]
        device_memory.require(device, {"the optimizer's state": state}, device_memory.FOR_TABLES)
        self._tables(rule)

    def _train(self, epoch: Callable[[list[Table], UpdateRule, int], EpochResult], report: Reporter) -> float:
        """Call `epoch(tables, rule, steps taken before)`, which trains in place and reports; return its loss.

        If it fails in the middle, the optimizer counts the steps that it has reported.
        """
        if isinstance(self._optimizer, DeferredAdam):
            self._optimizer.flush()
        rule = recognition.rule_of(self._optimizer, self._all_layers)
        try:
            result = epoch(self._tables(rule), rule, self._steps)
        except BaseException:
            self._count(report.steps)
            raise
        self._count(result.batches)
        report.raise_error()
        return result.loss

    def _count(self, steps: int) -> None:
        self._steps += steps
        optimizer_state.set_steps(self._optimizer, self._weights, self._steps)

    def _tables(self, rule: UpdateRule) -> list[Table]:
        tables = []
        for pair in self._layers:
            vectors, biases = (layer.weight.detach() for layer in pair)
            states = [optimizer_state.state_of(self._optimizer, rule, layer.weight) for layer in pair]
            tables.append(Table(vectors, biases, states[0], states[1]))
        return tables


def _require_engine(operation: str, device: torch.device) -> None:
    if device.type not in ENGINES:
        raise recognition.NotRecognisedError(f"no engine runs on {device}")
    if backends.choose(operation, device) == "reference":
        engine = backends.OPERATIONS[operation][device.type][0]
        reason = backends.missing(engine, device) or "SPOTFAST_BACKEND=reference is set"
        raise recognition.NotRecognisedError(f"the {ENGINES[device.type]} engine cannot run: {reason}")


class Reporter:
    """Told about the positions done so far in the epoch, it moves the bar and says whether to go on.

    What goes wrong there ends the epoch, and is raised when the steps taken have been noted.

    Args:
        progress: the bar.
        interrupted: once it is set, the epoch ends.
        batch_size: positions per step.
    """

    def __init__(self, progress: Progress, interrupted: threading.Event, batch_size: int) -> None:
        self._progress = progress
        self._interrupted = interrupted
        self._batch_size = batch_size
        self._done = 0
        self._error: BaseException | None = None

    def __call__(self, positions: int) -> bool:
        """Move the bar to these positions."""
        further, self._done = positions - self._done, positions
        try:
            self._progress.advance(further)
        except BaseException as error:
            self._error = error
        return not self.stopped

    @property
    def steps(self) -> int:
        """How many steps that is; the last one of an epoch may have fewer positions."""
        return -(-self._done // self._batch_size)

    @property
    def stopped(self) -> bool:
        """Whether the epoch ends."""
        return self._interrupted.is_set() or self._error is not None

    def raise_error(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error
