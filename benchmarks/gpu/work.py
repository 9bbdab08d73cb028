"""The same work in any process: a call of every operation that has kernels, at a small size, always the same.

    work.py COMPILED FILE [--dry]

Saves for each operation what it gave, and how long its first call took. COMPILED is the folder whose kernels run where
SPOTFAST_AOT asks for such.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from cases import Case, Problem, Shape, pairs
from torch import Tensor

from spotfast.cuda import shipped
from spotfast.ops import negatives, permutation, philox
from spotfast.ops.bilinear import bilinear
from spotfast.ops.factorization_epoch import factorization_epoch
from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.sequence_loss import sequence_loss
from spotfast.ops.topk import vector_topk
from spotfast.positives import Positives
from spotfast.rows import Rows

DIM, LENGTH = 64, 20
SIZES, REHEARSED_SIZES = (4_096, 1_024, 200, 300), (8, 4, 6, 8)  # samples, and of a batch; users, items
Result = tuple[float, list[Tensor]]  # seconds until it was there, and what it is


class Work:
    """A call of every operation.

    Args:
        device: where.
        count: samples.
        batch_size: of an epoch.
        users: rows of their tables.
        items: rows of theirs, at least 4.
    """

    def __init__(self, device: torch.device, count: int, batch_size: int, users: int, items: int) -> None:
        self._device, self._count, self._batch_size = device, count, batch_size
        self._users, self._items = users, items
        self.tasks: dict[str, Callable[[], list[Tensor]]] = {
            "philox": lambda: [philox.draws(1, 2, 3, 0, count, device=device, backend="triton")],
            "permutation": lambda: [permutation.permutation(1, 2, count, device=device, backend="triton")],
            "negatives": self._negatives,
            "bilinear": self._bilinear,
            "sequence_loss": self._sequence_loss,
            "row_update": self._row_update,
            "factorization_epoch": self._epoch,
            "vector_ranks": self._ranks,
            "vector_topk": self._topk,
        }

    def run(self) -> dict[str, Result]:
        """Do all of it once."""
        found = {}
        for name, task in self.tasks.items():
            self._wait()
            started = time.perf_counter()
            tensors = task()
            self._wait()
            taken = time.perf_counter() - started
            found[name] = taken, [tensor.detach().cpu() for tensor in tensors]
        return found

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize()

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).to(self._device)

    def _ids(self, high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(high)).to(self._device)

    def _negatives(self) -> list[Tensor]:
        rows = torch.arange(4, dtype=torch.int32).repeat(self._users).to(self._device)
        positives = Positives(torch.arange(0, 4 * self._users + 1, 4).to(self._device), rows, self._items)
        users = self._ids(self._users, self._count)
        thresholds = negatives.popularity_thresholds(np.arange(self._items)).to(self._device)
        return [
            negatives.uniform(1, 2, 0, self._count, 1, self._items, device=self._device, backend="triton"),
            negatives.unseen(1, 2, 0, self._count, 1, positives, users, backend="triton"),
            negatives.popularity(1, 2, 0, self._count, 1, thresholds, positives, users, backend="triton"),
        ]

    def _bilinear(self) -> list[Tensor]:
        tables = [self._normal(rows, width) for rows in (self._users, self._items) for width in (DIM, 1)]
        leaves = [table.requires_grad_() for table in tables]
        users, items = self._ids(self._users, self._count), self._ids(self._items, self._count, 1)
        scores = bilinear(*leaves, users, items, sparse=True, backend="triton")
        scores.sum().backward()
        return [scores, *(leaf.grad._values() for leaf in leaves)]

    def _sequence_loss(self) -> list[Tensor]:
        rows = max(1, self._count // LENGTH)
        shapes = (rows, DIM, LENGTH), (self._items, DIM), (self._items, 1)
        leaves = [self._normal(*shape).requires_grad_() for shape in shapes]
        positives, drawn = self._ids(self._items, rows, LENGTH), self._ids(self._items, 1, rows, LENGTH)
        loss = sequence_loss(*leaves, positives, drawn, positives > 0, "bpr", sparse=True, backend="triton")
        loss.backward()
        return [loss, leaves[0].grad, *(leaf.grad._values() for leaf in leaves[1:])]

    def _row_update(self) -> list[Tensor]:
        first, second = torch.zeros(2, self._items, DIM, device=self._device)
        tensors = (self._normal(self._items, DIM), first, second)
        rows = DeferredRows(tensors[0], (0.9, 0.999), 1e-8, 0.0, backend="triton")
        for high in (self._items, self._items // 2):
            ids = self._ids(high, self._count)
            rows.catch_up(tensors, ids)
            rows.update(tensors, ids, self._normal(self._count, DIM), 1e-2)
        rows.flush(tensors)
        return list(tensors)

    def _epoch(self) -> list[Tensor]:
        shape = Shape(self._users, self._items, self._count, 0.5)
        case = Case("made up", "adam", self._batch_size, DIM)
        problem = Problem(shape, case, pairs(shape, self._count, self._device))
        result = factorization_epoch(
            problem.users, problem.items, problem.interactions, problem.sampling, "bpr", problem.rule, problem.at(),
            backend="triton",
        )  # fmt: skip
        return [torch.tensor(result.loss, dtype=torch.float64), *problem.tensors]

    def _vectors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        vectors = self._normal(self._users, DIM), self._normal(self._items, DIM)
        return vectors[0], self._normal(self._users), vectors[1], self._normal(self._items)

    def _ranks(self) -> list[Tensor]:
        targets = Rows(np.arange(self._users + 1), np.arange(self._users) % self._items)
        counts = vector_rank_counts(*self._vectors(), targets, backend="triton")
        return [torch.from_numpy(count) for count in (counts.above, counts.equal, counts.before)]

    def _topk(self) -> list[Tensor]:
        return [torch.from_numpy(part) for part in vector_topk(*self._vectors(), 3, backend="triton")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compiled", type=Path, help="a folder of compiled kernels")
    parser.add_argument("file", type=Path, help="for the results")
    parser.add_argument("--dry", action="store_true", help="on the CPU, by Triton's interpreter")
    arguments = parser.parse_args()
    shipped.FOLDER = arguments.compiled
    device = torch.device("cpu" if arguments.dry else "cuda")
    found = Work(device, *(REHEARSED_SIZES if arguments.dry else SIZES)).run()
    torch.save(found, arguments.file)
    if not arguments.dry:
        require_kind(os.environ["SPOTFAST_AOT"] == "require")


def require_kind(compiled: bool) -> None:
    """Exit with status 1 unless all kernels of this process were compiled ahead of time, or none was."""
    launching = importlib.import_module("spotfast.kernels.launch")
    kinds = {function is not None for function in launching._functions.values()}
    if kinds != {compiled}:
        sys.exit(f"kernels compiled ahead of time were {'to' if compiled else 'not to'} run: {kinds or 'none ran'}")


if __name__ == "__main__":
    main()
