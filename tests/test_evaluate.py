"""`evaluate` and `evaluate_lists`: models of every kind, what is skipped, intervals, and what is said of bad input."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from spotfast.evaluation import (
    Evaluation,
    estimate_memory,
    evaluate,
    evaluate_lists,
    memory,
    mrr_score,
    precision_recall_score,
    ranking,
    rmse_score,
    sequence_mrr_score,
    sequence_ranking,
    sequence_scoring,
)
from spotfast.evaluation.ranking import UserBlocks
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

ALL = ["mrr", "auc", "reciprocal_rank", "precision", "recall", "hit_rate", "ndcg", "map", "coverage", "mean_popularity"]


class Table:
    def __init__(self, scores):
        self.scores = np.asarray(scores, float)

    def predict(self, user, items=None):
        return self.scores[user] if items is None else self.scores[user, items]


@pytest.fixture(scope="module")
def fitted():
    """A model, a test and a training set without items in common; user 4 has no test items."""
    rng = np.random.default_rng(0)
    keys = rng.permutation(30 * 50)[:600]
    users, items = keys // 50, keys % 50
    data = Interactions(users, items, ratings=rng.integers(1, 6, 600).astype(np.float32), num_users=30, num_items=50)
    in_test = (np.arange(600) < 150) & (users != 4)
    model = ImplicitFactorizationModel(loss="bpr", n_iter=2, embedding_dim=4, random_state=1)
    model.fit(data.take(~in_test))
    return model, data.take(in_test), data.take(~in_test)


class TestModels:
    def test_scores_of_spotlight(self, fitted):
        result = evaluate(*fitted, k=[10, 3, 10])
        np.testing.assert_array_equal(result.per_user["mrr"], mrr_score(*fitted))
        precision, recall = precision_recall_score(*fitted, k=[3, 10])
        np.testing.assert_array_equal(result.per_user["precision@3"], precision[:, 0])
        np.testing.assert_array_equal(result.per_user["recall@10"], recall[:, 1])
        assert [name for name in result if name.startswith("ndcg")] == ["ndcg@3", "ndcg@10"]

    @pytest.mark.parametrize("ties", [None, "average", "expected", "pessimistic", "id"])
    def test_own_models_as_any_model(self, fitted, ties, monkeypatch):
        """From vectors, from blocks of scores and from one `predict` per user."""
        model, test, train = fitted
        first = evaluate(model, test, train, ALL, ties=ties)
        monkeypatch.setattr(ranking, "USERS_AT_ONCE", 4)
        blocks = evaluate(model, test, train, ALL, ties=ties)
        table = Table([model.predict(user) for user in range(30)])
        any_model = evaluate(table, test.tocsr(), train.tocoo(), ALL, ties=ties)
        for other in (blocks, any_model):
            assert dict(other) == dict(first)
            assert other.intervals["mrr"] == first.intervals["mrr"]

    def test_lists(self, fitted):
        """The lists that `recommend` gives have the values of the model."""
        model, test, train = fitted
        asked = ["reciprocal_rank", "precision", "recall", "hit_rate", "ndcg", "map"]
        lists, _ = model.recommend(np.arange(30), k=20, exclude=train)
        result, ranked = evaluate_lists(lists, test, asked), evaluate(model, test, train, asked)
        assert dict(result) == dict(ranked)
        assert result.num_skipped == ranked.num_skipped == 30 - len(np.unique(test.user_ids))

    @pytest.mark.parametrize("dialect", ["spotlight", "lenskit"])
    def test_what_lists_hold(self, fitted, dialect):
        model, test, train = fitted
        lists, _ = model.recommend(np.arange(30), k=20, exclude=train)
        asked = ["coverage", "recall", "mean_popularity"]
        result = evaluate_lists(lists, test, asked, train=train, dialect=dialect)
        ranked = evaluate(model, test, train, asked, dialect=dialect)
        assert dict(result) == dict(ranked)
        assert list(result) == list(ranked)
        assert result.intervals["mean_popularity@5"] == ranked.intervals["mean_popularity@5"]
        nobody = Interactions([], [], num_users=30, num_items=50)
        assert np.isnan(evaluate_lists(lists, nobody, "coverage", 5)["coverage@5"])

    def test_coverage_and_popularity(self, fitted):
        model, test, train = fitted
        result = evaluate(model, test, train, ["coverage", "mean_popularity"], 7)
        lists, _ = model.recommend(result.users, k=7, exclude=train)
        assert result["coverage@7"] == len(np.unique(lists)) / 50
        counts = np.bincount(train.item_ids, minlength=50)
        np.testing.assert_allclose(result.per_user["mean_popularity@7"], counts[lists].mean(axis=1))
        assert "coverage@7" not in result.per_user
        assert np.isnan(result.intervals["coverage@7"]).all()

    def test_ratings(self, fitted):
        _, test, train = fitted
        model = ExplicitFactorizationModel(n_iter=2, random_state=0)
        model.fit(train)
        result = evaluate(model, test, train, ["rmse", "mae", "mrr"])
        assert result["rmse"] == pytest.approx(rmse_score(model, test), rel=1e-12)
        errors = test.ratings - model.predict(test.user_ids, test.item_ids)
        assert result["mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-6)
        user = result.users[2]
        assert result.per_user["rmse"][2] == pytest.approx(
            np.sqrt((errors[test.user_ids == user] ** 2).mean()), rel=1e-6
        )
        low, high = result.intervals["rmse"]
        assert low < result["rmse"] < high
        with pytest.raises(ValueError, match="test must hold ratings"):
            evaluate(model, Interactions([0], [1], num_items=50), None, "rmse")
        with pytest.raises(TypeError, match="test must be Interactions with ratings"):
            evaluate(model, test.tocsr(), None, "rmse")

    def test_sequences(self):
        rng = np.random.default_rng(0)
        test = SequenceInteractions(rng.integers(1, 20, (40, 6)), num_items=20)
        model = ImplicitSequenceModel(n_iter=1, embedding_dim=4, random_state=0)
        model.fit(test)
        result = evaluate(model, test, k=5, metrics=["mrr", "recall", "coverage"])
        np.testing.assert_array_equal(result.per_user["mrr"], sequence_mrr_score(model, test))
        assert result.num_evaluated == 40
        with pytest.warns(UserWarning, match="test items are excluded"):
            result = evaluate(model, test, exclude_preceding=True)
        np.testing.assert_array_equal(result.per_user["mrr"], sequence_mrr_score(model, test, exclude_preceding=True))
        for arguments in ({"train": test}, {"users": [1]}):
            with pytest.raises(TypeError, match=f"{next(iter(arguments))} must be None for sequences"):
                evaluate(model, test, **arguments)
        with pytest.raises(ValueError, match="metrics must not hold 'rmse' for sequences"):
            evaluate(model, test, metrics=["rmse"])


class TestUsers:
    def test_only_some(self, fitted):
        model, test, train = fitted
        whole = evaluate(model, test, train)
        for data in (test, test.tocsr()):
            some = evaluate(model, data, train, users=[9, 4, 2, 9])
            assert some.users.tolist() == [2, 9]
            assert (some.num_evaluated, some.num_skipped) == (2, 1)
            places = np.searchsorted(whole.users, [2, 9])
            for name, values in some.per_user.items():
                np.testing.assert_array_equal(values, whole.per_user[name][places])
        with pytest.raises(ValueError, match="users must be below the number of users in test = 30, got 30"):
            evaluate(model, test, users=[30])

    def test_nobody(self, fitted):
        result = evaluate(fitted[0], Interactions([], [], num_users=30, num_items=50), fitted[2], [*ALL, "mrr"])
        assert (result.num_evaluated, result.num_skipped) == (0, 30)
        assert all(np.isnan(value) for value in result.values())
        assert all(values.shape == (0,) for values in result.per_user.values())
        repr(result)

    def test_items_that_can_never_be_found(self):
        scores, test = np.array([[3.0, 2.0, 1.0]]), sp.csr_matrix([[1, 1, 0]])
        message = "1 of 2 test items are excluded, by train or as preceding items"
        with pytest.warns(UserWarning, match=message) as caught:
            result = evaluate(Table(scores), test, sp.csr_matrix([[1, 0, 0]]), ["recall", "auc"], 3)
        assert caught[0].filename == __file__
        assert result["recall@3"] == 0.5
        assert result["auc"] == 0.5  # above the one other item that is ranked; the lost one below it

    @pytest.mark.parametrize(
        "ask",
        [mrr_score, precision_recall_score, partial(evaluate, metrics="coverage"), partial(evaluate, metrics="mrr")],
    )
    @pytest.mark.parametrize("kind", ["predict", "vectors"])
    def test_every_score_warns_of_them_once(self, ask, kind, fitted):
        model, test, train = fitted
        model = Table([model.predict(user) for user in range(30)]) if kind == "predict" else model
        both = train.take(np.arange(len(train)) < 7)
        mixed = Interactions(
            np.append(test.user_ids, both.user_ids), np.append(test.item_ids, both.item_ids), num_users=30, num_items=50
        )
        with pytest.warns(UserWarning, match=f"7 of {len(mixed)} test items are excluded") as caught:
            ask(model, mixed, train)
        assert [each.filename for each in caught] == [__file__]
        ask(model, mixed)  # without any


class TestMemory:
    """Estimates and budgets; test_memory.py measures."""

    @pytest.mark.parametrize("any_model", [False, True])
    def test_a_budget_makes_blocks_smaller(self, fitted, any_model, monkeypatch):
        model, test, train = fitted
        model = Table([model.predict(user) for user in range(30)]) if any_model else model
        monkeypatch.setattr(memory, "OF_BOOTSTRAP", 0)
        need = estimate_memory(model, test, train, ALL)
        budget = int(0.8 * need)
        assert estimate_memory(model, test, train, ALL, memory_budget=budget) <= budget
        sizes = []
        blocks = UserBlocks.blocks
        monkeypatch.setattr(UserBlocks, "blocks", lambda self, size: sizes.append(size) or blocks(self, size))
        result = evaluate(model, test, train, ALL, memory_budget=budget)
        assert sizes[0] < len(result.users) == 29
        assert dict(result) == dict(evaluate(model, test, train, ALL))

    def test_sequences(self, monkeypatch):
        rng = np.random.default_rng(0)
        test = SequenceInteractions(rng.permuted(np.tile(np.arange(1, 20), (40, 1)), axis=1)[:, :6], num_items=20)
        model = ImplicitSequenceModel(representation="pooling", n_iter=1, embedding_dim=4, random_state=1)
        model.fit(test)
        monkeypatch.setattr(memory, "OF_BOOTSTRAP", 0)
        budget = int(0.8 * estimate_memory(model, test, exclude_preceding=True))
        assert estimate_memory(model, test, exclude_preceding=True, memory_budget=budget) <= budget
        sizes = []
        own_states = sequence_scoring.own_states
        monkeypatch.setattr(
            sequence_ranking, "own_states", lambda *arguments: sizes.append(arguments[4]) or own_states(*arguments)
        )
        result = evaluate(model, test, memory_budget=budget, exclude_preceding=True)
        assert sizes[0] < len(test) == 40
        assert dict(result) == dict(evaluate(model, test, exclude_preceding=True))

    def test_more_metrics_take_more(self, fitted):
        needs = [estimate_memory(*fitted, metrics) for metrics in ("mrr", ["mrr", "ndcg"], ["mrr", "ndcg", "rmse"])]
        assert needs == sorted(set(needs))

    def test_ratings_of_any_test_set(self, fitted):
        model, test, _ = fitted
        for function in (estimate_memory, partial(evaluate, memory_budget="1 GB")):
            with pytest.raises(TypeError, match="test must be Interactions with ratings, got csr_matrix"):
                function(model, sp.csr_matrix(test.tocsr()), metrics="rmse")

    def test_the_declared_number_of_items_counts(self):
        few, many = (Interactions([0, 1], [1, 2], num_items=num_items) for num_items in (3, 1_000_000))
        table = Table(np.zeros((2, 3)))
        needs = [estimate_memory(table, test, metrics="mrr") for test in (few, many)]
        assert needs[0] < 3 * 8 * 1_000_000 <= needs[1]

    def test_too_little(self, fitted):
        with pytest.raises(ValueError, match=r"memory_budget must be at least \d+ kB here, got '1 kB'"):
            evaluate(*fitted, memory_budget="1 kB")
        with pytest.raises(TypeError, match="memory_budget must be an integer"):
            evaluate(*fitted, memory_budget=1.5)


class TestResult:
    def test_one_item(self):
        """No other items: the AUC is not defined, and left out of the mean."""
        result = evaluate(Table([[1.0], [1.0]]), sp.csr_matrix([[1], [1]]), None, ["auc", "ndcg"], 3)
        assert np.isnan(result["auc"])
        assert result["ndcg@3"] == 1.0

    def test_mapping_and_dictionary(self, fitted):
        result = evaluate(*fitted, metrics=["mrr", "recall"], k=5, confidence=0.8)
        assert isinstance(result, Evaluation)
        assert list(result) == ["mrr", "recall@5"]
        plain = json.loads(json.dumps(result.to_dict()))
        assert plain["metrics"]["mrr"]["mean"] == result["mrr"] == result.per_user["mrr"].mean()
        assert plain["num_evaluated"] == result.num_evaluated == len(result.users)
        assert (plain["confidence"], plain["dialect"], plain["ties"]) == (0.8, "spotlight", None)

    def test_seeds(self, fitted):
        first, second, other = (evaluate(*fitted, metrics="mrr", seed=seed).intervals["mrr"] for seed in (0, 0, 1))
        assert first == second != other
        narrow, wide = (evaluate(*fitted, metrics="mrr", confidence=c).intervals["mrr"] for c in (0.5, 0.99))
        assert wide[0] < narrow[0] < narrow[1] < wide[1]

    def test_verbose(self, fitted, capsys):
        evaluate(*fitted, metrics="mrr", verbose=True)
        assert "Evaluating" in capsys.readouterr().err


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"metrics": ["mrr", "mpr"]}, ValueError, r"metrics must be one of 'mrr', .*, got 'mpr'"),
            ({"metrics": []}, ValueError, "metrics must name at least one of 'mrr'"),
            ({"metrics": None}, TypeError, "metrics must be a name or several, of 'mrr', .*, got None"),
            ({"k": 0}, ValueError, "k must be an integer of at least 1, got 0"),
            ({"k": 1.5}, TypeError, "k must be an integer"),
            ({"k": []}, ValueError, "k must be an integer or a sequence of at least one"),
            ({"k": [[1]]}, ValueError, "k must be an integer or a sequence"),
            ({"dialect": "trec"}, ValueError, "dialect must be one of 'spotlight'"),
            ({"ties": "best"}, ValueError, r"ties must be one of 'average', .*, got 'best'"),
            ({"confidence": 1.0}, ValueError, "confidence must lie between 0 and 1, both excluded, got 1.0"),
            ({"confidence": "0.9"}, TypeError, "confidence must be a finite number"),
            ({"seed": -1}, ValueError, "seed must be an integer of at least 0, got -1"),
            ({"users": [-1]}, ValueError, "users must not be negative"),
            ({"metrics": "mean_popularity"}, ValueError, "train is needed for 'mean_popularity', got None"),
        ],
    )
    def test_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            evaluate(Table(np.eye(3)), sp.csr_matrix(np.eye(3)), **arguments)

    def test_nan_names_the_user(self, fitted):
        scores = np.eye(3)
        scores[1, 2] = np.nan
        with pytest.raises(ValueError, match="the prediction of user 1 for item 2 is NaN"):
            evaluate(Table(scores), sp.csr_matrix(np.eye(3)))
        test = fitted[1]
        broken = ImplicitFactorizationModel(loss="bpr", n_iter=1, random_state=1)
        broken.fit(test)
        with torch.no_grad():
            broken._net.user_biases.weight[7] = np.nan
        with pytest.raises(ValueError, match="the prediction of user 7 for item 0 is NaN"):
            evaluate(broken, test)

    def test_models_and_test_sets(self, fitted):
        sequences = SequenceInteractions([[1, 2]])
        with pytest.raises(TypeError, match="model must be one of sequences"):
            evaluate(fitted[0], sequences)
        with pytest.raises(TypeError, match="test must be Interactions or a scipy sparse matrix, got list"):
            evaluate(fitted[0], [[1]])
        with pytest.raises(TypeError, match=r"predict\(user\), or user_vectors\(\) .*, got int"):
            evaluate(3, sp.csr_matrix(np.eye(3)))

    def test_preceding_items_are_those_of_sequences(self, fitted):
        model, test, train = fitted
        with pytest.raises(TypeError, match="exclude_preceding must be False for users, who have no sequences"):
            evaluate(model, test, train, exclude_preceding=True)
        with pytest.raises(TypeError, match="exclude_preceding must be True or False, got 'x' of type str"):
            evaluate(model, test, train, exclude_preceding="x")

    def test_a_name_without_its_cutoff(self, fitted):
        model, test, train = fitted
        with pytest.raises(KeyError, match="'ndcg' is none of mrr, ndcg@2, ndcg@3"):
            evaluate(model, test, train, ["mrr", "ndcg"], k=(2, 3))["ndcg"]


class TestBadLists:
    test = sp.csr_matrix(np.eye(3))

    @pytest.mark.parametrize(
        ("lists", "arguments", "error", "message"),
        [
            ([1, 2], {}, ValueError, r"lists must be of shape \(U, K\), got \(2,\)"),
            ([[1, 2]], {"k": 3}, ValueError, "k must be at most 2, the length of the lists, got 3"),
            ([[1, -2]], {}, ValueError, "lists must hold ids of at least 0, or -1 for none, got -2"),
            ([[0.5]], {}, ValueError, "lists must hold whole numbers"),
            ([[1], [3]], {}, ValueError, "lists must hold items below num_items = 3, .* got 3"),
            ([[1], [7]], {"num_items": 7}, ValueError, "lists must hold items below num_items = 7, .* got 7"),
            ([[1]], {"num_items": 2}, ValueError, "test must hold items below num_items = 2, .* got 2"),
            ([[1]], {"metrics": "mean_popularity"}, ValueError, "train is needed for 'mean_popularity', got None"),
            ([[0, 0]], {}, ValueError, "lists must not repeat an item, got 0 twice for user 0"),
            ([[0]] * 4, {}, ValueError, "lists must be at most as many as test has users, 3, got 4"),
            ([[0]], {"users": [3]}, ValueError, "users must be below the number of users in test = 3, got 3"),
            ([[0]], {"users": [0, 1]}, ValueError, r"users must have one value per list \(1\), got 2"),
            ([[0], [1]], {"users": [1, 1]}, ValueError, "users must be different, got 1 more than once"),
            ([[0]], {"metrics": "mrr"}, ValueError, "metrics must be of the best k items, got 'mrr'"),
        ],
    )
    def test_arguments(self, lists, arguments, error, message):
        k = arguments.pop("k", 1)
        with pytest.raises(error, match=message):
            evaluate_lists(lists, self.test, k=k, **arguments)

    @pytest.mark.parametrize(("length", "cutoffs"), [(1, [1]), (4, [4]), (5, [5]), (12, [5, 10]), (30, [5, 10, 20])])
    def test_cutoffs_are_by_default_what_lists_have(self, length, cutoffs):
        lists = np.full((1, length), -1)
        assert list(evaluate_lists(lists, self.test, "recall")) == [f"recall@{cut}" for cut in cutoffs]

    @pytest.mark.parametrize("backend", ["auto", "reference"])
    def test_backends(self, backend, monkeypatch):
        monkeypatch.setenv("SPOTFAST_BACKEND", backend)
        result = evaluate_lists([[2, 1, 0], [1, -1, -1]], self.test, ["recall", "reciprocal_rank"], 3, users=[0, 1])
        assert result.per_user["reciprocal_rank@3"].tolist() == [1 / 3, 1.0]
        with pytest.raises(ValueError, match="got 2 twice for user 2"):
            evaluate_lists([[2, 1, 2]], self.test, "recall", 3, users=[2])
