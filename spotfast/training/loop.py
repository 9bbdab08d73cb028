"""One loop for all models: epochs, progress, history. What an epoch is, an engine knows."""

from __future__ import annotations

import math
import threading
import time
from typing import Protocol

from spotfast.training.divergence import DivergedError
from spotfast.training.history import Epoch, History
from spotfast.training.interrupt import deferred_interrupt
from spotfast.training.progress import Progress


class Engine(Protocol):
    """Trains epoch by epoch."""

    count: int  # positions per epoch

    def run(self, epoch: int, progress: Progress, interrupted: threading.Event) -> float:
        """Train for one epoch.

        Args:
            epoch: its number in the random stream.
            progress: told about positions done.
            interrupted: once it is set, the epoch ends between two steps, with a consistent network.

        Returns:
            The mean of the losses of the batches.
        """
        ...


def train(engine: Engine, history: History, epochs: int, verbose: bool = False) -> None:
    """Train for some epochs.

    An interrupt (Ctrl-C) takes effect between two steps; the epoch it falls in counts as done.

    Args:
        engine: what trains.
        history: where epochs are recorded; its length is the number of the next epoch.
        epochs: how many.
        verbose: show a progress bar, and print the loss of every epoch.

    Raises:
        DivergedError: if the mean loss of an epoch is not finite.
    """
    for number in range(epochs):
        progress = Progress(number, engine.count, verbose)
        started = time.perf_counter()
        try:
            with deferred_interrupt() as interrupted:
                loss = engine.run(len(history), progress, interrupted)
                history.append(Epoch(len(history), loss, time.perf_counter() - started))
        finally:
            progress.close()
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss of epoch {number} is {loss}: training diverged. "
                "Lower learning_rate, or check ratings and weights for extreme values"
            )
        progress.report(loss)
