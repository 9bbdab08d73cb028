"""Models whose device has kernels are evaluated and recommend by these, with the results of the reference."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spotfast import backends
from spotfast.evaluation import evaluate, mrr_score, sequence_precision_recall_score
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.kernels import ranks, topk
from spotfast.recommendation import recommend
from spotfast.sequence.implicit import ImplicitSequenceModel

pytestmark = pytest.mark.interpreter

USERS, ITEMS = 9, 140


@pytest.fixture
def ran(monkeypatch):
    """`ran(function)`: its result by the kernels, as on a CUDA device, after asserting that they were launched."""
    launched = set()
    for file in (ranks, topk):

        def launch(kernel, *arguments, _launch=file.launch, **options):
            launched.add(kernel.fn.__name__)
            return _launch(kernel, *arguments, **options)

        monkeypatch.setattr(file, "launch", launch)

    def ran(function, *kernels):
        with monkeypatch.context() as patch:
            for operation in ("vector_ranks", "vector_topk"):
                patch.setitem(backends.OPERATIONS, operation, {"cpu": ("triton", "reference")})
            result = function()
        assert launched == set(kernels)
        return result

    return ran


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    ids = (rng.integers(1, size, 300, dtype=np.int32) for size in (USERS, ITEMS))
    return Interactions(*ids, num_users=USERS, num_items=ITEMS, timestamps=np.arange(300))


@pytest.fixture(scope="module")
def model(data):
    model = ImplicitFactorizationModel("bpr", embedding_dim=4, n_iter=1, random_state=0)
    model.fit(data)
    return model


RANKS = ("pair_scores_kernel", "rank_counts_kernel")
LISTS = ("group_maxima_kernel", "candidate_keys_kernel")


def test_evaluation(ran, model, data):
    np.testing.assert_array_equal(ran(lambda: mrr_score(model, data), *RANKS), mrr_score(model, data))


def test_all_metrics(ran, model, data):
    def measure():
        return evaluate(model, data, metrics=("mrr", "ndcg", "auc", "coverage"), k=(3, 10)).to_dict()

    np.testing.assert_equal(ran(measure, *RANKS, *LISTS), measure())


def same(ran, function):
    for ours, theirs in zip(ran(function, *LISTS), function(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_recommendations(ran, model, data):
    same(ran, lambda: model.recommend(np.arange(USERS), k=7, exclude=data))
    same(ran, lambda: model.recommend(2, k=7, item_ids=[5, 3, 77]))


def test_sequences(ran, data):
    sequences = data.to_sequence(max_sequence_length=8)
    model = ImplicitSequenceModel("bpr", "pooling", embedding_dim=3, n_iter=1, random_state=0)
    model.fit(sequences)
    same(ran, lambda: model.recommend(sequences.sequences[:4], k=5, exclude="seen"))


@pytest.mark.parametrize("exclude", [False, True])
def test_sequences_are_evaluated(ran, data, exclude):
    sequences = data.to_sequence(max_sequence_length=8)
    model = ImplicitSequenceModel("bpr", "pooling", embedding_dim=3, n_iter=1, random_state=0)
    model.fit(sequences)

    def measure():
        return evaluate(
            model, sequences, metrics=("mrr", "ndcg", "auc"), k=(3, 10), exclude_preceding=exclude
        ).to_dict()

    def lists():
        return sequence_precision_recall_score(model, sequences, 2, exclude)[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of the last items are excluded
        np.testing.assert_equal(ran(measure, *RANKS), measure())
        np.testing.assert_array_equal(ran(lists, *RANKS, *LISTS), lists())


def test_similar_items(ran, model):
    same(ran, lambda: model.similar_items(np.arange(5), k=6))


def test_vectors_of_any_model(ran):
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(size, 3, generator=generator) for size in (USERS, ITEMS))
    model = SimpleNamespace(user_vectors=lambda: users, item_vectors=lambda: items)
    same(ran, lambda: recommend(model, [4, 4, 1], k=3))
