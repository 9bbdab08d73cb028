"""Models of anyone's that expose vectors, and perhaps biases: as good as predictions, and refused where wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.evaluation import (
    estimate_memory,
    evaluate,
    memory,
    mrr_score,
    precision_recall_score,
    rmse_score,
    sequence_mrr_score,
    sources,
)
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.recommendation import estimate_memory as memory_of_recommend
from spotfast.recommendation import iter_recommend, recommend
from spotfast.vector_tables import VectorTables

USERS, ITEMS, DIM = 20, 30, 4


class Vectors:
    """No `predict`."""

    def __init__(self, *tables, biases=True):
        self.users, self.items, self.of_users, self.of_items = tables
        if biases:
            self.user_biases, self.item_biases = lambda: self.of_users, lambda: self.of_items

    def user_vectors(self):
        return self.users

    def item_vectors(self):
        return self.items


class Predicting:
    """The same scores, in another way."""

    def __init__(self, scores):
        self.scores = scores

    def predict(self, users, items=None):
        return self.scores[users] if items is None else self.scores[users, items]


def tables():
    rng = np.random.default_rng(0)
    shapes = (USERS, DIM), (ITEMS, DIM), (USERS,), (ITEMS,)
    return [rng.integers(-9, 9, shape).astype(np.float32) / 4 for shape in shapes]  # sums are exact; some are equal


def data():
    rng = np.random.default_rng(1)
    keys = rng.permutation(USERS * ITEMS)[:200]
    ratings = rng.integers(1, 6, 200).astype(np.float32)
    whole = Interactions(keys // ITEMS, keys % ITEMS, ratings=ratings, num_users=USERS, num_items=ITEMS)
    return whole.take(np.arange(200) < 60), whole.take(np.arange(200) >= 60)


def predicting(users, items, of_users=0.0, of_items=0.0):
    return Predicting((users @ items.T + np.reshape(of_users, (-1, 1)) + of_items).astype(np.float32))


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("biases", [True, False])
def test_as_the_same_predictions(biases, backend, monkeypatch):
    monkeypatch.setenv("SPOTFAST_BACKEND", backend)
    test, train = data()
    arrays = tables()
    model, other = Vectors(*arrays, biases=biases), predicting(*(arrays if biases else arrays[:2]))
    np.testing.assert_array_equal(mrr_score(model, test, train), mrr_score(other, test, train))
    for found, expected in zip(
        precision_recall_score(model, test, train), precision_recall_score(other, test, train), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    metrics = ["mrr", "auc", "ndcg", "map", "coverage", "mean_popularity", "rmse", "mae"]
    assert dict(evaluate(model, test, train, metrics)) == dict(evaluate(other, test, train, metrics))
    assert rmse_score(model, test) == rmse_score(other, test)
    for found, expected in zip(
        recommend(model, np.arange(USERS), 5, train), recommend(other, np.arange(USERS), 5, train), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    (_, ids, _), *_ = iter_recommend(model, np.arange(USERS), 5, train)
    np.testing.assert_array_equal(ids, recommend(other, np.arange(USERS), 5, train)[0])


def test_kinds_of_arrays():
    """Tensors with gradients, other dtypes and strides, lists, biases as columns; what is fine is not copied."""
    arrays = tables()
    test, train = data()
    expected = mrr_score(Vectors(*arrays), test, train)
    read_only = arrays[0].copy()
    read_only.flags.writeable = False
    for kinds in (
        [torch.nn.Parameter(torch.from_numpy(table)) for table in arrays],
        [table.astype(np.float64) for table in arrays],
        [np.asfortranarray(table) for table in arrays],
        [table[::-1].copy()[::-1] for table in arrays],
        [table.tolist() for table in arrays],
        [torch.from_numpy(table).to(torch.bfloat16) for table in arrays],
        [*arrays[:2], arrays[2][:, np.newaxis], torch.from_numpy(arrays[3]).unsqueeze(1)],
        [read_only, *arrays[1:]],
    ):
        np.testing.assert_array_equal(mrr_score(Vectors(*kinds), test, train), expected)
    assert VectorTables.of_model(Vectors(*arrays)).num_bytes == 0
    assert VectorTables.of_model(Vectors(*map(torch.from_numpy, arrays))).num_bytes == 0
    copied = VectorTables.of_model(Vectors(arrays[0].astype(np.float64), *arrays[1:]))
    assert copied.num_bytes == arrays[0].nbytes


def test_no_biases_for_once():
    users, items, _, of_items = tables()
    test, _ = data()
    np.testing.assert_array_equal(
        mrr_score(Vectors(users, items, None, of_items), test), mrr_score(predicting(users, items, 0, of_items), test)
    )


def test_vectors_come_before_predictions():
    """As in `recommend`; ratings are predicted, where there is a way to."""

    class Both(Vectors):
        def predict(self, users, items):
            return np.zeros(len(users), np.float32)

    test, _ = data()
    np.testing.assert_array_equal(mrr_score(Both(*tables()), test), mrr_score(Vectors(*tables()), test))
    assert rmse_score(Both(*tables()), test) == pytest.approx(np.sqrt((test.ratings.astype(float) ** 2).mean()))


def test_infinities_and_nan():
    test, _ = data()
    for value in (np.inf, -np.inf):
        arrays = tables()
        arrays[3][4] = value
        np.testing.assert_array_equal(mrr_score(Vectors(*arrays), test), mrr_score(predicting(*arrays), test))
    arrays[2][7] = np.nan
    with pytest.raises(ValueError, match="the prediction of user 7 for item 0 is NaN"):
        mrr_score(Vectors(*arrays), test)
    with pytest.raises(ValueError, match="the prediction of user 7 for item 0 is NaN"):
        recommend(Vectors(*arrays), [6, 7])


def test_many_users(monkeypatch):
    """In blocks, by rows of scores."""
    test, train = data()
    expected = mrr_score(Vectors(*tables()), test, train)
    monkeypatch.setattr(sources.ExposedVectors, "by_vectors", False)
    monkeypatch.setattr("spotfast.evaluation.scoring.BLOCK_BYTES", 3 * 4 * ITEMS)
    np.testing.assert_array_equal(mrr_score(Vectors(*tables()), test, train), expected)


def test_memory_of_copies_is_counted(monkeypatch):
    monkeypatch.setattr(memory, "OF_BOOTSTRAP", 0)
    test, train = data()
    wide = [np.ones((USERS, 1000)), np.ones((ITEMS, 1000))]
    for estimate in (
        lambda model: estimate_memory(model, test, train, "mrr"),
        lambda model: memory_of_recommend(model, [0], 5),
    ):
        plain = estimate(Vectors(*(table.astype(np.float32) for table in wide), None, None))
        assert estimate(Vectors(*wide, None, None)) == plain + 4 * 1000 * (USERS + ITEMS)


@pytest.mark.parametrize("ask", [mrr_score, evaluate, estimate_memory, lambda model, test: recommend(model, 0)])
@pytest.mark.parametrize(
    ("place", "value", "error", "message"),
    [
        (0, np.zeros(3), ValueError, r"user_vectors\(\) must return an array of shape \(N, D\), got shape \(3,\)"),
        (1, np.zeros((2, 3, 4)), ValueError, r"item_vectors\(\) must return .* \(N, D\), got shape \(2, 3, 4\)"),
        (1, np.zeros((0, DIM)), ValueError, r"item_vectors\(\) must return at least one vector .* got \(0, 4\)"),
        (1, np.zeros((ITEMS, 3)), ValueError, r"item_vectors\(\) must .* dimension of user_vectors\(\), 4, got 3"),
        (0, [[1.0], [1.0, 2.0]], ValueError, r"user_vectors\(\) must be a rectangular array"),
        (0, np.full((USERS, DIM), "a"), TypeError, r"user_vectors\(\) must return real numbers, got dtype <U1"),
        (1, torch.ones(ITEMS, DIM) * 1j, TypeError, r"item_vectors\(\) must return real numbers, got dtype torch.comp"),
        (2, np.zeros(3), ValueError, r"user_biases\(\) must return an array of shape \(20,\), .* got shape \(3,\)"),
        (3, np.zeros((1, ITEMS)), ValueError, r"item_biases\(\) must return an array of shape \(30,\)"),
    ],
)
def test_wrong_tables(ask, place, value, error, message):
    arrays = tables()
    arrays[place] = value
    with pytest.raises(error, match=message):
        ask(Vectors(*arrays), data()[0])


def test_wrong_users_items_and_uses():
    model = Vectors(*tables())
    beyond = Interactions([USERS], [0], num_items=ITEMS)
    with pytest.raises(ValueError, match="test must hold users below 20, the size of the model, got 20"):
        mrr_score(model, beyond)
    with pytest.raises(ValueError, match="test must hold items below 30, which the model predicts, got 30"):
        evaluate(model, Interactions([0], [ITEMS]))
    rated = Interactions([USERS], [0], ratings=np.ones(1, np.float32), num_items=ITEMS)
    with pytest.raises(ValueError, match="user_ids must be below the number of user_vectors = 20, got 20"):
        rmse_score(model, rated)
    with pytest.raises(TypeError, match=r"model must have a method predict\(sequence\), got Vectors"):
        sequence_mrr_score(model, SequenceInteractions([[1, 2]]))
    half = type("Half", (), {"user_vectors": lambda self: np.ones((2, 2))})()
    with pytest.raises(TypeError, match=r"predict\(user\), or user_vectors\(\) and item_vectors\(\), got Half"):
        mrr_score(half, data()[0])
