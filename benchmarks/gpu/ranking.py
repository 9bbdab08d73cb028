"""What ranking is compared with on the device: a product of matrices for some users at a time, then torch's `topk`."""

from __future__ import annotations

from collections.abc import Iterator

import harness
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.topk import vector_topk
from spotfast.rows import Rows

ALIKE = 0.99  # of ranks and of ids: a product rounds in another order, which decides between near neighbours
MOST_SCORES = 1 << 28  # of a chunk: 1 GiB


class Rankings:
    """Users with targets, and with items that are left out.

    Args:
        users, items, dim: how many.
        targets, excluded: for each user.
        device: of the vectors.
    """

    def __init__(self, users: int, items: int, dim: int, targets: int, excluded: int, device: torch.device) -> None:
        generator = torch.Generator(device).manual_seed(dim)
        self.users, self.items = (
            torch.randn(size, dim, generator=generator, device=device) / dim**0.5 for size in (users, items)
        )
        self.targets, self.excluded = (self._rows(count, seed) for seed, count in enumerate((targets, excluded)))

    def _rows(self, count: int, seed: int) -> Rows:
        """Draw as many distinct items for each user, from a stretch of the catalogue."""
        rng = np.random.default_rng(seed)
        users, items = len(self.users), len(self.items)
        step = max(1, items // count)
        drawn = step * np.arange(count) + rng.integers(0, step, (users, count))
        return Rows(count * np.arange(users + 1), drawn.ravel())

    def ranks(self) -> int:
        """Count what is above the targets; return for how many users."""
        self.above = vector_rank_counts(
            self.users, None, self.items, None, self.targets, self.excluded, backend="triton"
        ).above
        return len(self.users)

    def torch_ranks(self) -> int:
        """The same by products of matrices."""
        found = []
        for some, table in self._chunks():
            ids = torch.from_numpy(self.targets.take(some).items).to(table.device).view(len(some), -1)
            wanted = table.gather(1, ids)
            self._leave_out(table, some)
            found.append(torch.stack([(table > column.unsqueeze(1)).sum(1) for column in wanted.T], 1).cpu())
        self.torch_above = torch.cat(found).numpy().ravel()
        return len(self.users)

    def best(self, k: int) -> int:
        """Find the best items; return for how many users."""
        self.ids, _ = vector_topk(self.users, None, self.items, None, k, self.excluded, backend="triton")
        return len(self.users)

    def torch_best(self, k: int) -> int:
        """The same by products of matrices and torch's selection."""
        found = []
        for some, table in self._chunks():
            self._leave_out(table, some)
            found.append(table.topk(min(k, len(self.items))).indices.cpu())
        self.torch_ids = torch.cat(found).numpy()
        return len(self.users)

    def check(self, k: int) -> None:
        """Require that both find the same, but for near neighbours.

        Raises:
            harness.RefusalError: if they do not.
        """
        self.ranks(), self.torch_ranks(), self.best(k), self.torch_best(k)
        left_out = np.isin(_pairs(self.targets), _pairs(self.excluded))  # they tie behind all others
        near = (np.abs(self.above - self.torch_above) <= 1)[~left_out].mean()
        harness.require(near >= ALIKE, f"{near:.1%} of the ranks are those of a product of matrices")
        alike = (np.sort(self.ids, 1) == np.sort(self.torch_ids, 1)).mean()
        harness.require(alike >= ALIKE, f"{alike:.1%} of the best items are those of a product of matrices")

    def _chunks(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Yield some users, and their scores of all items."""
        size = max(1, MOST_SCORES // len(self.items))
        for first in range(0, len(self.users), size):
            vectors = self.users[first : first + size]
            yield np.arange(first, first + len(vectors)), vectors @ self.items.T

    def _leave_out(self, table: Tensor, some: NDArray[np.int64]) -> None:
        items = torch.from_numpy(self.excluded.take(some).items).to(table.device).view(len(some), -1)
        table.scatter_(1, items, -torch.inf)


def _pairs(rows: Rows) -> NDArray[np.int64]:
    """Return users and items as one number each."""
    return np.repeat(np.arange(len(rows)) << 32, rows.counts()) + rows.items
