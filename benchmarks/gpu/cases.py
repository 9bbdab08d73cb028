"""What is trained on the GPU: shapes of data sets, made on the device, tables, and which sizes are timed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spotfast.ops.factorization_epoch import TrainingInteractions
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.traffic import Training

SEED = 1
FLAT = 50  # items that are about equally popular; from there on popularity falls as 1 / rank
RULES = {
    "adam": UpdateRule("adam", 1e-3),
    "sgd": UpdateRule("sgd", 1e-2),
    "sparse_adam": UpdateRule("sparse_adam", 1e-3),
}


@dataclass(frozen=True)
class Shape:
    """A data set's sizes.

    Attributes:
        users, items: rows of the tables.
        interactions: per epoch.
        spread: of the logarithm of how many interactions users have.
    """

    users: int
    items: int
    interactions: int
    spread: float


SHAPES = {
    "ML-1M": Shape(6_040, 3_706, 1_000_209, math.sqrt(2 * math.log(166 / 96))),
    "ML-20M": Shape(138_493, 26_744, 20_000_263, math.sqrt(2 * math.log(144 / 68))),
    "10M x 10M": Shape(10_000_000, 10_000_000, 40_000_000, 0.0),
}
REHEARSED = Shape(6, 8, 8, 0.5)


@dataclass(frozen=True)
class Case:
    """A size that is timed, with BPR and one uniform negative, in float32.

    Attributes:
        shape: a key of `SHAPES`.
        rule: a key of `RULES`.
        batch_size: samples per step.
        dim: of vectors.
        target: samples per second that the design is to reach on an H100, None where there is no such figure.
    """

    shape: str
    rule: str
    batch_size: int
    dim: int = 64
    target: float | None = None

    @property
    def training(self) -> Training:
        """What the model of memory traffic depends on."""
        return Training(self.batch_size, 2, self.dim, self.rule)


BATCH_SIZES = (1_024, 8_192, 65_536, 1_048_576)
CASES = (  # the most important first: what no time is left for is listed as not run
    Case("ML-20M", "adam", 65_536, target=0.4e9),
    Case("ML-20M", "sgd", 65_536, target=0.6e9),
    Case("10M x 10M", "adam", 65_536, target=0.15e9),
    Case("ML-20M", "sparse_adam", 65_536),
    *(Case("ML-20M", "adam", size) for size in (1_024, 8_192, 1_048_576)),
    *(Case("ML-20M", "adam", 65_536, dim) for dim in (32, 128)),
    *(Case("ML-1M", "adam", size) for size in (1_024, 8_192, 65_536)),
    Case("10M x 10M", "sgd", 65_536),
    Case("10M x 10M", "adam", 1_024),
    Case("10M x 10M", "adam", 1_048_576),
    *(Case("ML-20M", "sgd", size) for size in (1_024, 1_048_576)),
    *(Case("ML-20M", "sgd", 65_536, dim) for dim in (32, 128)),
    Case("ML-1M", "sgd", 65_536),
)
# One step per epoch, as the interpreter takes seconds for each; the baselines have two.
REHEARSED_CASES = (Case("ML-20M", "sgd", 8, 2, target=1.0), Case("ML-20M", "adam", 8, 2, target=1.0))


def shares(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """How often each user and each item occurs, float64 (users,) and (items,): log-normal, and 1 / rank."""
    quantiles = (torch.arange(shape.users, dtype=torch.float64, device=device) + 0.5) / shape.users
    users = (shape.spread * torch.special.ndtri(quantiles)).exp()
    items = 1.0 / (FLAT + torch.arange(1, shape.items + 1, dtype=torch.float64, device=device))
    return users / users.sum(), items / items.sum()


def pairs(shape: Shape, interactions: int, device: torch.device) -> Tensor:
    """Draw users and items, int32 (n, 2). Popular items are anywhere in their table."""
    generator = torch.Generator(device).manual_seed(SEED)
    columns = []
    for share in shares(shape, device):
        drawn = torch.rand(interactions, dtype=torch.float64, device=device, generator=generator)
        ids = torch.searchsorted(share.cumsum(0), drawn).clamp_(max=len(share) - 1)
        columns.append(torch.randperm(len(share), device=device, generator=generator)[ids])
    return torch.stack(columns, 1).int()


class Problem:
    """Tables on a device, and what they are trained on.

    Args:
        shape: of the data.
        case: what is trained.
        interactions: int32 (n, 2).

    Attributes:
        shape, case: as given.
        users, items: the tables.
        interactions, sampling: of `spotfast.ops.factorization_epoch`.
        rule: the update rule.
    """

    def __init__(self, shape: Shape, case: Case, interactions: Tensor) -> None:
        self.shape, self.case, self.rule = shape, case, RULES[case.rule]
        self.users, self.items = (self._table(rows, interactions.device) for rows in (shape.users, shape.items))
        self.interactions = TrainingInteractions(interactions)
        self.sampling = NegativeSampling("uniform", 1, shape.items)

    def _table(self, rows: int, device: torch.device) -> Table:
        dim = self.case.dim
        generator = torch.Generator(device).manual_seed(rows)
        vectors = torch.empty(rows, dim, device=device).normal_(0, dim**-0.5, generator=generator)
        states, bias_states = (
            tuple(torch.zeros(rows, width, device=device) for _ in self.rule.states) for width in (dim, 1)
        )
        return Table(vectors, torch.zeros(rows, 1, device=device), states, bias_states)

    def at(self, epoch: int = 0) -> EpochRange:
        """Which epoch, after as many."""
        size = min(self.case.batch_size, len(self.interactions.pairs))
        return EpochRange(SEED, epoch, size, epoch * -(-len(self.interactions.pairs) // size))

    @property
    def tensors(self) -> list[Tensor]:
        """All that is trained."""
        tables = (self.users, self.items)
        return [part for t in tables for part in (t.vectors, t.biases, *t.vector_states, *t.bias_states)]
