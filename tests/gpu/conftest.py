"""Tests that need a CUDA device: `pytest tests/gpu`, or `python benchmarks/gpu_check.py`, which also measures.

Where there is no device they are deselected, and the last lines of the report say so. A rehearsal runs those that are
not marked `device_only` on the CPU, in Triton's interpreter: `SPOTFAST_GPU_REHEARSAL=1 TRITON_INTERPRET=1`.
"""

from __future__ import annotations

import copy
import json
import os
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spotfast import backends
from spotfast.ops.factorization_epoch import (
    LOSSES_OF_RATINGS,
    TrainingInteractions,
    factorization_epoch,
)
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.negatives import popularity_thresholds
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.positives import Positives

REHEARSAL = os.environ.get("SPOTFAST_GPU_REHEARSAL") == "1" and os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cuda") if torch.cuda.is_available() and not REHEARSAL else torch.device("cpu")
SEED = 0x0123456789ABCDEF
REASON = pytest.StashKey[str]()

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


def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    own = [item for item in items if item.path.is_relative_to(here)]
    for item in own:
        item.add_marker(pytest.mark.gpu)
    if DEVICE.type == "cuda":
        return
    left_out = own if not REHEARSAL else [item for item in own if item.get_closest_marker("device_only")]
    if left_out:
        why = "a rehearsal on the CPU" if REHEARSAL else "torch sees no CUDA device"
        config.stash[REASON] = f"{len(left_out)} tests of tests/gpu were not run: {why}"
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_runtest_logreport(report):
    """Write down a failure as it happens, for `benchmarks/gpu_check.py`, whose time may be over before the summary."""
    file = os.environ.get("SPOTFAST_GPU_FAILURES")
    if file and report.failed:
        with Path(file).open("a") as failures:
            failures.write(json.dumps({"name": report.nodeid, "failure": report.longreprtext[-3000:]}) + "\n")


def pytest_terminal_summary(terminalreporter, config):
    if REASON in config.stash:
        terminalreporter.line(config.stash[REASON], yellow=True)


@pytest.fixture
def device():
    """Where kernels run: a CUDA device, or the CPU in a rehearsal."""
    return DEVICE


@pytest.fixture
def samples():
    """How many samples a case of many has: few in a rehearsal, where each takes milliseconds."""
    return 6 if REHEARSAL else 200


@pytest.fixture
def models_on_device(monkeypatch):
    """The arguments of models that train on the device; in a rehearsal, kernels take the place of the CPU's engines."""
    if not REHEARSAL:
        return {"use_cuda": True}
    for operation, engines in backends.OPERATIONS.items():
        monkeypatch.setitem(backends.OPERATIONS, operation, engines | {"cpu": engines.get("cuda", engines["cpu"])})
    return {"device": "cpu"}


@pytest.fixture
def problem():
    """`problem(loss, rule, ...)`: tables and what to train them on, on the CPU."""
    return make_problem


@dataclass
class Problem:
    """An epoch to train for."""

    users: Table
    items: Table
    interactions: TrainingInteractions
    sampling: NegativeSampling | None
    loss: str
    rule: UpdateRule
    at: EpochRange

    def trained(self, device, backend):
        """A copy after the epoch on a device, back on the CPU, and the mean loss."""
        twin = moved(copy.deepcopy(self), device)
        arguments = {field.name: getattr(twin, field.name) for field in fields(twin)}
        result = factorization_epoch(**arguments, backend=backend)
        return moved(twin, torch.device("cpu")), result.loss

    @property
    def tensors(self):
        parts = [(t.vectors, t.biases, *t.vector_states, *t.bias_states) for t in (self.users, self.items)]
        return [tensor for part in parts for tensor in part]

    @property
    def measured(self):
        """The same in units of weights and gradients: roots of what sums their squares."""
        squares = [name in ("exp_avg_sq", "sum") for name in self.rule.states]
        roots = 2 * [False, False, *squares, *squares]
        return [part.sqrt() if root else part for part, root in zip(self.tensors, roots, strict=True)]


def moved(part, device):
    """The same on a device: tensors, whatever holds them, and all else as it is."""
    if isinstance(part, torch.Tensor | Positives):
        return part.to(device)
    if isinstance(part, tuple):
        return tuple(moved(value, device) for value in part)
    if is_dataclass(part) and not isinstance(part, UpdateRule | EpochRange):
        return replace(part, **{field.name: moved(getattr(part, field.name), device) for field in fields(part)})
    return part


def make_problem(
    loss="bpr",
    rule="adam",
    dim=8,
    count=64,
    batch_size=64,
    steps=0,
    slots=3,
    sampler="unseen",
    weighted=False,
    sizes=(12, 20) if REHEARSAL else (40, 100),
    dtype=torch.float32,
    seed=0,
):
    rng = np.random.default_rng(seed)
    columns = [rng.permutation(size)[(size * rng.random(count) ** 3).astype(int)] for size in sizes]
    pairs = np.stack(columns, axis=1).astype(np.int32)
    rated = loss in LOSSES_OF_RATINGS
    ratings = torch.from_numpy(rng.uniform(0, 1.5, count).astype(np.float32)) if rated else None
    weights = torch.from_numpy(rng.uniform(0, 2, count).astype(np.float32)) if weighted else None
    sampling = None if rated else make_sampling(pairs, sizes, sampler, slots if loss == "adaptive_hinge" else 1)
    tables = (make_table(rng, size, dim, RULES[rule], steps, dtype) for size in sizes)
    interactions = TrainingInteractions(torch.from_numpy(pairs), ratings, weights)
    return Problem(*tables, interactions, sampling, loss, RULES[rule], EpochRange(SEED, 1, batch_size, steps))


def make_sampling(pairs, sizes, sampler, slots):
    if sampler == "uniform":
        return NegativeSampling("uniform", slots, sizes[1], first=1)
    positives = Positives.from_interactions(pairs[:, 0], pairs[:, 1], *sizes)
    counts = np.bincount(pairs[:, 1], minlength=sizes[1])
    thresholds = popularity_thresholds(counts) if sampler == "popularity" else None
    return NegativeSampling(sampler, slots, sizes[1], positives=positives, thresholds=thresholds)


def make_table(rng, size, dim, rule, steps, dtype):
    """Scores are of a size of 1. What the rule keeps is zero before the first step, and something after it."""

    def normal(columns, scale):
        return torch.from_numpy((scale * rng.standard_normal((size, columns))).astype(np.float32))

    def state(name, columns):
        if steps == 0:
            return torch.zeros(size, columns)
        return normal(columns, 1e-2) if name in ("exp_avg", "momentum_buffer") else normal(columns, 0.1).square() + 1e-5

    vectors, biases = normal(dim, dim**-0.25).to(dtype), normal(1, 0.3)
    columns = 1 if rule.name == "rowwise_adagrad" else dim
    return Table(vectors, biases, *(tuple(state(name, width) for name in rule.states) for width in (columns, 1)))
