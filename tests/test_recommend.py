"""Recommendations of any model, ours or not: what is refused, what is left as it was, how much memory is used."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from models_to_ask import DIM, ITEMS, USERS, K, by_sorting, implicit, interactions, same, sequential

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.recommendation import estimate_memory, iter_recommend, recommend
from spotfast.sequence.implicit import ImplicitSequenceModel


class Vectors:
    """No model of ours, but it has vectors."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        self.tables = rng.normal(size=(USERS, DIM)), rng.normal(size=(ITEMS, DIM)).astype(np.float32)

    def user_vectors(self):
        return self.tables[0]

    def item_vectors(self):
        return torch.from_numpy(self.tables[1])


class Predictor:
    """Nor this one: it only predicts, always into the same array."""

    def __init__(self, dtype):
        self.table = np.random.default_rng(0).normal(size=(USERS, ITEMS)).astype(dtype)
        self.row = np.empty(ITEMS, dtype)

    def predict(self, user):
        assert type(user) is int
        self.row[:] = self.table[user]
        return self.row if user % 2 else self.row.tolist() if self.row.dtype == np.float64 else self.row


class TestOtherModels:
    users = np.array([7, 0, 7, 31])

    def check(self, model, scores):
        exclude = interactions()
        mask = exclude.tocsr().toarray()[self.users] > 0
        ids, best = by_sorting(scores, K, mask)
        same(recommend(model, self.users, K, exclude), (ids, best))
        same(recommend(model, 7, K, exclude), (ids[0], best[0]))

    def test_with_vectors(self):
        from spotfast.ops.scores import scores

        model = Vectors()
        users = torch.from_numpy(model.tables[0][self.users]).float()
        self.check(model, scores(users, None, model.item_vectors(), None).numpy())

    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
    def test_that_predict(self, dtype):
        model = Predictor(dtype)
        self.check(model, model.table[self.users].astype(np.float32))

    def test_an_own_predict_is_respected(self):
        class Reversed(ImplicitFactorizationModel):
            def predict(self, user_ids, item_ids=None):
                return -super().predict(user_ids, item_ids)

        model = Reversed(n_iter=0, random_state=0)
        model.fit(interactions())
        same(model.recommend([3, 4], K), by_sorting(model.predict([3, 4]), K))

        class Popular(ImplicitSequenceModel):
            def predict(self, sequences, item_ids=None):
                assert np.shape(sequences) == (3,)
                return np.arange(ITEMS, dtype=np.float32)

        model = Popular(n_iter=0, random_state=0)
        model.fit(SequenceInteractions([[1, 2, 3]], num_items=ITEMS))
        assert model.recommend([[1, 2, 59], [2, 3, 4]], 2, "seen")[0].tolist() == [[58, 57], [59, 58]]

    @pytest.mark.parametrize(
        ("model", "users", "error", "message"),
        [
            (object(), 0, TypeError, r"model must have a method predict\(user\), or user_vectors.* got object"),
            (Vectors(), USERS, ValueError, "user_ids must be below the number of user_vectors = 40, got 40"),
            (Vectors(), [], ValueError, "user_ids must not be empty"),
            (Vectors(), [[1]], ValueError, "user_ids must be 1-D"),
        ],
    )
    def test_wrong_arguments(self, model, users, error, message):
        with pytest.raises(error, match=message):
            recommend(model, users)

    def test_wrong_tables_and_predictions(self):
        model = Vectors()
        model.tables = np.zeros(3), np.zeros((2, 2), np.float32)
        with pytest.raises(ValueError, match=r"user_vectors\(\) must return an array of shape \(N, D\), got shape"):
            recommend(model, 0)
        for rows in ([np.zeros((2, 3))] * 2, [np.zeros(0)] * 2, [np.zeros(3), np.zeros(4)]):
            predictor = type("Predictor", (), {"predict": lambda self, user, rows=rows: rows[user]})()
            with pytest.raises(ValueError, match="model must predict an array of shape"):
                recommend(predictor, [0, 1])


class TestWrongArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"user_ids": USERS}, ValueError, "user_ids must be below num_users = 40, got 40"),
            ({"user_ids": [0, -1]}, ValueError, "user_ids must not be negative, got -1 at position 1"),
            ({"user_ids": []}, ValueError, "user_ids must not be empty"),
            ({"user_ids": [0.5]}, ValueError, "user_ids must hold whole numbers"),
            ({"user_ids": "bob"}, TypeError, "user_ids must hold integers"),
            ({"user_ids": [True]}, TypeError, "user_ids must hold integers"),
            ({"k": 0}, ValueError, "k must be an integer of at least 1, got 0"),
            ({"k": 2.0}, TypeError, "k must be an integer of at least 1, got 2.0"),
            ({"item_ids": [ITEMS]}, ValueError, "item_ids must be below num_items = 60, got 60"),
            ({"item_ids": []}, ValueError, "item_ids must hold at least one item"),
            ({"item_ids": ["tea"]}, TypeError, "item_ids must hold integers"),
            ({"exclude": "seen"}, TypeError, "exclude must be None, Interactions, a scipy sparse matrix or a sequence"),
            ({"exclude": 3}, TypeError, "exclude must be None, Interactions, a scipy sparse matrix or a sequence"),
            ({"exclude": [[1], [2]]}, ValueError, "exclude must hold one array for each of the 3 .* got 2"),
            ({"exclude": [[1], [2], [ITEMS]]}, ValueError, r"exclude\[2\] must be below num_items = 60, got 60"),
            ({"exclude": [[1], [2], ["a"]]}, TypeError, r"exclude\[2\] must hold integers"),
            ({"exclude": [1, 2, 3]}, ValueError, r"exclude\[0\] must be 1-D"),
            ({"exclude": sp.csr_matrix((4, ITEMS))}, ValueError, "exclude must have a row for every user, up to 4"),
            ({"exclude": Interactions([0], [1])}, ValueError, "exclude must have a row for every user, up to 4, got 1"),
            ({"exclude": sp.csr_matrix(np.eye(USERS, 90, 55))}, ValueError, "exclude must hold items below .* = 60"),
            ({"memory_budget": "12 parsecs"}, ValueError, "memory_budget must be bytes, or a number and one of B, kB"),
            ({"memory_budget": 0}, ValueError, "memory_budget must be an integer of at least 1, got 0"),
            ({"memory_budget": 1.5}, TypeError, "memory_budget must be an integer"),
            ({"memory_budget": 100}, ValueError, r"memory_budget must be at least \d+ .*iter_recommend needs less"),
        ],
    )
    def test_of_users(self, arguments, error, message):
        with pytest.raises(error, match=message):
            implicit().recommend(**{"user_ids": [0, 4, 2], **arguments})

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"sequences": [1, ITEMS]}, ValueError, "sequences must be below num_items = 60, got 60"),
            ({"sequences": [[[1]]]}, ValueError, "sequences must be of shape"),
            ({"sequences": []}, ValueError, "sequences must be of shape"),
            ({"exclude": "heard"}, TypeError, "exclude must be None, 'seen' or a sequence of arrays, got 'heard'"),
            ({"exclude": interactions()}, TypeError, "exclude must be None, 'seen' or a sequence of arrays, got"),
        ],
    )
    def test_of_sequences(self, arguments, error, message):
        with pytest.raises(error, match=message):
            sequential("pooling").recommend(**{"sequences": [1, 2], **arguments})

    def test_a_model_that_has_not_been_fitted(self):
        for model, asked in ((ImplicitFactorizationModel(), 0), (ImplicitSequenceModel(), [1])):
            with pytest.raises(ValueError, match="the model has not been fitted"):
                model.recommend(asked)

    def test_an_iterator_complains_at_once(self):
        with pytest.raises(ValueError, match="k must be"):
            iter_recommend(implicit(), 0, k=0)


def test_nothing_that_was_passed_in_changes():
    model, users, train = implicit(), np.array([4, 1, 4]), interactions()
    matrix = train.tocsr()
    matrix.indices = matrix.indices[::-1].copy()  # not sorted within rows
    before = {name: value.clone() for name, value in model._net.state_dict().items()}
    kept = users.copy(), matrix.indices.copy(), train.item_ids.copy()
    model.recommend(users, 3, matrix)
    model.recommend(users, 3, train)
    same((users, matrix.indices, train.item_ids), kept)
    assert all(torch.equal(before[name], value) for name, value in model._net.state_dict().items())


def test_without_the_extension(monkeypatch):
    models = [implicit(), sequential("pooling"), Vectors()]
    asked = [[3, 4], [[3, 4], [7, 1]], [3, 4]]
    before = [recommend(model, some, K) for model, some in zip(models, asked, strict=True)]
    similar = models[0].similar_items([3, 4])
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
    for model, some, expected in zip(models, asked, before, strict=True):
        same(recommend(model, some, K), expected)
    same(models[0].similar_items([3, 4]), similar)


def test_a_progress_bar_on_standard_error(capsys):
    model = implicit()
    model.recommend([0, 1], verbose=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "Recommending" in err
    model.recommend([0, 1])
    assert capsys.readouterr().err == ""


def test_rows_of_our_scores_take_half_of_anyones():
    """They are float32: single rows, a block of them and the candidates' columns, for three users with a link."""
    data = Interactions(np.arange(5), np.arange(5), ratings=np.arange(5.0), num_items=1000)
    model = ExplicitFactorizationModel("poisson", n_iter=0)
    model.fit(data)
    anyones = SimpleNamespace(predict=model.predict)
    own, other = (estimate_memory(each, [0, 1, 2], 5) for each in (model, anyones))
    assert other - own == 3 * 3 * 4 * 1000


def test_a_budget_makes_blocks_smaller():
    model, users = implicit(), np.arange(USERS)
    need = estimate_memory(model, users, 50)
    assert need > USERS * 50 * 12
    assert len(list(iter_recommend(model, users, 50))) == 1
    sizes = [len(some) for some, _, _ in iter_recommend(model, users, 50, memory_budget=need // 3)]
    assert len(sizes) > 1
    assert sum(sizes) == USERS
    budget = int(0.8 * need)
    assert estimate_memory(model, users, 50, memory_budget=budget) <= budget
    same(model.recommend(users, 50, memory_budget=budget), model.recommend(users, 50))
