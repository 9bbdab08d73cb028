"""The items that each user has interacted with: what unseen negatives must not be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast.rows import Rows


@dataclass(frozen=True)
class Positives:
    """Sorted, distinct items per user, in compressed rows: those of user u are `items[indptr[u]:indptr[u + 1]]`.

    Attributes:
        indptr: int64 tensor of shape (num_users + 1,).
        items: int32 tensor, one entry per distinct (user, item).
        num_items: the size of the catalogue.
    """

    indptr: Tensor
    items: Tensor
    num_items: int

    @classmethod
    def from_interactions(
        cls,
        user_ids: NDArray[np.integer[Any]],
        item_ids: NDArray[np.integer[Any]],
        num_users: int,
        num_items: int,
    ) -> Positives:
        """Collect the distinct items of every user.

        Example:
            >>> positives = Positives.from_interactions(np.array([1, 1, 1]), np.array([4, 2, 4]), 2, 5)
            >>> positives.indptr.tolist(), positives.items.tolist()
            ([0, 0, 2], [2, 4])
        """
        rows = Rows.from_ids(user_ids, item_ids, num_users, num_items)
        return cls(torch.from_numpy(rows.indptr), torch.from_numpy(rows.items.astype(np.int32)), num_items)

    def counts(self) -> Tensor:
        """Return the number of distinct items of every user, int64 of shape (num_users,)."""
        return self.indptr.diff()

    def without(self, users: Tensor) -> Positives:
        """Return positives in which the given users have none.

        Args:
            users: bool mask of shape (num_users,).
        """
        keep = ~users.repeat_interleave(self.counts())
        counts = self.counts().masked_fill(users, 0)
        indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        return Positives(indptr, self.items[keep], self.num_items)

    def with_padding(self) -> Positives:
        """Return positives in which every user has item 0, too, which none may have before."""
        rows = len(self.indptr) - 1
        indptr = self.indptr + torch.arange(rows + 1)
        items = self.items.new_zeros(len(self.items) + rows)
        own = torch.ones(len(items), dtype=torch.bool)
        own[indptr[:-1]] = False
        items[own] = self.items
        return Positives(indptr, items, self.num_items)

    def to(self, device: torch.device | str) -> Positives:
        """Return the same on a device."""
        return Positives(self.indptr.to(device), self.items.to(device), self.num_items)
