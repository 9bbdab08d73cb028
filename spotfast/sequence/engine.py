"""The engine of pooling models: epochs in C++, for plain networks and optimizers."""

from __future__ import annotations

import threading

import torch
from torch import nn

from spotfast.ops.pooling_epoch import pooling_epoch
from spotfast.ops.tables import EpochRange, EpochResult, Table, UpdateRule
from spotfast.sequence.representations import PoolNet
from spotfast.sequence_interactions import PADDING_IDX
from spotfast.training import recognition
from spotfast.training.native import NativeEngine, Reporter
from spotfast.training.progress import Progress
from spotfast.training.sequence import SequenceTask

CHUNK_IDS = 1 << 23  # ids of sequences that are cut at once


class PoolingEngine(NativeEngine):
    """Trains a plain `PoolNet` with a plain optimizer.

    Args:
        net: the network.
        optimizer: over its parameters.
        task: what to train on.
        batch_size: sequences per step.

    Attributes:
        count: the sequences per epoch.

    Raises:
        NotRecognisedError: if it does not train this; the message says why.
    """

    def __init__(self, net: nn.Module, optimizer: torch.optim.Optimizer, task: SequenceTask, batch_size: int) -> None:
        named = {name: getattr(net, name) for name in ("item_embeddings", "item_biases") if hasattr(net, name)}
        vectors, biases = recognition.require_plain(net, PoolNet, named)
        for name, layer in (("item_embeddings", vectors), ("item_biases", biases)):
            if layer.padding_idx != PADDING_IDX:
                raise recognition.NotRecognisedError(f"{name} has padding_idx={layer.padding_idx}")
        super().__init__("pooling_epoch", optimizer, [(vectors, biases)])
        if recognition.rule_of(optimizer, (vectors, biases)).name == "sparse_adam":
            raise recognition.NotRecognisedError("SparseAdam moves other rows with other engines")
        self.count = task.count
        self._task = task
        self._batch_size = batch_size

    def run(self, epoch: int, progress: Progress, interrupted: threading.Event) -> float:
        """Train for one epoch, as `spotfast.training.loop.Engine` says."""
        report = Reporter(progress, interrupted, self._batch_size)
        at_once = max(1, CHUNK_IDS // self._task.length // self._batch_size) * self._batch_size

        def train(tables: list[Table], rule: UpdateRule, steps: int) -> EpochResult:
            losses, batches = 0.0, 0
            for start in range(0, self.count, at_once):
                sequences = self._task.sequences(epoch, start, min(start + at_once, self.count))
                part = pooling_epoch(
                    tables[0],
                    torch.from_numpy(sequences),
                    self._task.slots,
                    self._task.num_items,
                    self._task.loss_name,
                    rule,
                    EpochRange(self._task.seed, epoch, self._batch_size, steps + batches),
                    start=start,
                    report=lambda done, start=start: report(start + done),  # type: ignore[misc]
                )
                losses += part.loss * part.batches
                batches += part.batches
                if report.stopped:
                    break
            return EpochResult(losses / batches, batches)

        return self._train(train, report)
