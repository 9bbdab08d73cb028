"""Prints what kernels are launched, as JSON: names, constants, types of pointers; for each, the arguments it was given.

    record_launches.py models         for models as most people have them
    record_launches.py others         for the other update rules and losses
    record_launches.py work           by the GPU script's work with kernels that were compiled ahead of time

Run by test_launches.py, in Triton's interpreter, which must be chosen before triton is imported.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path

import numpy as np
import torch

import spotfast.kernels
from spotfast.cuda.packing import POINTERS
from spotfast.kernels import negatives, permutation, philox
from spotfast.kernels.epoch_entries import BatchRuns
from spotfast.ops.bilinear import bilinear
from spotfast.ops.factorization_epoch import (
    LOSSES_OF_RATINGS,
    TrainingInteractions,
    factorization_epoch,
)
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.ranks import vector_ranks
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.sequence_loss import LOSSES, sequence_loss
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.ops.topk import vector_topk
from spotfast.positives import Positives
from spotfast.rows import Rows

DIMS = (32, 64, 128)
USERS, ITEMS, COUNT = 20, 30, 40
CPU = torch.device("cpu")

launches: dict[str, set[tuple[float, ...]]] = {}  # of each, the arguments that are given; for a pointer, 0


def watch(file):
    """Record what a file of kernels launches, and launch it."""
    launch = file.launch

    def recorded(kernel, grid, *given, num_warps=4, enable_fp_fusion=False, **constants):
        name = f"{kernel.fn.__module__.rpartition('.')[2]}.{kernel.fn.__name__}"
        pointers = [
            None if value is None else POINTERS[value.dtype]
            for value in given
            if value is None or isinstance(value, torch.Tensor)
        ]
        key = json.dumps([name, num_warps, enable_fp_fusion, constants, pointers], sort_keys=True)
        values = tuple(0 if isinstance(value, torch.Tensor) else value for value in given if value is not None)
        launches.setdefault(key, set()).add(values)
        launch(kernel, grid, *given, num_warps=num_warps, enable_fp_fusion=enable_fp_fusion, **constants)

    file.launch = recorded


def epoch(loss, rule, dim, dtype=torch.float32):
    """A batch in which a user and an item may have more samples than one program adds up."""
    rng = np.random.default_rng(0)
    pairs = np.stack([rng.integers(0, size, COUNT, np.int32) for size in (USERS, ITEMS)], axis=1)
    ratings, sampling = torch.ones(COUNT), None
    if loss not in LOSSES_OF_RATINGS:
        positives = Positives.from_interactions(pairs[:, 0], pairs[:, 1], USERS, ITEMS)
        slots = 3 if loss == "adaptive_hinge" else 1
        ratings, sampling = None, NegativeSampling("unseen", slots, ITEMS, positives=positives)

    def table(size):
        widths = (1 if rule.name == "rowwise_adagrad" else dim), 1
        states = (tuple(torch.zeros(size, width) for _ in rule.states) for width in widths)
        return Table(torch.randn(size, dim).to(dtype), torch.zeros(size, 1), *states)

    interactions = TrainingInteractions(torch.from_numpy(pairs), ratings, None)
    at = EpochRange(seed=1, epoch=0, batch_size=COUNT, steps=0)
    factorization_epoch(table(USERS), table(ITEMS), interactions, sampling, loss, rule, at, backend="triton")


def samplers():
    positives = Positives(torch.tensor([0, 1, 2]), torch.tensor([0, 3], dtype=torch.int32), 5)
    users, thresholds = torch.zeros(9, dtype=torch.int64), torch.arange(4)
    philox.draws(1, 2, 3, 0, 9, 0, CPU)
    for n in (9, 5000):
        permutation.permutation(1, 2, n, 0, 9, CPU)
    negatives.uniform(1, 2, 0, 9, 1, 5, 0, CPU)
    negatives.unseen(1, 2, 0, 9, 1, positives, users)
    negatives.popularity(1, 2, 0, 9, 1, thresholds, positives, users)


def scores(dim, dtype=torch.float32):
    tables = [torch.randn(9, width, dtype=dtype).requires_grad_() for width in (dim, 1, dim, 1)]
    users, items = torch.arange(9), torch.arange(9).unsqueeze(1)
    bilinear(*tables, users, items, backend="triton").sum().backward()


def sequences(loss, dim, dtype=torch.float32, sparse=True):
    shapes = (4, dim, 5), (ITEMS, dim), (ITEMS, 1)
    states, table, biases = (torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)
    positives, mask = torch.ones(4, 5, dtype=torch.int64), torch.ones(4, 5, dtype=torch.bool)
    arguments = states, table, biases, positives, torch.ones(3, 4, 5, dtype=torch.int64), mask
    if loss != "adaptive_hinge":
        arguments = *arguments[:4], arguments[4][:1], mask
    sequence_loss(*arguments, loss, sparse=sparse, backend="triton").backward()


def rankings():
    parts = [torch.randn(size) for size in ((9, 3), 9, (ITEMS, 3), ITEMS)]
    vector_ranks(*parts, Rows(np.arange(10), np.arange(9)), backend="triton")
    vector_topk(*parts, 2, backend="triton")


def deferred(dim, dtype=torch.float32, weight_decay=0.0):
    tensors = [torch.zeros(9, dim, dtype=dtype), torch.zeros(9, dim), torch.zeros(9, dim)]
    rows = DeferredRows(tensors[0], (0.9, 0.999), 1e-8, weight_decay, backend="triton")
    ids = torch.tensor([1, 1, 4])
    for _ in range(2):
        rows.catch_up(tensors, ids)
        rows.update(tensors, ids, torch.ones(3, dim, dtype=dtype), 1e-2)
    rows.flush(tensors)


def main():
    for info in pkgutil.iter_modules(spotfast.kernels.__path__):
        file = importlib.import_module(f"spotfast.kernels.{info.name}")
        if hasattr(file, "launch") and info.name != "launch":
            watch(file)
    {"models": models, "others": others, "work": work}[sys.argv[1]]()
    print(json.dumps({key: sorted(values) for key, values in launches.items()}))


def work():
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path[:0] = [str(folder), str(folder / "gpu")]
    script = importlib.import_module("work")
    script.Work(CPU, *script.REHEARSED_SIZES).run()


def models():
    samplers()
    rankings()
    adam, sgd = UpdateRule("adam", 1e-2), UpdateRule("sgd", 1e-2)
    for dim in DIMS:
        for loss in ("pointwise", "bpr", "hinge", "adaptive_hinge", "regression"):
            epoch(loss, adam, dim)
        epoch("bpr", sgd, dim)
        scores(dim)
        deferred(dim)
        for loss in LOSSES:
            sequences(loss, dim)
    BatchRuns.empty(3, 3, CPU).find(torch.arange(3, dtype=torch.int32), 1, 2**31)  # rows for keys of 64 bits
    deferred(64, weight_decay=1e-2)
    epoch("bpr", adam, 64, torch.bfloat16)
    scores(64, torch.bfloat16)
    deferred(64, torch.bfloat16)
    for loss in LOSSES:
        sequences(loss, 64, torch.bfloat16)
    sequences("bpr", 64, torch.bfloat16, sparse=False)


def others():
    rules = [UpdateRule(name, 1e-2) for name in ("sparse_adam", "adagrad", "rowwise_adagrad")]
    rules += [UpdateRule("adam", 1e-2, weight_decay=1e-2, decoupled=decoupled) for decoupled in (False, True)]
    for rule in (*rules, UpdateRule("momentum", 1e-2, momentum=0.9)):
        epoch("bpr", rule, 64)
    for loss in ("poisson", "logistic"):
        epoch(loss, UpdateRule("adam", 1e-2), 64)
    deferred(64, torch.bfloat16, weight_decay=1e-2)


if __name__ == "__main__":
    main()
