"""What `fit(verbose=True)` shows: a bar over the epoch on standard error, then the line that Spotlight prints."""

from __future__ import annotations

from typing import Any


class Progress:
    """Shows the progress of one epoch; shows nothing unless `verbose`."""

    def __init__(self, epoch: int, positions: int, verbose: bool) -> None:
        self._epoch = epoch
        self._verbose = verbose
        self._bar: Any = None
        if verbose:
            from tqdm import tqdm

            self._bar = tqdm(total=positions, desc=f"Epoch {epoch}", unit="it", unit_scale=True, leave=False)

    def advance(self, positions: int) -> None:
        """Move on by some positions."""
        if self._bar is not None:
            self._bar.update(positions)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def report(self, loss: float) -> None:
        """Print the epoch's loss."""
        if self._verbose:
            print(f"Epoch {self._epoch}: loss {loss}")
