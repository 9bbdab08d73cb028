"""Users of a factorization model, to be recommended something."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends
from spotfast.factorization.scoring import Scorer, VectorScorer
from spotfast.recommendation.queries import Queries, Vectors


class FactorizationQueries(Queries):
    """Users, scored by their vectors or by calls of the network.

    Args:
        scorer: of the model.
        users: (N,) users of the model.
        alone: one user was asked for.
        num_items: of the model.
        first_item: items below this one are padding.
        device: of the network.
    """

    def __init__(
        self,
        scorer: Scorer,
        users: NDArray[np.int64],
        alone: bool,
        num_items: int,
        first_item: int,
        device: torch.device,
    ) -> None:
        super().__init__(users, alone, num_items, first_item)
        self._scorer = scorer
        self._device = device
        self._by_vectors: VectorScorer | None = None
        # A link can round different scores to equal predictions, which the lower id decides: those need the rows.
        # So does the reference of `vector_topk`, which has no other way.
        in_tiles = backends.choose("vector_topk", device) != "reference"
        if in_tiles and isinstance(scorer, VectorScorer) and scorer.link is None:
            self._by_vectors = scorer
            self.items = scorer.vectors(self._users(slice(0, 1)))[2:]

    def vectors(self, some: slice) -> Vectors:
        """Return vectors and biases of users."""
        assert self._by_vectors is not None
        return self._by_vectors.vectors(self._users(some))[:2]

    def scores(self, some: slice) -> NDArray[np.float32]:
        """Predict all items."""
        return self._scorer.matrix(self._users(some)).cpu().numpy()

    @property
    def num_bytes(self) -> int:
        """What the scorer holds."""
        return self._scorer.num_bytes

    def _users(self, some: slice) -> Tensor:
        return torch.from_numpy(self.asked[some]).to(self._device)
