"""The model of memory traffic of all other operations against what their kernels load and store, to the byte."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import spotfast.kernels
from spotfast import epoch_traffic, operation_traffic, ranking_traffic
from spotfast.kernels import sequence_loss as sequence_kernels
from spotfast.kernels.row_update import LANES
from spotfast.operation_traffic import Row
from spotfast.ops import negatives, philox
from spotfast.ops.bilinear import bilinear
from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.sequence_loss import sequence_loss
from spotfast.ops.topk import vector_topk
from spotfast.positives import Positives
from spotfast.rows import Rows
from spotfast.traffic import Training

pytestmark = pytest.mark.interpreter

SEED = 5


def popular(count, size, generator):
    """Ids of uneven popularity, that repeat."""
    return (size * torch.rand(count, generator=generator) ** 3).long()


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (3, 1030)])
def test_draws(counted, start, stop):
    philox.draws(SEED, 0, philox.NEGATIVES, start, stop, backend="triton")
    counted.expect(operation_traffic.draws(stop - start))


def test_popularity_moves_no_more_than_the_model_says(counted):
    rng = np.random.default_rng(1)
    users, items, samples, slots = 7, 64, 90, 2
    pairs = np.unique(np.stack([rng.integers(0, users, 120), (items * rng.random(120) ** 2).astype(int)], 1), axis=0)
    own = np.zeros((users, items), bool)
    own[pairs[:, 0], pairs[:, 1]] = True
    positives = Positives.from_interactions(pairs[:, 0], pairs[:, 1], users, items)
    thresholds = negatives.popularity_thresholds(own.sum(0) + 0.1)
    user = torch.from_numpy(rng.integers(0, users, samples))
    negatives.popularity(SEED, 0, 0, samples, slots, thresholds, positives, user, backend="triton")

    words = torch.stack(
        [philox.draws(SEED, 0, philox.NEGATIVES, 0, samples * slots, attempt=attempt) for attempt in range(16)]
    )
    rejected = own[np.repeat(user.numpy(), slots), torch.searchsorted(thresholds, words, right=True)]
    attempts = samples * slots + int(np.logical_and.accumulate(rejected).sum())
    assert attempts > 1.5 * samples * slots
    model = operation_traffic.popularity(samples, slots, items, int(own.sum(1).max()), attempts)
    assert {key for key, size in counted.items() if size} == set(model)
    for key, access in model.items():
        share = counted[key] / access.requested
        assert share <= 1 if key[2] in ("items", "thresholds") else share == 1
        assert share > 0.5


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("dim", "samples", "candidates", "dtype", "id_dtype"),
    [
        (3, 70, 2, torch.float32, torch.int32),
        (33, 40, 1, torch.float32, torch.int64),
        (33, 9, 3, torch.bfloat16, torch.int64),
        (129, 5, 2, torch.float32, torch.int64),  # rows in two parts
    ],
)
def test_bilinear(counted, dim, samples, candidates, dtype, id_dtype, sparse):
    generator = torch.Generator().manual_seed(dim)
    shapes = ((7, dim), (7, 1), (12, dim), (12, 1))
    tables = [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]
    user_ids = popular(samples, 7, generator).to(id_dtype)
    item_ids = popular(samples * candidates, 12, generator).view(samples, candidates).to(id_dtype)
    scores = bilinear(*tables, user_ids, item_ids, sparse=sparse, backend="triton")
    given = user_ids.numpy(), item_ids.numpy(), dim, dtype.itemsize
    model = operation_traffic.scores(*given)
    counted.expect(model)
    scores.sum().backward()
    counted.expect(model | operation_traffic.row_gradients(*given))


@pytest.mark.parametrize(
    ("loss", "dim", "states_dtype", "dtype", "mask_dtype", "id_dtype", "sparse"),
    [
        ("bpr", 3, torch.float32, torch.float32, torch.bool, torch.int64, False),
        ("pointwise", 33, torch.float32, torch.float32, torch.float32, torch.int32, True),
        ("hinge", 33, torch.bfloat16, torch.bfloat16, torch.bool, torch.int64, False),
        ("adaptive_hinge", 3, torch.float32, torch.bfloat16, torch.bool, torch.int64, True),
        ("adaptive_hinge", 33, torch.bfloat16, torch.float32, torch.int64, torch.int64, True),
    ],
)
def test_sequence_loss(counted, monkeypatch, loss, dim, states_dtype, dtype, mask_dtype, id_dtype, sparse):
    """Which derivatives are not 0 is read from what the kernels wrote."""
    written = []
    forward = sequence_kernels.forward

    def observed(*arguments):
        written[:] = forward(*arguments)
        return tuple(written)

    monkeypatch.setattr(sequence_kernels, "forward", observed)
    B, L, items = 9, 5, 12
    slots = 3 if loss == "adaptive_hinge" else 1
    generator = torch.Generator().manual_seed(dim)
    shapes = ((B, L + 1, dim), (items, dim), (items, 1))
    states, *tables = (torch.randn(shape, generator=generator) for shape in shapes)
    tables[1][0] = 200.0  # where a sigmoid is flat
    leaves = [
        tensor.to(kind).requires_grad_()
        for tensor, kind in zip((states, *tables), (states_dtype, dtype, dtype), strict=True)
    ]
    positives = popular(B * L, items, generator).view(B, L).to(id_dtype)
    drawn = torch.randint(0, items, (B, L, slots), generator=generator).permute(2, 0, 1).to(id_dtype)
    mask = (torch.rand(B, L, generator=generator) < 0.7).to(mask_dtype)
    steps = leaves[0].transpose(1, 2)[..., :-1]
    value = sequence_loss(steps, *leaves[1:], positives, drawn, mask, loss, sparse=sparse, backend="triton")
    sizes = dim, states_dtype.itemsize, dtype.itemsize
    model = operation_traffic.forward(positives.numpy(), drawn.numpy(), mask.numpy(), *sizes)
    counted.expect(model)

    value.backward()
    _, chosen, coefficients, _ = written
    charged = coefficients.numpy() != 0
    assert 0 < charged.sum() < 2 * int(mask.count_nonzero())
    assert (charged[0] != charged[1]).any() == (loss == "pointwise")
    row_bytes = dtype.itemsize if sparse else 4
    model |= operation_traffic.backward(positives.numpy(), chosen.numpy(), charged, *sizes, row_bytes)
    counted.expect(model)


class TestRanking:
    """Exactly what the model says; of what is excluded, no more."""

    @pytest.fixture(params=[(3, 300, 0.0), (3, 400, 0.1), (33, 140, 0.5)], ids=str)
    def problem(self, request):
        self.dim, self.items, share = request.param
        rng = np.random.default_rng(self.items)
        self.parts = [torch.from_numpy(rng.normal(size=size).astype(np.float32)) for size in self.sizes()]
        self.excluded = self.rows(rng, np.array([share, 0.01 * (share > 0), share]))
        self.targets = self.rows(rng, np.array([0.01, 0.0, 0.2]))

    def sizes(self):
        return (11, self.dim), 11, (self.items, self.dim), self.items

    def rows(self, rng, shares):
        mask = rng.random((11, self.items)) < np.tile(shares, 4)[:11, np.newaxis]
        return Rows.from_matrix("mask", sp.csr_matrix(mask))

    def check(self, counted, model):
        of_excluded = {key for key, access in model.items() if key[2] == "excluded" and access.requested}
        assert len(of_excluded) == len({key[0] for key in of_excluded})
        for key in of_excluded:
            assert 0.3 < counted.pop(key) / model.pop(key).requested <= 1
        counted.expect(model)

    def test_ranks(self, problem, counted):
        vector_rank_counts(*self.parts, self.targets, self.excluded, backend="triton")
        self.check(counted, ranking_traffic.rank_counts(self.targets, self.excluded, self.items, self.dim))

    @pytest.mark.parametrize("k", [2, 40])
    def test_topk(self, problem, counted, k):
        vector_topk(*self.parts, k, self.excluded, backend="triton")
        self.check(counted, ranking_traffic.topk(self.excluded, self.items, k, self.dim))


class TestRowUpdate:
    ROWS, ENTRIES = 60, 180

    @pytest.fixture(
        params=[
            (3, torch.float32, torch.float32, 0.0),
            (33, torch.float32, torch.float32, 1e-2),
            (3, torch.bfloat16, torch.float32, 0.0),
            (33, torch.bfloat16, torch.bfloat16, 0.0),
        ],
        ids=str,
    )
    def trained(self, request, counted):
        """After two steps: some rows are up to date, some owe, and some were never updated, unless weights decay."""
        dim, dtype, moment_dtype, weight_decay = request.param
        self.generator = torch.Generator().manual_seed(dim)
        self.row = Row(dim, dtype.itemsize, moment_dtype.itemsize)
        weight = torch.randn(self.ROWS, dim, generator=self.generator).to(dtype)
        self.table = weight, *(torch.zeros(self.ROWS, dim, dtype=moment_dtype) for _ in range(2))
        self.deferred = DeferredRows(weight, (0.9, 0.999), 1e-8, weight_decay, backend="triton")
        for _ in range(2):
            self.update(self.ids()[:20])
        last = self.deferred._engine._last
        self.touched, self.owing = (last >= 0).numpy(), ((last >= 0) & (last < 2)).numpy()
        assert 0 < self.owing.sum() < self.touched.sum() <= self.ROWS
        assert (self.touched.sum() == self.ROWS) == (weight_decay > 0)
        counted.clear()

    def ids(self):
        """More than a program of each kernel has; some rows have many entries."""
        return popular(self.ENTRIES, self.ROWS, self.generator)

    def update(self, ids):
        gradient = torch.randn(len(ids), self.row.dim, generator=self.generator).to(self.table[0].dtype)
        self.deferred.update(self.table, ids, gradient, 1e-2)

    def test_catch_up(self, trained, counted):
        ids = self.ids()
        assert set(ids[:LANES].tolist()) & set(ids[LANES:].tolist()) & set(np.flatnonzero(self.owing))
        self.deferred.catch_up(self.table, ids)
        counted.expect(operation_traffic.catch_up(self.row, ids.numpy(), self.owing))

    def test_update(self, trained, counted):
        ids = self.ids()
        assert ids.bincount().max() > 32
        self.update(ids)
        counted.expect(operation_traffic.update(self.row, ids.numpy()))

    def test_update_of_different_rows(self, trained, counted):
        self.update(torch.arange(self.ROWS))
        counted.expect(operation_traffic.update(self.row, np.arange(self.ROWS)))

    def test_flush(self, trained, counted):
        self.deferred.flush(self.table)
        numbers = (int(each.sum()) for each in (self.touched, self.owing))
        counted.expect(operation_traffic.flush(self.row, self.ROWS, *numbers))


def test_every_kernel_has_a_model(uncounted):
    modules = [
        importlib.import_module(f"spotfast.kernels.{module.name}")
        for module in pkgutil.iter_modules(spotfast.kernels.__path__)
    ]
    kernels = {each.kernel.fn.__name__ for module in modules for each in getattr(module, "SPECIALISATIONS", ())} - set(
        uncounted
    )
    ids = np.zeros((1, 1), np.int64)
    uniform = np.full(9, 1 / 9)
    models = [
        epoch_traffic.epoch_of(Training(64), uniform, uniform, 90)[0],
        epoch_traffic.drawing("unseen", 1, 1),
        operation_traffic.draws(1),
        operation_traffic.popularity(1, 1, 9, 1, 1),
        operation_traffic.scores(ids[0], ids, 3),
        operation_traffic.row_gradients(ids[0], ids, 3),
        operation_traffic.forward(ids, ids[None], ids == 0, 3),
        operation_traffic.backward(ids, ids, np.ones((2, 1, 1), bool), 3),
        operation_traffic.catch_up(Row(3), ids[0], np.ones(1, bool)),
        operation_traffic.update(Row(3), ids[0]),
        operation_traffic.flush(Row(3), 1, 1, 1),
        ranking_traffic.rank_counts(Rows(np.arange(2), np.arange(1)), Rows.empty(1), 1, 3),
        ranking_traffic.topk(Rows.empty(1), 1, 1, 3),
    ]
    named = {kernel.partition(",")[0] for model in models for kernel, _, _ in model}
    assert {name for name in named if not name.startswith("torch: ")} == kernels
