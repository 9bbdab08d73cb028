"""Epochs to train by several engines, and when what they trained is the same: of several files of tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
import torch

from spotfast.ops.factorization_epoch import (
    LOSSES_OF_RATINGS,
    TrainingInteractions,
    factorization_epoch,
)
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.negatives import popularity_thresholds
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.positives import Positives
from spotfast.reference import factorization_epoch as reference

USERS, ITEMS, SEED = 40, 100, 0x0123456789ABCDEF
RULES = {
    "adam": UpdateRule("adam", 1e-2),
    "adam with weight decay": UpdateRule("adam", 1e-2, weight_decay=1e-2),
    "adamw": UpdateRule("adam", 1e-2, weight_decay=0.1, decoupled=True),
    "sparse_adam": UpdateRule("sparse_adam", 1e-2),
    "sgd": UpdateRule("sgd", 0.1),
    "momentum": UpdateRule("momentum", 0.01, momentum=0.9),
    "adagrad": UpdateRule("adagrad", 0.1, eps=1e-10, lr_decay=1e-2),
    "rowwise_adagrad": UpdateRule("rowwise_adagrad", 0.1, eps=1e-10),
}


@dataclass
class Problem:
    """Tables, and what to train them on."""

    users: Table
    items: Table
    interactions: TrainingInteractions
    sampling: NegativeSampling | None
    loss: str
    rule: UpdateRule
    at: EpochRange

    def train(self, backend, **options):
        arguments = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return factorization_epoch(**arguments, **options, backend=backend)

    def trained(self, backend="native", **options):
        """A copy after the epoch, and the loss."""
        twin = replace(self, users=_copied(self.users), items=_copied(self.items))
        return twin, twin.train(backend, **options).loss

    @property
    def tensors(self):
        tables = (self.users, self.items)
        return [part for t in tables for part in (t.vectors, t.biases, *t.vector_states, *t.bias_states)]

    @property
    def measured(self):
        """The same in units of weights and gradients: roots of what sums their squares."""
        squares = [name in ("exp_avg_sq", "sum") for name in self.rule.states]
        roots = 2 * [False, False, *squares, *squares]
        return [part.sqrt() if root else part for part, root in zip(self.tensors, roots, strict=True)]


def _copied(table):
    states = (tuple(state.clone() for state in states) for states in (table.vector_states, table.bias_states))
    return Table(table.vectors.clone(), table.biases.clone(), *states)


def but(part, **changes):
    """A function that returns a problem, but with changes to one of its parts."""
    return lambda case: replace(case, **{part: replace(getattr(case, part), **changes)})


def problem(
    loss="bpr",
    rule="adam",
    dim=8,
    count=64,
    batch_size=64,
    steps=0,
    epoch=0,
    ids="zipf",
    slots=3,
    sampler="unseen",
    weighted=False,
    sizes=(USERS, ITEMS),
    seed=0,
):
    rng = np.random.default_rng(seed)
    pairs, sizes = _pairs(rng, ids, count, sizes)
    ratings = torch.from_numpy(rng.uniform(0, 1.5, count).astype(np.float32)) if loss in LOSSES_OF_RATINGS else None
    weights = torch.from_numpy(rng.uniform(0, 2, count).astype(np.float32)) if weighted else None
    rule = RULES[rule]
    users, items = (_table(rng, size, dim, rule, steps) for size in sizes)
    sampling = None if ratings is not None else _sampling(pairs, sizes, sampler, slots if "adaptive" in loss else 1)
    interactions = TrainingInteractions(torch.from_numpy(pairs), ratings, weights)
    return Problem(users, items, interactions, sampling, loss, rule, EpochRange(SEED, epoch, batch_size, steps))


def _pairs(rng, ids, count, sizes):
    if ids == "same":
        return np.full((count, 2), 3, np.int32), sizes
    if ids == "distinct":
        sizes = tuple(max(size, count + 1) for size in sizes)
        return np.stack([rng.permutation(size)[:count] for size in sizes], axis=1).astype(np.int32), sizes
    columns = [rng.permutation(size)[(size * rng.random(count) ** 3).astype(int)] for size in sizes]
    return np.stack(columns, axis=1).astype(np.int32), sizes


def _table(rng, size, dim, rule, steps):
    """Scores are of a size of 1. What the rule keeps is zero before the first step, and something after it."""

    def normal(columns, scale):
        return torch.from_numpy((scale * rng.standard_normal((size, columns))).astype(np.float32))

    def state(name, columns):
        if steps == 0:
            return torch.zeros(size, columns)
        return normal(columns, 1e-2) if name in ("exp_avg", "momentum_buffer") else normal(columns, 0.1).square() + 1e-5

    vectors, biases = normal(dim, dim**-0.25), normal(1, 0.3)
    columns = 1 if rule.name == "rowwise_adagrad" else dim
    return Table(vectors, biases, *(tuple(state(name, width) for name in rule.states) for width in (columns, 1)))


def _sampling(pairs, sizes, sampler, slots):
    if sampler == "uniform":
        return NegativeSampling("uniform", slots, sizes[1], first=1)
    positives = Positives.from_interactions(pairs[:, 0], pairs[:, 1], *sizes)
    counts = np.bincount(pairs[:, 1], minlength=sizes[1])
    thresholds = popularity_thresholds(counts) if sampler == "popularity" else None
    return NegativeSampling(sampler, slots, sizes[1], positives=positives, thresholds=thresholds)


def assert_within_rounding(actual, expected):
    for own, other in zip(actual.measured, expected.measured, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())


def assert_same_bits(actual, expected):
    for own, other in zip(actual.tensors, expected.tensors, strict=True):
        assert torch.equal(own.view(torch.int32), other.view(torch.int32))


def assert_agree(case):
    (native, loss), (plain, expected) = case.trained("native"), case.trained("reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_within_rounding(native, plain)
    return plain


def cast(case, dtype):
    """A copy with tables of another dtype."""

    def table(of):
        states = (tuple(state.to(dtype) for state in states) for states in (of.vector_states, of.bias_states))
        return Table(of.vectors.to(dtype), of.biases.to(dtype), *states)

    return replace(case, users=table(case.users), items=table(case.items))


def in_double(case):
    """A copy after the epoch that the reference trains in double precision, and the loss."""
    exact = cast(case, torch.float64)

    def draw(start, stop, users):
        return case.sampling.draw(SEED, case.at.epoch, start, stop, users)

    draws = None if case.sampling is None else draw
    losses = reference.factorization_epoch(
        exact.users, exact.items, case.interactions, draws, case.loss, case.rule, case.at, lambda positions: True
    )
    return exact, np.mean(losses)


def distance(actual, expected):
    """The largest relative norm of the differences of weights."""
    return max(
        ((own - other).norm() / other.norm()).item()
        for table in ("users", "items")
        for part in ("vectors", "biases")
        for own, other in [(getattr(getattr(p, table), part).double() for p in (actual, expected))]
    )


def covering_array(factors):
    """Cases such that any two values of any two factors occur together in one of them."""
    names = list(factors)
    missing = {
        ((a, x), (b, y)): None for a, b in combinations(names, 2) for x in factors[a] for y in factors[b]
    }  # a set in a fixed order

    def covered(case, name, value):
        pairs = (sorted(((name, value), other), key=lambda entry: names.index(entry[0])) for other in case.items())
        return sum(tuple(pair) in missing for pair in pairs)

    cases = []
    while missing:
        case = dict(next(iter(missing)))
        for name in names:
            if name not in case:
                case[name] = max(factors[name], key=lambda value, case=case, name=name: covered(case, name, value))
        for pair in combinations([(name, case[name]) for name in names], 2):
            missing.pop(pair, None)
        cases.append(case)
    return cases
