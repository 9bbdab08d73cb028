"""What sequence models train on: batches of sequences, with negatives at every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast.interactions import Interactions
from spotfast.ops import negatives, permutation
from spotfast.sequence_interactions import PADDING_IDX


@runtime_checkable
class Sequences(Protocol):
    """Sequences of item ids of one length, padded on the left with 0: in an array, or cut when they are asked for."""

    @property
    def num_items(self) -> int:
        """The number of items, padding included, above every id."""

    @property
    def max_sequence_length(self) -> int:
        """The length L of a sequence."""

    def __len__(self) -> int:
        """Return the number of sequences."""

    def check(self) -> None:
        """Raise if the sequences are not valid."""

    def rows(self, index: NDArray[np.int64], /) -> NDArray[np.int32]:
        """Return the sequences at positions (k,): shape (k, L)."""


def check_sequences(name: str, data: Any, otherwise: str = "") -> None:
    """Raise unless the argument holds valid sequences.

    Args:
        name: the argument.
        data: what was passed.
        otherwise: for the message, what else those could do who pass `Interactions`.
    """
    if isinstance(data, Interactions):
        raise TypeError(f"{name} must be sequences, got Interactions: cut them with `to_sequence`{otherwise}")
    if not isinstance(data, Sequences):
        raise TypeError(f"{name} must be SequenceInteractions, got {type(data).__name__}")
    data.check()


class SequenceTask:
    """Sequences in the order of the epoch; at every step the item that follows, and negatives.

    Args:
        sequences: checked, not empty.
        num_items: negatives are drawn from 1 .. num_items - 1: never padding.
        seed: of the random stream.
        device: where tensors are to be.
        slots: the number of negatives, n.
        loss_name: what the loss is called, for engines with losses of their own.
        loss: the mean loss of a batch, from sequences (B, L) and negatives (B, L, n).

    Attributes:
        count: the number of sequences.
        length: of a sequence.
    """

    def __init__(
        self,
        sequences: Sequences,
        num_items: int,
        seed: int,
        device: torch.device,
        slots: int,
        loss_name: str,
        loss: Callable[[Tensor, Tensor], Tensor],
    ) -> None:
        self.count = len(sequences)
        self.length = sequences.max_sequence_length
        self.seed = seed
        self.slots = slots
        self.loss_name = loss_name
        self.loss = loss
        self._sequences = sequences
        self.num_items = num_items
        self._device = device

    def sequences(self, epoch: int, start: int, stop: int) -> NDArray[np.int32]:
        """Return the sequences at a range of positions of the epoch, (N, L), contiguous."""
        order = permutation.permutation(self.seed, epoch, self.count, start, stop)
        return np.ascontiguousarray(self._sequences.rows(order.numpy()), np.int32)

    def load(self, epoch: int, start: int, stop: int) -> tuple[Tensor, ...]:
        """Return sequences (N, L) and negatives (N, L, slots)."""
        sequences = torch.from_numpy(self.sequences(epoch, start, stop)).to(self._device, torch.int64)
        draws = sequences.shape[1] * self.slots
        drawn = negatives.uniform(
            self.seed, epoch, start, stop, draws, self.num_items, first=PADDING_IDX + 1, device=self._device
        )
        return sequences, drawn.view(*sequences.shape, self.slots)
