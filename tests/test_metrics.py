"""Metrics: against definitions written as loops over positions, and against every order of tied items."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotfast import backends
from spotfast.evaluation import evaluate, metrics
from spotfast.evaluation.bootstrap import bootstrap_intervals
from spotfast.evaluation.hits import Hits, certain_hits
from spotfast.evaluation.plan import DEFAULT, METRICS
from spotfast.ops.rank_counts import rank_counts, vector_rank_counts
from spotfast.ops.ranks import vector_ranks
from spotfast.ops.scores import scores
from spotfast.rows import Rows

OF_THE_BEST = ["reciprocal_rank", "precision", "recall", "hit_rate", "ndcg", "map"]


class Table:
    def __init__(self, scores):
        self.scores = np.asarray(scores, float)

    def predict(self, user):
        return self.scores[user]


def of_order(relevant, k):
    """Each metric of one ranking: a list of whether the item at each position is relevant."""
    best, total = relevant[:k], sum(relevant)
    discounts = [1 / np.log2(i + 2) for i in range(len(relevant))]
    precisions = [sum(best[: i + 1]) / (i + 1) for i in range(len(best)) if best[i]]
    pairs = [(a, b) for a in np.flatnonzero(relevant) for b in np.flatnonzero(~np.array(relevant))]
    return {
        "mrr": np.mean([1 / (i + 1) for i in np.flatnonzero(relevant)]),
        "auc": np.mean([a < b for a, b in pairs]) if pairs else np.nan,
        f"reciprocal_rank@{k}": 1 / (best.index(True) + 1) if any(best) else 0.0,
        f"precision@{k}": sum(best) / min(k, len(relevant)),
        f"recall@{k}": sum(best) / total,
        f"hit_rate@{k}": float(any(best)),
        f"ndcg@{k}": np.dot(best, discounts[: len(best)]) / sum(discounts[: min(k, total)]),
        f"map@{k}": sum(precisions) / min(k, total),
    }


def orders(scores):
    """Every order by descending score."""
    groups = [np.flatnonzero(scores == value) for value in np.unique(scores)[::-1]]
    for parts in itertools.product(*(list(itertools.permutations(group)) for group in groups)):
        yield [item for part in parts for item in part]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_ties_against_every_order(data):
    """ "expected" is the mean over all orders, "pessimistic" the least, "id" that of a stable sort."""
    items = data.draw(st.integers(1, 6))
    scores = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0, 2.0]), min_size=items, max_size=items)))
    relevant = np.array(data.draw(st.lists(st.booleans(), min_size=items, max_size=items)))
    relevant[data.draw(st.integers(0, items - 1))] = True
    k = data.draw(st.integers(1, items + 2))
    found = [of_order([bool(relevant[item]) for item in order], k) for order in orders(scores)]
    stable = of_order([bool(relevant[item]) for item in np.argsort(-scores, kind="stable")], k)
    asked = ["mrr", "auc", *OF_THE_BEST]

    def values(ties):
        return dict(evaluate(Table([scores]), sp.csr_matrix(relevant[np.newaxis]), None, asked, k, ties=ties))

    for name in stable:
        every = [value[name] for value in found]
        assert values("expected")[name] == pytest.approx(np.mean(every), abs=1e-12, nan_ok=True)
        assert values("pessimistic")[name] == pytest.approx(min(every), abs=1e-12, nan_ok=True)
        assert values("id")[name] == pytest.approx(stable[name], abs=1e-12, nan_ok=True)
    average = values("average")
    assert average["auc"] == pytest.approx(np.mean([value["auc"] for value in found]), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("ties", ["average", "expected", "pessimistic", "id"])
def test_scores_without_ties(ties):
    """Whatever is done about ties, there are none; excluded items are no part of a ranking."""
    rng = np.random.default_rng(0)
    scores = rng.permuted(np.arange(40.0 * 30).reshape(40, 30), axis=1)
    test = rng.random(scores.shape) < 0.2
    train = (rng.random(scores.shape) < 0.3) & ~test
    test[7] = False
    result = evaluate(
        Table(scores), sp.csr_matrix(test), sp.csr_matrix(train), ["mrr", "auc", *OF_THE_BEST], 5, ties=ties
    )
    assert result.num_skipped == 1 + (np.delete(test, 7, axis=0).sum(axis=1) == 0).sum()
    for place, user in enumerate(result.users):
        order = [item for item in np.argsort(-scores[user]) if not train[user, item]]
        for name, value in of_order([bool(test[user, item]) for item in order], 5).items():
            assert result.per_user[name][place] == pytest.approx(value, rel=1e-12), name


@pytest.mark.filterwarnings("ignore:.* test items are excluded")
@pytest.mark.parametrize("ties", ["expected", "pessimistic", "id"])
class TestExcludedItems:
    """Never recommended, and found by no metric; only the average rank, as in Spotlight, is behind all others."""

    def values(self, scores, test, train, ties):
        asked = ["mrr", "auc", *OF_THE_BEST]
        result = evaluate(Table([scores]), sp.csr_matrix([test]), sp.csr_matrix([train]), asked, 3, ties=ties)
        assert result.num_evaluated == 1
        return dict(result)

    def test_all_that_there_are(self, ties):
        """Nothing is left to rank, and so there is no pair for the AUC."""
        values = self.values([3.0, 2.0, 1.0], [1, 1, 0], [1, 1, 1], ties)
        assert np.isnan(values.pop("auc"))
        assert set(values.values()) == {0.0}

    def test_all_of_a_user(self, ties):
        values = self.values([3.0, 2.0, 1.0, 1.0], [1, 1, 0, 0], [1, 1, 0, 0], ties)
        assert set(values.values()) == {0.0}

    def test_one_of_two(self, ties):
        values = self.values([3.0, 2.0, 1.0, 0.0], [1, 0, 1, 0], [1, 0, 0, 0], ties)
        assert values["mrr"] == (0 + 1 / 2) / 2
        assert values["recall@3"] == 0.5


class TestConstantScorer:
    """A model that scores all items alike never looks good."""

    test = sp.csr_matrix(np.arange(100) < 5)  # the first ids: an order by id finds them all
    model = Table(np.zeros((1, 100)))

    @pytest.mark.parametrize("ties", ["expected", "pessimistic", "average"])
    def test_at_most_chance(self, ties):
        result = evaluate(self.model, self.test, None, ["mrr", "auc", *OF_THE_BEST], 10, ties=ties)
        chance = evaluate(self.model, self.test, None, ["mrr", "auc", *OF_THE_BEST], 10, ties="expected")
        assert chance["precision@10"] == pytest.approx(0.05)
        assert chance["auc"] == 0.5
        assert chance["hit_rate@10"] < 0.5
        for name, value in result.items():
            assert value <= chance[name] + 1e-12

    @pytest.mark.parametrize("train", [None, sp.csr_matrix(np.arange(100) % 7 == np.arange(60)[:, np.newaxis] % 7)])
    def test_as_good_as_chance_by_default(self, train):
        """Low ids are popular: no metric is better than that of scores drawn at random, the mean of 40 draws."""
        rng = np.random.default_rng(0)
        test = sp.csr_matrix(rng.random((60, 100)) < 0.5 / (1 + np.arange(100) / 5))
        if train is not None:
            test = sp.csr_matrix(test.toarray() & ~train.toarray())
        asked = (*DEFAULT, "coverage")

        def values(scores):
            return evaluate(Table(scores), test, train, asked, (5, 10))

        constant = values(np.zeros((60, 100)))
        drawn = [values(rng.random((60, 100))) for _ in range(40)]
        for name, value in constant.items():
            every = np.array([each[name] for each in drawn])
            error = every.std() / np.sqrt(len(every)) + 1e-12
            assert value <= every.mean() + 4 * error, name
            if name not in ("mrr", "coverage@5", "coverage@10"):  # where average ranks, or equal lists, are worse
                assert value >= every.mean() - 4 * error, name

    def test_by_id_it_may(self):
        assert evaluate(self.model, self.test, None, "recall", 10, ties="id")["recall@10"] == 1.0


@pytest.mark.parametrize("backend", ["numba", "reference"])
class TestRankCounts:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("values", [1, 3, 1000])
    def test_against_a_count(self, backend, values, dtype):
        rng = np.random.default_rng(values)
        scores = rng.integers(0, values, (7, 3000)).astype(dtype)
        targets, out = (rng.random(scores.shape) < share for share in (0.01, 0.3))
        counts = rank_counts(scores, rows(targets), rows(out), backend=backend)
        place = 0
        for row, wanted, gone in zip(scores, targets, out, strict=True):
            for item in np.flatnonzero(wanted):
                same = gone if gone[item] else ~gone & (row == row[item])
                assert counts.above[place] == ((~gone).sum() if gone[item] else (~gone & (row > row[item])).sum())
                assert counts.equal[place] == same.sum()
                assert counts.before[place] == same[:item].sum()
                place += 1
        assert place == len(counts.above)

    def test_bad_input(self, backend):
        with pytest.raises(ValueError, match=r"targets must hold item ids in \[0, 3\), got 3 .. 3"):
            rank_counts(np.zeros((1, 3)), rows([[0, 0, 0, 1]]), backend=backend)


@pytest.mark.parametrize("backend", backends.OPERATIONS["vector_ranks"]["cpu"])
@pytest.mark.parametrize("values", [2, 1000])
def test_rank_counts_of_vectors(values, backend):
    """Those of their scores: of many users, tied and excluded items, with and without biases."""
    rng = np.random.default_rng(values)
    sizes = (50, 3), 50, (700, 3), 700
    vectors = [torch.from_numpy(rng.integers(-values, values, size).astype(np.float32)) for size in sizes]
    wanted, out = (rows(rng.random((50, 700)) < share) for share in (0.03, 0.3))
    for parts in (vectors, [vectors[0], None, vectors[2], None]):
        for excluded in (None, out):
            expected = rank_counts(scores(*parts).numpy(), wanted, excluded)
            found = vector_rank_counts(*parts, wanted, excluded, backend=backend)
            for name in ("above", "equal", "before"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), strict=True)
            np.testing.assert_array_equal(found.average_ranks, vector_ranks(*parts, wanted, excluded))


def rows(mask):
    return Rows.from_matrix("mask", sp.csr_matrix(mask))


def test_backends_agree(monkeypatch):
    rng = np.random.default_rng(1)
    scores, test = rng.integers(0, 9, (30, 40)), sp.csr_matrix(rng.random((30, 40)) < 0.2)
    first = evaluate(Table(scores), test, None, ["mrr", *OF_THE_BEST], 5)
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
    assert backends.choose("ranks") == "reference"
    assert dict(evaluate(Table(scores), test, None, ["mrr", *OF_THE_BEST], 5)) == dict(first)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_has_a_formula_and_an_example(name):
    function = getattr(metrics, {"map": "average_precision", "rmse": "mse"}.get(name, name))
    summary, _, rest = function.__doc__.partition("\n\n")
    assert "`" in summary + rest.partition("Args:")[0]
    assert ">>>" in rest


class TestHits:
    def test_no_hits(self):
        hits = Hits.from_ranks(np.zeros(0, int), np.zeros(0), np.array([2, 1]), np.array([5, 5]), 5)
        for metric in (metrics.precision, metrics.recall, metrics.hit_rate, metrics.reciprocal_rank, metrics.ndcg):
            assert metric(hits, 3).tolist() == [0.0, 0.0]
            assert metric(hits, 3).dtype == np.float64

    def test_an_empty_list(self):
        """Everything is excluded: half of the definitions divide by the length of the list."""
        hits = certain_hits(np.array([3.0]), rows([[1, 0, 0]]), np.array([0]), 3, 5)
        assert metrics.precision(hits, 5).tolist() == [0.0]
        assert np.isnan(metrics.precision(hits, 5, "list")).all()
        assert np.isnan(metrics.average_precision(hits, 5, "list")).all()

    def test_names(self):
        hits = Hits.from_ranks(np.array([0]), np.array([2]), np.array([1]), np.array([9]))
        with pytest.raises(ValueError, match=r"divisor must be one of .*, got 'n'"):
            metrics.precision(hits, 2, "n")
        with pytest.raises(ValueError, match=r"discount must be one of .*, got 'ln'"):
            metrics.ndcg(hits, 2, "ln")
        with pytest.raises(ValueError, match="num_items must be known for auc"):
            metrics.auc_at(hits, 2)


class TestIntervals:
    def test_covers_the_mean_of_all(self):
        """A 90 % interval holds the true mean in about 90 % of 300 samples, in groups of users, too."""
        for users in (200, 6000):
            held = 0
            for sample in range(300 if users == 200 else 60):
                values = np.random.default_rng(sample).exponential(size=(users, 1))
                low, high = bootstrap_intervals(values, np.ones_like(values), 0.9, sample)[0]
                held += low <= 1.0 <= high
            assert 0.8 <= held / (300 if users == 200 else 60) <= 0.97

    def test_groups_are_as_wide_as_users(self, monkeypatch):
        values = np.random.default_rng(0).exponential(size=(6000, 1))
        grouped = np.diff(bootstrap_intervals(values, np.ones_like(values), 0.9, 0))
        monkeypatch.setattr("spotfast.evaluation.bootstrap.GROUPS", 10_000)
        assert np.diff(bootstrap_intervals(values, np.ones_like(values), 0.9, 0)) == pytest.approx(grouped, rel=0.15)

    def test_weights_and_gaps(self):
        values = np.array([[1.0, np.nan], [5.0, np.nan]])
        ends = bootstrap_intervals(values, np.array([[1.0, 0.0], [0.0, 0.0]]), 0.9, 0)
        assert ends[0].tolist() == [1.0, 1.0]
        assert np.isnan(ends[1]).all()
