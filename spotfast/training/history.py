"""What happened in each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import overload


@dataclass(frozen=True)
class Epoch:
    """One epoch of training.

    Attributes:
        epoch: its number, counted from 0 across calls of `fit`.
        loss: the mean of the losses of its batches.
        seconds: how long it took (not part of comparisons).
    """

    epoch: int
    loss: float
    seconds: float = field(compare=False)


class History(Sequence[Epoch]):
    """The epochs of a model so far, across calls of `fit`.

    Example:
        >>> history = History()
        >>> history.append(Epoch(epoch=0, loss=0.5, seconds=1.0))
        >>> history
        <History of 1 epoch: last loss 0.5>
        >>> history.losses
        [0.5]
    """

    def __init__(self) -> None:
        self._epochs: list[Epoch] = []

    @property
    def losses(self) -> list[float]:
        """The loss of every epoch."""
        return [epoch.loss for epoch in self._epochs]

    @property
    def seconds(self) -> list[float]:
        """The duration of every epoch."""
        return [epoch.seconds for epoch in self._epochs]

    def append(self, epoch: Epoch) -> None:
        """Add an epoch."""
        self._epochs.append(epoch)

    @overload
    def __getitem__(self, index: int) -> Epoch: ...
    @overload
    def __getitem__(self, index: slice) -> list[Epoch]: ...
    def __getitem__(self, index: int | slice) -> Epoch | list[Epoch]:
        return self._epochs[index]

    def __len__(self) -> int:
        return len(self._epochs)

    def __iter__(self) -> Iterator[Epoch]:
        return iter(self._epochs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self._epochs == other._epochs

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self._epochs:
            return "<History of 0 epochs>"
        plural = "" if len(self) == 1 else "s"
        return f"<History of {len(self)} epoch{plural}: last loss {self._epochs[-1].loss:.6g}>"
