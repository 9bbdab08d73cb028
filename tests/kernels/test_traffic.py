"""The model of memory traffic against what the kernels load and store, to the byte; in the interpreter's process."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from spotfast import epoch_traffic, traffic
from spotfast.kernels import epoch_scores, factorization_step
from spotfast.ops.factorization_epoch import TrainingInteractions, factorization_epoch
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.positives import Positives
from spotfast.traffic import Entries, Training

pytestmark = pytest.mark.interpreter

USERS, ITEMS, SEED = 7, 12, 5
LIKED = 9  # items that are positives; negatives are the others, so that no derivatives cancel out


def table(size, dim, rule, dtype):
    generator = torch.Generator().manual_seed(size)
    width = 1 if rule.name == "rowwise_adagrad" else dim
    vectors = 0.1 * torch.randn(size, dim, generator=generator)
    states, bias_states = ([torch.zeros(size, columns) for _ in rule.states] for columns in (width, 1))
    return Table(vectors.to(dtype), torch.zeros(size, 1), tuple(states), tuple(bias_states))


RULES = {
    "adam": UpdateRule("adam", 1e-2),
    "replayed_adam": UpdateRule("adam", 1e-2, weight_decay=1e-2),
    "adamw": UpdateRule("adam", 1e-2, weight_decay=0.1, decoupled=True),
    "sparse_adam": UpdateRule("sparse_adam", 1e-2),
    "sgd": UpdateRule("sgd", 0.1),
    "momentum": UpdateRule("momentum", 0.01, momentum=0.9),
    "adagrad": UpdateRule("adagrad", 0.1, eps=1e-10),
    "rowwise_adagrad": UpdateRule("rowwise_adagrad", 0.1, eps=1e-10),
}


@pytest.mark.parametrize(
    ("rule", "loss", "slots", "batch_size", "dim", "dtype"),
    [
        ("adam", "bpr", 1, 80, 3, torch.float32),
        ("adam", "adaptive_hinge", 3, 12, 33, torch.float32),
        ("adam", "bpr", 1, 20, 16, torch.bfloat16),
        ("replayed_adam", "regression", 0, 33, 3, torch.float32),
        ("adamw", "pointwise", 1, 10, 3, torch.float32),
        ("sparse_adam", "adaptive_hinge", 2, 80, 3, torch.float32),
        ("sgd", "adaptive_hinge", 2, 80, 3, torch.float32),
        ("momentum", "bpr", 1, 20, 3, torch.float32),
        ("adagrad", "poisson", 0, 80, 3, torch.float32),
        ("rowwise_adagrad", "bpr", 1, 20, 33, torch.float32),
    ],
)
def test_a_step_moves_what_the_model_says(counted, monkeypatch, rule, loss, slots, batch_size, dim, dtype):
    """One batch: its entries, and which of them have a derivative, are read from what the kernels wrote."""
    seen = {}
    launch = factorization_step.launch

    def observing(kernel, grid, *arguments, **constants):
        launch(kernel, grid, *arguments, **constants)
        if kernel is epoch_scores.score_kernel:
            named = dict(zip(inspect.signature(kernel.fn).parameters, arguments, strict=False))
            seen.update({name: named[name].clone() for name in ("gradients", "users", "items")})

    monkeypatch.setattr(factorization_step, "launch", observing)
    rng = np.random.default_rng(0)
    pairs = np.stack([(USERS * rng.random(batch_size) ** 4), LIKED * rng.random(batch_size) ** 3], 1)
    pairs = pairs.astype(np.int32)
    rated = slots == 0
    ratings = torch.from_numpy(rng.random(batch_size, np.float32)) if rated else None
    sampling = None if rated else NegativeSampling("uniform", slots, ITEMS, first=LIKED)
    tables = [table(size, dim, RULES[rule], dtype) for size in (USERS, ITEMS)]
    interactions = TrainingInteractions(torch.from_numpy(pairs), ratings)
    at = EpochRange(SEED, 0, batch_size, 0)
    factorization_epoch(*tables, interactions, sampling, loss, RULES[rule], at, backend="triton")

    candidates = 1 + slots
    training = Training(batch_size, candidates, dim, rule, rated, dtype.itemsize)
    charged = seen["gradients"] != 0
    users, items = Entries.of(seen["users"]), Entries.of(seen["items"], charged)
    if batch_size == 80:
        assert min(users.pieces, items.pieces) > 0
    model = traffic.step(training, batch_size, users, items)
    model |= epoch_traffic.ordering(batch_size)
    if slots:
        model |= epoch_traffic.drawing("uniform", batch_size, slots)
    for name, entries, rows in (("users", users, USERS), ("items", items, ITEMS)):
        model |= epoch_traffic.finding_runs(name, entries.count, entries.rows, 1)
        # Rows that the only step has updated owe nothing; the others do, unless a first step is all there is.
        model |= epoch_traffic.settling(training, name, rows, rows - entries.moving)
    counted.expect(model)


def test_unseen_negatives_move_no_more_than_the_model_says(counted):
    rng = np.random.default_rng(1)
    pairs = np.unique(np.stack([rng.integers(0, USERS, 40), rng.integers(0, 64, 40)], 1), axis=0)
    positives = Positives.from_interactions(pairs[:, 0], pairs[:, 1], USERS, 64)
    users = torch.from_numpy(np.repeat(pairs[:, 0], 3))
    NegativeSampling("unseen", 2, 64, positives=positives).draw(SEED, 0, 0, len(users), users, backend="triton")
    longest = int(np.bincount(pairs[:, 0]).max())
    model = epoch_traffic.drawing("unseen", len(users), 2, longest)
    assert {key for key, size in counted.items() if size} == set(model)
    for key, access in model.items():
        share = counted[key] / access.requested
        assert share <= 1 if key[2] == "items" else share == 1
        assert share > 0.5
