"""The dialects give what the libraries they are named after give: recorded values, and the libraries themselves."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from spotfast.evaluation import evaluate, evaluate_lists, mrr_score, precision_recall_score
from spotfast.evaluation.dialects import DIALECTS, find

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def recorder():
    """The module that asks the libraries."""
    spec = importlib.util.spec_from_file_location("record_dialects", GOLDEN / "record_dialects.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Table:
    def __init__(self, scores):
        self.scores = scores

    def predict(self, user):
        return self.scores[user]


def require(library):
    """Skip without the library, unless `make test-libraries` runs, which has installed it: then that is a failure."""
    if os.environ.get("SPOTFAST_REQUIRE_LIBRARIES") == "1":
        importlib.import_module(library)
    else:
        pytest.importorskip(library)


def check(name, expected, case, cutoffs):
    scores, train, test = case
    metrics = list(dict.fromkeys(key.partition("@")[0] for key in expected))
    result = evaluate(Table(scores), test, train, metrics, cutoffs, dialect=name)
    assert set(result) >= set(expected)
    for key, value in expected.items():
        assert result[key] == pytest.approx(value, rel=1e-12), key


@pytest.mark.parametrize("name", ["implicit", "recbole", "lenskit"])
class TestLibraries:
    def test_recorded_values(self, name, recorder):
        recorded = json.loads((GOLDEN / "dialects.json").read_text())[name]["values"]
        check(name, recorded, recorder.make_case(), recorder.CUTOFFS)

    @pytest.mark.slow
    def test_the_library_itself(self, name, recorder):
        """Other scores than those of the record, more users."""
        require(name)
        rng = np.random.default_rng(3)
        scores = rng.permuted(np.arange(60.0 * 80).reshape(60, 80), axis=1)
        train = rng.random(scores.shape) < 0.2
        test = (rng.random(scores.shape) < rng.random((60, 1)) / 3) & ~train
        case = scores, sp.csr_matrix(train), sp.csr_matrix(test)
        check(name, recorder.LIBRARIES[name](*case), case, recorder.CUTOFFS)

    def test_lists_as_scores(self, name, recorder):
        """From the lists alone come the same values as from the scores."""
        scores, train, test = recorder.make_case()
        metrics = ["precision", "recall", "hit_rate", "ndcg", "map", "reciprocal_rank"]
        metrics += ["auc"] if name == "implicit" else ["mrr"]
        ranked = evaluate(Table(scores), test, train, metrics, (2, 9), dialect=name)
        listed = evaluate_lists(recorder.lists(scores, train, 12), test, metrics, (2, 9), dialect=name)
        assert dict(listed) == dict(ranked)
        assert listed.intervals == ranked.intervals
        assert listed.num_skipped == ranked.num_skipped == 1


@pytest.mark.filterwarnings("ignore:.* test items are excluded")
def test_spotlight_is_what_its_scores_are():
    """With tied scores, excluded test items, and k beyond the items; lists have ties in the order of ids."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, (20, 15)).astype(float)
    test, train = (sp.csr_matrix(rng.random(scores.shape) < share) for share in (0.3, 0.4))
    result = evaluate(Table(scores), test, train, "mrr")
    lists = evaluate(Table(scores), test, train, ["precision", "recall"], (1, 5, 40), ties="id")
    np.testing.assert_array_equal(result.per_user["mrr"], mrr_score(Table(scores), test, train))
    precision, recall = precision_recall_score(Table(scores), test, train, k=(1, 5, 40))
    for column, k in enumerate((1, 5, 40)):
        np.testing.assert_array_equal(lists.per_user[f"precision@{k}"], precision[:, column])
        np.testing.assert_array_equal(lists.per_user[f"recall@{k}"], recall[:, column])


@pytest.mark.parametrize("name", list(DIALECTS))
def test_ties_are_left_to_chance_in_every_dialect(name):
    """The default is the mean over every order of tied items, except where items share their average rank."""
    rng = np.random.default_rng(5)
    asked = ["precision", "recall", "hit_rate", "ndcg", "map", "reciprocal_rank", "mrr", "auc"]
    for _ in range(5):
        tied = rng.integers(0, 3, 6)
        orders = tied + np.array(list(itertools.permutations(range(6)))) / 10  # a user for each
        relevant = rng.permutation([True, True, True, False, False, False])[np.newaxis]
        found, every = (
            evaluate(
                Table(scores), sp.csr_matrix(relevant.repeat(len(scores), axis=0)), None, asked, (2, 4), dialect=name
            )
            for scores in (tied[np.newaxis].astype(float), orders)
        )
        for metric, value in found.items():
            if metric != "mrr":  # without a cut-off: an average rank is not an average of reciprocals
                assert value == pytest.approx(every[metric], rel=1e-12), metric


def test_popularity_of_lenskit_is_a_quantile():
    train = sp.csr_matrix([[1, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1]])  # 1, 3, 0 and 3 users
    test, scores = sp.csr_matrix([[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 0]]), np.array([[1.0, 2, 3, 4]] * 3)
    result = evaluate(Table(scores), test, train, "mean_popularity", 2, dialect="lenskit")
    np.testing.assert_allclose(result.per_user["mean_popularity@2"], [0.0, (0.0 + 1 / 3) / 2])
    with pytest.raises(ValueError, match="train is needed for 'mean_popularity'"):
        evaluate(Table(scores), test, None, "mean_popularity")


def test_a_required_library_is_not_skipped(monkeypatch):
    monkeypatch.delenv("SPOTFAST_REQUIRE_LIBRARIES", raising=False)
    with pytest.raises(pytest.skip.Exception):
        require("no_such_library")
    monkeypatch.setenv("SPOTFAST_REQUIRE_LIBRARIES", "1")
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        require("no_such_library")


def test_names():
    assert list(DIALECTS) == ["spotlight", "implicit", "recbole", "lenskit"]
    with pytest.raises(ValueError, match=r"dialect must be one of 'spotlight', .*, got 'trec'"):
        find("trec")
