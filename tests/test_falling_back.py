"""What runs an operation whose kernels cannot run for just this call: the reference, from where nothing has changed.

Launches are replaced: some kernel is missing, all others do nothing, or next to nothing.
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
import torch

import spotfast.kernels
from spotfast import PerformanceWarning, backends, warnings
from spotfast.cuda.functions import KernelMissingError
from spotfast.kernels.launch import is_rehearsal
from spotfast.ops import bilinear, negatives, permutation, philox, rank_counts, sequence_loss, topk
from spotfast.ops.factorization_epoch import TrainingInteractions, factorization_epoch
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.positives import Positives
from spotfast.rows import Rows

COUNT = 40
POSITIVES = Positives(torch.tensor([0, 1, 2]), torch.tensor([0, 3], dtype=torch.int32), 5)
USERS = torch.zeros(9, dtype=torch.int64)
# What kernels write that torch or the reference go on with: ids to look up, factors, and a divisor. argument: value.
WRITTEN = {"permutation_kernel": {0: 0}, "sequence_loss_kernel": {1: 0, 2: 0}, "mean_kernel": {1: 1}}


@pytest.fixture
def missing(monkeypatch):
    """`missing(*names)`: from then on, launches of these kernels fail, others do nothing.

    Returns what was launched, and whether as a rehearsal. "auto" means kernels, as on a CUDA device.
    """

    def missing(*names):
        started = []

        def launch(kernel, grid, *arguments, **constants):
            name = kernel.fn.__name__
            if name in names:
                raise KernelMissingError(f"the kernel {name} cannot run")
            started.append((name, is_rehearsal()))
            for place, value in WRITTEN.get(name, {}).items():
                arguments[place].fill_(value)

        for info in pkgutil.iter_modules(spotfast.kernels.__path__):
            file = importlib.import_module(f"spotfast.kernels.{info.name}")
            if hasattr(file, "launch") and info.name != "launch":
                monkeypatch.setattr(file, "launch", launch)
        choose = {"auto": "triton", "triton": "triton", "reference": "reference"}
        monkeypatch.setattr(backends, "choose", lambda operation, device, backend="auto": choose[backend])
        monkeypatch.setattr(warnings, "_given", set())
        return started

    return missing


def scores(backend, *, gradients=False):
    """Scores, or gradients of their sum, which do not depend on them."""
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(9, width, generator=generator).requires_grad_() for width in (3, 1, 3, 1)]
    found = bilinear.bilinear(*tables, USERS, torch.arange(9).unsqueeze(1), backend=backend)
    return list(torch.autograd.grad(found.sum(), tables)) if gradients else [found.detach()]


def loss_of_sequences(backend, *, masked=False):
    """The loss and its gradients; with all steps masked, gradients only: zeros, whatever a forward pass has left."""
    generator = torch.Generator().manual_seed(0)
    floats = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((2, 3, 4), (9, 3), (9, 1))]
    ids = torch.randint(0, 9, (2, 4), generator=generator)
    mask = (ids > 1) & (not masked)
    found = sequence_loss.sequence_loss(*floats, ids, ids.unsqueeze(0) * 0, mask, "bpr", backend=backend)
    found.backward()
    return [*([] if masked else [found.detach()]), *(each.grad for each in floats)]


VECTORS = torch.arange(-6.0, 6.0).view(4, 3), torch.arange(4.0), torch.arange(15.0).view(5, 3) % 4, None
TARGETS = Rows(np.array([0, 2, 2, 3, 4]), np.array([0, 3, 4, 1]))


def counts(backend):
    found = rank_counts.vector_rank_counts(*VECTORS, TARGETS, backend=backend)
    return [torch.from_numpy(each) for each in (found.above, found.equal, found.before)]


def best(backend):
    return [torch.from_numpy(each) for each in topk.vector_topk(*VECTORS, 7, TARGETS, backend=backend)]


PURE = {
    "draws_kernel": ("philox", lambda backend: [philox.draws(1, 2, 3, 0, 9, backend=backend)]),
    "permutation_kernel": ("permutation", lambda backend: [permutation.permutation(1, 2, 9, backend=backend)]),
    "uniform_kernel": ("negatives", lambda backend: [negatives.uniform(1, 2, 0, 9, 1, 5, backend=backend)]),
    "unseen_kernel": (
        "negatives", lambda backend: [negatives.unseen(1, 2, 0, 9, 1, POSITIVES, USERS, backend=backend)],
    ),
    "popularity_kernel": (
        "negatives",
        lambda backend: [negatives.popularity(1, 2, 0, 9, 1, torch.arange(4), POSITIVES, USERS, backend=backend)],
    ),
    "scores_kernel": ("bilinear", scores),
    "row_gradients_kernel": ("bilinear", lambda backend: scores(backend, gradients=True)),
    "sequence_loss_kernel": ("sequence_loss", loss_of_sequences),
    "mean_kernel": ("sequence_loss", loss_of_sequences),
    "sequence_gradient_kernel": ("sequence_loss", lambda backend: loss_of_sequences(backend, masked=True)),
    "pair_scores_kernel": ("vector_ranks", counts),
    "rank_counts_kernel": ("vector_ranks", counts),
    "group_maxima_kernel": ("vector_topk", best),
    "candidate_keys_kernel": ("vector_topk", best),
}  # fmt: skip


@pytest.mark.parametrize("kernel", PURE)
def test_the_reference_takes_over(missing, kernel):
    operation, run = PURE[kernel]
    expected = run("reference")
    missing(kernel)
    with pytest.warns(PerformanceWarning, match=f"{operation} runs on its reference.*: the kernel {kernel} cannot"):
        found = run("auto")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    run("auto")  # and nothing more is said


@pytest.mark.parametrize("kernel", PURE)
def test_a_backend_that_is_named_is_no_other(missing, kernel):
    _, run = PURE[kernel]
    missing(kernel)
    with pytest.raises(KernelMissingError, match=kernel):
        run("triton")


def train(backend, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(0, 9, (COUNT, 2), generator=generator, dtype=torch.int32)
    rule = UpdateRule("adam", 1e-2)
    users, items = (
        Table(
            torch.randn(9, 3, generator=generator).to(dtype),
            torch.zeros(9, 1),
            *(tuple(torch.zeros(9, width) for _ in rule.states) for width in (3, 1)),
        )
        for _ in range(2)
    )
    sampling = NegativeSampling("uniform", 1, 9)
    at = EpochRange(seed=1, epoch=0, batch_size=COUNT, steps=0)
    try:
        factorization_epoch(users, items, TrainingInteractions(pairs), sampling, "bpr", rule, at, backend=backend)
    finally:
        tensors = [*users.vector_states, *users.bias_states, *items.vector_states, *items.bias_states]
        tensors += [users.vectors, users.biases, items.vectors, items.biases]
    return tensors


CHANGING = ("update_rows_kernel", "settle_table_kernel")  # what changes the tables of an epoch


@pytest.mark.parametrize(
    "kernel", ["keys_kernel", "batch_runs_kernel", "prepare_kernel", "score_kernel", "take_kernel", *CHANGING]
)
def test_an_epoch(missing, kernel):
    """Which kernels can run is known before any of them changes a table."""
    expected = train("reference")
    started = missing(kernel)
    with pytest.warns(PerformanceWarning, match=f"factorization_epoch runs on its reference.*{kernel}"):
        found = train("auto")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not [name for name, rehearsed in started if name in CHANGING and not rehearsed]
    with pytest.raises(KernelMissingError, match=kernel):
        train("triton")


def test_an_epoch_of_what_the_reference_does_not_take(missing):
    missing("score_kernel")
    with (
        pytest.warns(PerformanceWarning, match="factorization_epoch runs on its reference"),
        pytest.raises(ValueError, match=r"users\.vectors must be .*float32"),
    ):
        train("auto", torch.bfloat16)


def step(backend, dtype=torch.float32):
    tensors = [torch.ones(9, 3, dtype=dtype), torch.zeros(9, 3), torch.zeros(9, 3)]
    rows = DeferredRows(tensors[0], (0.9, 0.999), 1e-8, 0.0, backend=backend)
    for ids in (torch.tensor([1, 1, 4]), torch.tensor([4, 0, 0])):
        rows.catch_up(tensors, ids)
        rows.update(tensors, ids, torch.ones(3, 3, dtype=dtype), 1e-2)
    rows.flush(tensors)
    return tensors


@pytest.mark.parametrize("kernel", ["claim_kernel", "catch_up_kernel", "flush_kernel", "update_kernel", "runs_kernel"])
def test_row_update(missing, kernel):
    expected = step("reference")
    started = missing(kernel)
    with pytest.warns(PerformanceWarning, match=f"row_update runs on its reference.*{kernel}"):
        found = step("auto")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert all(rehearsed for _, rehearsed in started)
    with pytest.raises(KernelMissingError, match=kernel):
        step("triton")


def test_row_update_of_what_the_reference_rounds_otherwise(missing):
    missing("update_kernel")
    with pytest.raises(KernelMissingError, match="update_kernel"):
        step("auto", torch.bfloat16)


def test_row_update_starts_where_the_rehearsal_began(missing):
    started = missing()
    step("auto")
    names = [name for name, rehearsed in started if not rehearsed]
    assert names[0] == "prepare_kernel"
    assert names.count("update_kernel") == names.count("take_kernel") == 2
    assert names.count("flush_kernel") == 1
