"""Ranks and best items on the device: those of the reference on the CPU, to the bit; models use them where they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast import backends
from spotfast.evaluation import mrr_score, sequence_mrr_score, sequence_precision_recall_score
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.topk import vector_topk
from spotfast.rows import Rows
from spotfast.sequence.implicit import ImplicitSequenceModel

SIZES = [(1, 1, 1), (32, 5, 300), (33, 17, 140), (128, 9, 129), (300, 3, 50)]  # dim, users, items


def problem(dim, users, items, kind, device):
    """Vectors and biases that tie in plenty, or do not, and rows of a share of the items."""
    generator = torch.Generator().manual_seed(dim)
    shapes = (users, dim), (users,), (items, dim), (items,)
    parts = [torch.randn(shape, generator=generator) for shape in shapes]
    if kind == "tied":
        parts = [part.round() for part in parts]
    return [part.to(device) for part in parts]


def some(users, items, share, seed):
    mask = np.random.default_rng(seed).random((users, items)) < share
    pairs = [ids.astype(np.int32) for ids in np.nonzero(mask)]
    return Rows.from_ids(*pairs, users, items)


def same_counts(parts, targets, excluded):
    expected = vector_rank_counts(*(part.cpu() for part in parts), targets, excluded, backend="reference")
    found = vector_rank_counts(*parts, targets, excluded, backend="triton")
    for name in ("above", "equal", "before"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    return found


def same_lists(parts, k, excluded):
    expected = vector_topk(*(part.cpu() for part in parts), k, excluded, backend="reference")
    found = vector_topk(*parts, k, excluded, backend="triton")
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return found


@pytest.mark.parametrize("kind", ["random", "tied"])
@pytest.mark.parametrize(("dim", "users", "items"), SIZES)
def test_ranks(device, dim, users, items, kind):
    parts = problem(dim, users, items, kind, device)
    for share in (0.0, 0.2, 1.0):
        same_counts(parts, some(users, items, 0.1, seed=1), some(users, items, share, seed=2))


@pytest.mark.parametrize("kind", ["random", "tied"])
@pytest.mark.parametrize(("dim", "users", "items"), SIZES)
def test_topk(device, dim, users, items, kind):
    parts = problem(dim, users, items, kind, device)
    for k, share in ((1, 0.0), (10, 0.2), (items + 1, 0.9)):
        same_lists(parts, k, some(users, items, share, seed=2))


@pytest.mark.device_only
@pytest.mark.parametrize("kind", ["random", "tied"])
def test_many_items(device, kind):
    """Lists of a thousand, and users with more targets than a program counts; twice, with the same bits."""
    parts = problem(64, 40, 50_000, kind, device)
    targets, excluded = some(40, 50_000, 0.001, seed=1), some(40, 50_000, 0.01, seed=2)
    counts, lists = same_counts(parts, targets, excluded), same_lists(parts, 1000, excluded)
    again = vector_rank_counts(*parts, targets, excluded)
    assert counts.above.tobytes() == again.above.tobytes()
    assert all(a.tobytes() == b.tobytes() for a, b in zip(lists, vector_topk(*parts, 1000, excluded), strict=True))


@pytest.mark.device_only
def test_the_reference_on_the_device(device):
    parts = problem(16, 20, 300, "random", device)
    targets, excluded = some(20, 300, 0.1, seed=1), some(20, 300, 0.3, seed=2)
    found = vector_rank_counts(*parts, targets, excluded, backend="reference")
    np.testing.assert_array_equal(found.above, same_counts(parts, targets, excluded).above)
    ids, _ = vector_topk(*parts, 12, excluded, backend="reference")
    np.testing.assert_array_equal(ids, same_lists(parts, 12, excluded)[0])


@pytest.mark.device_only
def test_models(device, monkeypatch):
    """Evaluated and asked on the device, then on the CPU: the same scores give the same ranks and lists."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 300, 20_000), (2000 * rng.random(20_000) ** 2).astype(int)
    data = Interactions(users, items, num_users=300, num_items=2000)
    model = ImplicitFactorizationModel("bpr", n_iter=1, batch_size=1024, random_state=1, use_cuda=True)
    model.fit(data)
    assert backends.choose("vector_ranks", model.device) == backends.choose("vector_topk", model.device) == "triton"
    results = []
    for place in ("cuda", "cpu"):
        model.to(place)
        results.append((mrr_score(model, data), *model.recommend(np.arange(300), k=20, exclude=data)))
    for own, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(own, expected)


@pytest.mark.device_only
def test_sequence_models(device, monkeypatch):
    """Evaluated by kernels, then from rows of scores: the same final states give the same ranks and lists."""
    rng = np.random.default_rng(0)
    test = SequenceInteractions(rng.integers(1, 2000, (300, 9)), num_items=2000)
    model = ImplicitSequenceModel(n_iter=1, embedding_dim=30, random_state=1, use_cuda=True)
    model.fit(test)
    results = []
    for backend in ("auto", "reference"):
        monkeypatch.setenv("SPOTFAST_BACKEND", backend)
        results.append((sequence_mrr_score(model, test), sequence_precision_recall_score(model, test, 5, True)[0]))
    for own, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(own, expected)
