"""Sequences, to be continued by recommendations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spotfast import backends
from spotfast.recommendation.queries import Queries, Vectors
from spotfast.sequence.representations import SequenceNet
from spotfast.sequence.scoring import Scorer, item_tables
from spotfast.sequence_interactions import PADDING_IDX

FIRST_ITEM = PADDING_IDX + 1  # that can be recommended


class SequenceQueries(Queries):
    """Sequences, whose final states are scored by vectors or by calls of the network.

    Args:
        scorer: of the model.
        sequences: (N, L) items of the model.
        alone: one sequence was asked for.
        num_items: of the model.
        device: of the network.
    """

    def __init__(
        self, scorer: Scorer, sequences: NDArray[np.int64], alone: bool, num_items: int, device: torch.device
    ) -> None:
        super().__init__(sequences, alone, num_items, FIRST_ITEM)
        self._scorer = scorer
        self._device = device
        if backends.choose("vector_topk", device) != "reference":
            self.items = item_tables(scorer)

    def vectors(self, some: slice) -> Vectors:
        """Return final states."""
        return self._states(some).contiguous(), None

    def scores(self, some: slice) -> NDArray[np.float32]:
        """Predict all items."""
        return self._scorer.scores(self._states(some)).cpu().numpy()

    @property
    def num_bytes(self) -> int:
        """What the scorer holds, and what it needs for a row."""
        return self._scorer.num_bytes

    def _states(self, some: slice) -> Tensor:
        return self._scorer.states(torch.from_numpy(self.asked[some]).to(self._device))


def item_lookup(net: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """Return the function from items (N,) to their vectors (N, D) that a network has, or None."""
    if isinstance(net, SequenceNet):
        return lambda ids: net.item_embeddings(ids.unsqueeze(0)).reshape(len(ids), -1)
    return getattr(net, "item_vectors", None)
