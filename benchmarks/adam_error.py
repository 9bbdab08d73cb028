"""How far the engine's deferred Adam is from dense `torch.optim.Adam` in float64, for large and small gradients.

    python benchmarks/adam_error.py

A regression of made-up ratings, 2,000 steps of 4 interactions, most rows touched seldom, the learning rate on a cosine;
weights make gradients as small as the first column says. Dense Adam in float32 stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast.ops.factorization_epoch import TrainingInteractions, factorization_epoch
from spotfast.ops.permutation import permutation
from spotfast.ops.tables import EpochRange, Table, UpdateRule

USERS, ITEMS, DIM, BATCH, STEPS, EPOCHS, SEED = 300, 100, 8, 4, 2_000, 10, 0
COUNT = STEPS // EPOCHS * BATCH
SCALES = (1e-2, 1e-4, 1e-6, 1e-8)


@dataclass(frozen=True)
class Problem:
    """Interactions with ratings and weights, and the tables to begin with: vectors and biases of users, of items."""

    pairs: Tensor
    ratings: Tensor
    weights: Tensor
    tables: list[NDArray[np.float64]]


def make(scale: float) -> Problem:
    rng = np.random.default_rng(SEED)
    pairs = np.stack([rows * rng.random(COUNT) ** 3 for rows in (USERS, ITEMS)], 1).astype(np.int32)
    ratings = torch.from_numpy(rng.normal(3, 1, COUNT)).float()
    vectors = [rng.normal(0, 1 / DIM, (rows, DIM)) for rows in (USERS, ITEMS)]
    tables = [vectors[0], np.zeros((USERS, 1)), vectors[1], np.zeros((ITEMS, 1))]
    return Problem(torch.from_numpy(pairs), ratings, torch.full((COUNT,), scale), tables)


def learning_rate(epoch: int) -> float:
    return 1e-2 * (0.55 + 0.45 * np.cos(np.pi * epoch / EPOCHS))


def engine(problem: Problem) -> list[Tensor]:
    """Train in the C++ engine."""
    tensors = [torch.tensor(table, dtype=torch.float32) for table in problem.tables]
    zeros = [(torch.zeros_like(tensor), torch.zeros_like(tensor)) for tensor in tensors]
    users, items = (Table(*tensors[at : at + 2], *zeros[at : at + 2]) for at in (0, 2))
    data = TrainingInteractions(problem.pairs, problem.ratings, problem.weights)
    for epoch in range(EPOCHS):
        rule, at = UpdateRule("adam", learning_rate(epoch)), EpochRange(SEED, epoch, BATCH, epoch * STEPS // EPOCHS)
        factorization_epoch(users, items, data, None, "regression", rule, at, backend="native")
    return tensors


def dense(problem: Problem, dtype: torch.dtype) -> list[Tensor]:
    """Train with dense Adam."""
    tables = [torch.tensor(table, dtype=dtype, requires_grad=True) for table in problem.tables]
    optimizer = torch.optim.Adam(tables)
    ratings, weights = problem.ratings.to(dtype), problem.weights.to(dtype)
    for epoch in range(EPOCHS):
        optimizer.param_groups[0]["lr"] = learning_rate(epoch)
        for batch in permutation(SEED, epoch, COUNT, 0, COUNT).split(BATCH):
            users, items = problem.pairs[batch].T.long()
            scores = (tables[0][users] * tables[2][items]).sum(1) + (tables[1][users] + tables[3][items]).squeeze(1)
            optimizer.zero_grad()
            (weights[batch] * (ratings[batch] - scores) ** 2).mean().backward()
            optimizer.step()
    return [table.detach() for table in tables]


def largest_difference(tables: list[Tensor], others: list[Tensor]) -> float:
    return max((one.double() - other.double()).abs().max().item() for one, other in zip(tables, others, strict=True))


def main() -> None:
    """Print the table."""
    print(f"{'gradients':>9}{'engine':>10}{'float32':>10}{'movement':>10}")
    for scale in SCALES:
        problem = make(scale)
        truth = dense(problem, torch.float64)
        moved = largest_difference(truth, [torch.from_numpy(table) for table in problem.tables])
        ours, plain = (largest_difference(each, truth) for each in (engine(problem), dense(problem, torch.float32)))
        print(f"{scale:>9g}{ours:>10.1e}{plain:>10.1e}{moved:>10.2f}")


if __name__ == "__main__":
    main()
