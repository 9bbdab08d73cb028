"""What is left in the engines' scratch of one batch does not get into another: a NaN stays where it belongs.

Scratch that was never written holds NaN, and indices beyond every end: what reads it shows in all tests.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import spotfast
from spotfast import backends
from spotfast.ops.factorization_epoch import LOSSES_OF_RATINGS, TrainingInteractions
from spotfast.ops.factorization_epoch import factorization_epoch as train_factorization
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.pooling_epoch import pooling_epoch
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.tables import EpochRange, Table, UpdateRule

USERS, ITEMS, DIM, COUNT, LENGTH = 300, 100_000, 9, 200, 5  # so many items that none is drawn twice
RULES = {
    "adam": UpdateRule("adam", 1e-2),
    "sparse_adam": UpdateRule("sparse_adam", 1e-2),
    "sgd": UpdateRule("sgd", 0.1),
    "adagrad": UpdateRule("adagrad", 0.1),
    "rowwise_adagrad": UpdateRule("rowwise_adagrad", 0.1),
}
pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension"),
]


@pytest.fixture(params=[1, 2])
def threads(request):
    spotfast.set_num_threads(request.param)
    yield
    spotfast.set_num_threads(None)


def table(rule, rows):
    generator = torch.Generator().manual_seed(0)
    vectors, biases = torch.randn(rows, DIM, generator=generator), torch.randn(rows, 1, generator=generator)
    columns = 1 if rule.name == "rowwise_adagrad" else DIM
    return Table(vectors, biases, *(tuple(torch.zeros(rows, width) for _ in rule.states) for width in (columns, 1)))


def distinct(count, size):
    return torch.from_numpy(1 + np.random.default_rng(0).permutation(size - 1)[:count].astype(np.int32))


def assert_only(spoiled, sound, most):
    """Some rows are NaN, at most so many; all others have the bits that they have without it."""
    is_spoiled = spoiled.isnan().any(dim=1)
    assert 0 < is_spoiled.sum() <= most
    assert torch.equal(spoiled[~is_spoiled], sound[~is_spoiled])


@pytest.mark.usefixtures("isa", "threads")
@pytest.mark.parametrize("loss", ["pointwise", "bpr", "regression", "poisson"])  # a hinge has no gradient at NaN
@pytest.mark.parametrize("rule", RULES)
def test_factorization_epoch(loss, rule):
    """The vector of one user is NaN; no other shares an item with it."""
    pairs = torch.stack([distinct(COUNT, USERS), distinct(COUNT, ITEMS)], dim=1)
    is_rated = loss in LOSSES_OF_RATINGS
    interactions = TrainingInteractions(pairs, torch.ones(COUNT) if is_rated else None)
    sampling = None if is_rated else NegativeSampling("uniform", 1, ITEMS)
    trained = []
    for value in (float("nan"), 1.0):
        users, items = table(RULES[rule], USERS), table(RULES[rule], ITEMS)
        users.vectors[pairs[COUNT // 2, 0]] = value
        at = EpochRange(5, 0, 64, 0)
        train_factorization(users, items, interactions, sampling, loss, RULES[rule], at, backend="native")
        trained.append((users, items))
    (users, items), (sound_users, sound_items) = trained
    assert_only(users.vectors, sound_users.vectors, 1)
    assert_only(users.biases, sound_users.biases, 1)
    assert_only(items.vectors, sound_items.vectors, 2)
    assert_only(items.biases, sound_items.biases, 2)


@pytest.mark.usefixtures("isa", "threads")
@pytest.mark.parametrize("loss", ["pointwise", "bpr"])
@pytest.mark.parametrize("rule", RULES)
def test_pooling_epoch(loss, rule):
    """The vector of one item is NaN; its sequence shares no item with others. Each has padding somewhere."""
    sequences = distinct(COUNT * LENGTH, ITEMS).view(COUNT, LENGTH)
    sequences[torch.arange(COUNT), torch.arange(COUNT) % 4] = 0
    trained = []
    for value in (float("nan"), 1.0):
        items = table(RULES[rule], ITEMS)
        items.vectors[sequences[COUNT // 2, LENGTH - 1]] = value
        pooling_epoch(items, sequences, 1, ITEMS, loss, RULES[rule], EpochRange(5, 0, 64, 0), backend="native")
        trained.append(items)
    items, sound = trained
    assert_only(items.vectors, sound.vectors, 2 * LENGTH)
    assert_only(items.biases, sound.biases, 2 * LENGTH)


@pytest.mark.usefixtures("isa", "threads")
@pytest.mark.parametrize("weight_decay", [0.0, 1e-3])
def test_row_update(weight_decay):
    """One of the gradients of a row is NaN; several rows have several, in every step."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 2000, (3, 5000)))
    trained = []
    for value in (float("nan"), 1.0):
        generator = torch.Generator().manual_seed(0)
        tensors = tuple(torch.zeros(2000, DIM) for _ in range(3))
        rows = DeferredRows(tensors[0], (0.9, 0.999), 1e-8, weight_decay, backend="native")
        for some in ids:
            gradient = torch.randn(len(some), DIM, generator=generator)
            gradient[some == ids[0, 0]] *= value
            rows.catch_up(tensors, some)
            rows.update(tensors, some, gradient, 1e-2)
        rows.flush(tensors)
        trained.append(tensors)
    for spoiled, sound in zip(*trained, strict=True):
        assert_only(spoiled, sound, 1)
