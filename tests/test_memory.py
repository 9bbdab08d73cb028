"""The memory that recommendation and evaluation take: as estimated, and within the budget. Sizes, read and written."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from spotfast.factorization.representations import BilinearNet
from spotfast.factorization.scoring import make_scorer
from spotfast.interactions import SequenceInteractions
from spotfast.memory import as_bytes, readable
from spotfast.optim import DeferredAdam
from spotfast.sequence.implicit import ImplicitSequenceModel

TOLERANCE = 1.2

PRELUDE = """
import ctypes, json, resource
from pathlib import Path
import numpy as np
from spotfast import evaluation, recommendation
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def peak():  # of this program: that of getrusage may be what the process was before it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

def start():  # give back what is free, and forget the peak; return what is left
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident()

def model_of(data, dim):
    model = ImplicitFactorizationModel(embedding_dim=dim, n_iter=0, negatives="uniform", random_state=0)
    model.fit(data)
    return model

def interactions(asked, per_user, users, items, seed):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, asked, per_user * asked, np.int32), rng.integers(0, items, per_user * asked, np.int32)
    return Interactions(*ids, num_users=users, num_items=items)

tiny = Interactions([0, 1], [1, 2])
"""

RECOMMEND = """
model_of(tiny, 2).recommend([0, 1], 2, tiny.tocsr())  # what is loaded at first use
users, items, dim, asked, seen, k, budget = {arguments!r}
data = interactions(asked, seen, users, items, 0)
model, exclude = model_of(data, dim), data.tocsr()
arguments = model, np.arange(asked), k, exclude
estimate = recommendation.estimate_memory(*arguments, memory_budget=budget) if {whole} else None
before = start()
if {whole}:
    ids, scores = model.recommend(*arguments[1:], memory_budget=budget)
    assert ids.shape == scores.shape == (asked, k)
else:
    lists = recommendation.iter_recommend(*arguments, memory_budget=budget)
    assert sum(len(scores) for _, _, scores in lists) == asked
print(json.dumps([estimate, peak() - before, peak()]))
"""

EVALUATE = """
metrics, kind, k, users, items, budget = {arguments!r}
import warnings
warnings.simplefilter("ignore")  # some test items are in the training set
from spotfast.interactions import SequenceInteractions

class AnyModel:
    def __init__(self, items):
        self._scores = np.random.default_rng(0).random(items)  # float64

    def predict(self, asked):
        return self._scores.copy()

few = AnyModel(3)  # what is loaded at first use
for model in (few, model_of(tiny, 2)):
    evaluation.evaluate(model, tiny, tiny, metrics, k=1)
if kind == "sequences":
    test = SequenceInteractions(np.random.default_rng(0).integers(1, items, (users, 9), np.int32), num_items=items)
    train = None
    evaluation.evaluate(few, SequenceInteractions(np.array([[1, 2]]), num_items=3), metrics=metrics, k=1)
else:
    test, train = (interactions(users, count, users, items, count) for count in (5, 40))
    test.user_ids[:1000], test.item_ids[:1000] = 7, np.arange(1000)  # a user with more test items than others
model = model_of(train, 8) if kind == "vectors" else AnyModel(items)
estimate = evaluation.estimate_memory(model, test, train, metrics, k=k, memory_budget=budget)
before = start()
evaluation.evaluate(model, test, train, metrics, k=k, memory_budget=budget)
print(json.dumps([estimate, peak() - before, peak()]))
"""


def measured(run_python, program, *arguments, **options):
    """Return the estimate, the bytes that were used beyond what was there before, and the peak of the process.

    The C library gives back the memory of every large array; by default it keeps that of some, depending on what was
    freed before, which is not in use.
    """
    environment = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    return json.loads(run_python(PRELUDE + program.format(arguments=arguments, **options), **environment))


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("budget", [None, "300MB"])
def test_the_estimate_of_a_large_result(run_python, budget):
    """240 MB of ids and scores."""
    estimate, used, _ = measured(run_python, RECOMMEND, 200_000, 2_000, 8, 200_000, 20, 100, budget, whole=True)
    assert used <= TOLERANCE * estimate
    assert estimate <= TOLERANCE * used  # nor is it far too much
    assert budget is None or estimate <= as_bytes("budget", budget)


@needs_proc
@pytest.mark.slow
def test_block_by_block_within_the_budget(run_python):
    """The same result, in blocks. Few items are excluded: making data must not need more than what is measured."""
    budget = 40_000_000
    _, used, _ = measured(run_python, RECOMMEND, 200_000, 2_000, 8, 200_000, 1, 100, budget, whole=False)
    assert used <= TOLERANCE * budget


@needs_proc
@pytest.mark.slow
def test_a_million_items(run_python):
    """For 10,000 users: the whole process, the model of 132 MB in it, stays below two gigabytes."""
    estimate, used, peak = measured(run_python, RECOMMEND, 10_000, 1_000_000, 32, 10_000, 10, 100, None, whole=True)
    assert used <= TOLERANCE * estimate
    assert peak < 2e9


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize(
    ("metrics", "kind", "k", "users", "items", "budget"),
    [
        (("mrr", "ndcg", "recall"), "vectors", 20, 200_000, 5_000, None),
        (("mrr", "ndcg", "recall"), "vectors", 20, 200_000, 5_000, "180MB"),
        (("mrr", "ndcg", "coverage", "mean_popularity"), "vectors", 20, 50_000, 200_000, None),
        (("mrr", "ndcg", "coverage", "mean_popularity"), "vectors", 20, 50_000, 200_000, "80MB"),
        (("coverage",), "vectors", 1_000, 4_000, 50_000, None),
        (("mrr", "auc"), "predict", 20, 2_000, 400_000, None),
        (("mrr", "auc"), "predict", 20, 2_000, 400_000, "40MB"),
        (("mrr", "recall"), "sequences", 20, 200, 1_000_000, None),
        (("mrr", "recall"), "sequences", 20, 200, 1_000_000, "60MB"),
    ],
)
def test_evaluation(run_python, metrics, kind, k, users, items, budget):
    """What is used is not above the estimate, which is within the budget."""
    estimate, used, _ = measured(run_python, EVALUATE, metrics, kind, k, users, items, budget)
    assert used <= TOLERANCE * estimate
    assert budget is None or estimate <= as_bytes("budget", budget)


KINDS = """
kind, asking, users, items, dim, budget = {arguments!r}
import warnings
warnings.simplefilter("ignore")  # training runs through autograd
import torch
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import LSTMNet, MixtureLSTMNet

def bloom(items):
    return BloomEmbedding(items, dim, compression_ratio=0.2, padding_idx=None)

class Anyones(torch.nn.Module):
    def __init__(self, items):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(items))

    def forward(self, user_ids, item_ids):
        return self.scores[item_ids]

class Vectors:
    def __init__(self, users, items):
        self.tables = np.random.default_rng(0).random((users, dim)), np.random.default_rng(1).random((items, dim))

    def user_vectors(self):
        return self.tables[0]

    def item_vectors(self):
        return self.tables[1]

def fitted(users, items):
    data = interactions(users, 5, users, items, 0)
    data.ratings = np.ones(len(data), np.float32)
    if kind == "vectors in float64":
        return Vectors(users, items), data
    if kind.startswith("sequence"):
        few = np.random.default_rng(0).integers(1, items, (users, 9), np.int32)
        data = SequenceInteractions(few, num_items=items)
        net = {{
            "sequence": lambda: None,
            "sequence, deferred": lambda: None,
            "sequence, Bloom": lambda: LSTMNet(items, dim, item_embedding_layer=bloom(items)),
            "sequence, mixture": lambda: MixtureLSTMNet(items, dim),
        }}[kind]()
        model = ImplicitSequenceModel(
            representation="pooling" if net is None else net, embedding_dim=dim, n_iter=0, random_state=0,
            sparse=kind == "sequence, deferred",
        )
        model.fit(data)
        return model, data
    make = ExplicitFactorizationModel if kind in ("poisson", "logistic") else ImplicitFactorizationModel
    net = None
    if kind == "Bloom":
        net = BilinearNet(users, items, dim, item_embedding_layer=bloom(items))
    elif kind == "anyone's network":
        net = Anyones(items)
    options = {{"loss": kind}} if make is ExplicitFactorizationModel else {{"negatives": "uniform"}}
    model = make(n_iter=0, embedding_dim=dim, representation=net, random_state=0, **options)
    model.fit(data)
    return model, data

def ask(model, data, estimating, budget=None):
    if asking == "evaluate":
        function = evaluation.estimate_memory if estimating else evaluation.evaluate
        return function(model, data, metrics=("mrr", "ndcg"), k=10, memory_budget=budget)
    function = recommendation.estimate_memory if estimating else recommendation.recommend
    asked = data.sequences if kind.startswith("sequence") else np.arange(data.num_users)
    return function(model, asked, 10, memory_budget=budget)

for estimating in (True, False):  # what is loaded at first use
    ask(*fitted(3, 40), estimating)
model, data = fitted(users, items)
estimate = ask(model, data, True, budget)
before = start()
ask(model, data, False, budget)
print(json.dumps([estimate, peak() - before, peak()]))
"""


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("asking", ["evaluate", "recommend"])
@pytest.mark.parametrize(
    ("kind", "users", "items", "dim"),
    [
        ("plain", 300, 1_000_000, 16),
        ("poisson", 300, 1_000_000, 16),
        ("logistic", 300, 1_000_000, 16),
        ("Bloom", 300, 500_000, 32),
        ("anyone's network", 100, 1_000_000, 16),
        ("vectors in float64", 300, 500_000, 32),
        ("sequence", 200, 1_000_000, 16),
        ("sequence, deferred", 200, 1_000_000, 16),
        ("sequence, Bloom", 200, 500_000, 32),
        ("sequence, mixture", 50, 1_000_000, 16),
    ],
)
def test_every_kind_of_model(run_python, kind, asking, users, items, dim):
    """Many items, so that tables of items, and rows of scores, are what takes memory."""
    estimate, used, _ = measured(run_python, KINDS, kind, asking, users, items, dim, None)
    assert used <= TOLERANCE * estimate


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, 1), ("7 B", 7), ("512MB", 512 * 10**6), ("1.5 GiB", 3 * 2**29), (" 2kb ", 2000), ("3 mib", 3 * 2**20)],
)
def test_sizes_are_read(size, expected):
    assert as_bytes("size", size) == expected


@pytest.mark.parametrize("size", ["", "MB", "12", "-1MB", "1e9B", "3 parsecs", "0 MB", "0.1 B", 0, -5])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match="size must be"):
        as_bytes("size", size)


@pytest.mark.parametrize("size", [None, 1.5, True, [1]])
def test_what_is_no_size_is_refused(size):
    with pytest.raises(TypeError, match="size must be an integer"):
        as_bytes("size", size)


@pytest.mark.parametrize("size", [1, 999, 1000, 9_999, 10_001, 123_456_789, 10**12])
def test_what_is_written_suffices(size):
    """A budget of as much as a message asks for is enough, and not much more."""
    assert size <= as_bytes("size", readable(size)) <= 1.1 * size + 1000


class TestTablesOfDeferredAdam:
    """Their hooks are known: scores are computed from the table itself, and all rows of it are up to date."""

    def check(self, net, optimizer, make):
        layer = net.item_embeddings
        optimizer.zero_grad()
        layer(torch.tensor([1])).sum().backward()
        optimizer.step()  # from here on, the other rows owe a step
        owing = layer.weight.detach().clone()
        vectors = make()
        assert vectors.data_ptr() == layer.weight.data_ptr()
        scored = vectors.clone()
        assert (scored[2:] != owing[2:]).any()
        optimizer.flush()
        assert torch.equal(scored, layer.weight)

    def test_of_sequences(self):
        model = ImplicitSequenceModel(representation="lstm", sparse=True, embedding_dim=4, n_iter=1, random_state=0)
        model.fit(SequenceInteractions(np.arange(1, 25).reshape(6, 4)))
        assert isinstance(model._optimizer, DeferredAdam)
        self.check(model._net, model._optimizer, lambda: model._scorer()._vectors)

    def test_of_users(self):
        net = BilinearNet(6, 25, 4, sparse=True)
        optimizer = DeferredAdam(net)
        net(torch.arange(6), torch.arange(6)).sum().backward()
        optimizer.step()
        self.check(net, optimizer, lambda: make_scorer(net, 25, None)._item_vectors)

    def test_a_foreign_hook_is_respected(self):
        net = BilinearNet(6, 25, 4)
        net.item_embeddings.register_forward_hook(lambda layer, args, output: 2 * output)
        scores = make_scorer(net, 25, None).matrix(torch.arange(6))
        torch.testing.assert_close(scores, 2 * net.user_embeddings.weight @ net.item_embeddings.weight.T)
