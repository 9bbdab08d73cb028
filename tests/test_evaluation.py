"""Scores of models: Spotlight's own values, a naive count, every shape of k, and models of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotfast.evaluation import mrr_score, precision_recall_score, ranking, scoring, sources
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

FORMATS = ["coo_matrix", "csr_matrix", "csc_matrix", "lil_matrix", "dok_matrix", "coo_array", "csr_array"]

# Test items among the training items are legal, as in Spotlight; test_evaluate.py has the test of the warning.
pytestmark = pytest.mark.filterwarnings("ignore:.* test items are excluded")


class Table:
    """No spotfast model: predicts rows of a table."""

    def __init__(self, scores):
        self.scores = scores

    def predict(self, user):
        assert type(user) is int
        return self.scores[user]


def pairs(golden, case, part):
    return Interactions(
        golden[f"evaluation/{case}/{part}_users"], golden[f"evaluation/{case}/{part}_items"], num_users=12, num_items=40
    )


def naive(scores, test, train, k):
    """MRR, precision and recall of each user with test items, by counting. `test` and `train` are masks."""
    found = []
    for row, wanted, out in zip(scores, test, train, strict=True):
        if not wanted.any():
            continue
        moved = np.where(out, -np.inf, row)
        keys = [(not gone, score) for gone, score in zip(out, moved, strict=True)]  # excluded behind -inf, too
        ranks = [sum(o > own for o in keys) + (sum(o == own for o in keys) + 1) / 2 for own in keys]
        left = sorted(np.flatnonzero(~out), key=lambda item, row=row: -row[item])[:k]
        hits = wanted[left].sum() if left else 0
        found.append(
            (np.mean([1 / ranks[i] for i in np.flatnonzero(wanted)]), hits / min(k, len(row)), hits / wanted.sum())
        )
    return np.array(found).reshape(-1, 3).T


class TestGolden:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("case", ["ties", "distinct"])
    def test_mrr(self, golden, case, dtype):
        model = Table(golden[f"evaluation/{case}/scores"].astype(dtype))
        test, train = pairs(golden, case, "test"), pairs(golden, case, "train")
        for key, result in (("mrr", mrr_score(model, test)), ("mrr_train", mrr_score(model, test, train))):
            assert result.dtype == np.float64
            np.testing.assert_allclose(result, golden[f"evaluation/{case}/{key}"], rtol=1e-15)

    @pytest.mark.parametrize("k", [1, 5, [1, 3, 10]])
    def test_precision_and_recall(self, golden, k):
        model = Table(golden["evaluation/distinct/scores"])
        result = precision_recall_score(model, pairs(golden, "distinct", "test"), pairs(golden, "distinct", "train"), k)
        for name, values in zip(("precision", "recall"), result, strict=True):
            np.testing.assert_allclose(values, golden[f"evaluation/distinct/{name}-{k}"], rtol=1e-15)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_naive_counts(data):
    """Tied and infinite scores, test items among the training items, users without test items, any k."""
    users, items = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = rng.choice([-np.inf, -1.0, 0.0, 1.0, 2.0, np.inf], (users, items))
    test, train = rng.random((users, items)) < 0.3, rng.random((users, items)) < 0.3
    k = data.draw(st.integers(1, 12))
    expected = naive(scores, test, train, k)
    matrices = sp.coo_matrix(test), sp.csr_matrix(train)
    actual = mrr_score(Table(scores), *matrices), *precision_recall_score(Table(scores), *matrices, k=k)
    np.testing.assert_allclose(actual, expected, rtol=1e-14)


def test_many_users_are_scored_in_blocks(monkeypatch):
    """The blocks leave no trace; the last one is shorter."""
    rng = np.random.default_rng(0)
    scores, test = rng.normal(size=(23, 10)), sp.csr_matrix(rng.random((23, 10)) < 0.4)
    whole = mrr_score(Table(scores), test), *precision_recall_score(Table(scores), test, k=3)
    monkeypatch.setattr(scoring, "BLOCK_BYTES", 5 * scores[0].nbytes)
    blocks = list(sources.score_blocks(sources.source_of(Table(scores)), np.arange(23), 8))
    assert [len(block) for block, _ in blocks] == [5, 5, 5, 5, 3]
    parts = mrr_score(Table(scores), test), *precision_recall_score(Table(scores), test, k=3)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("ranked_from", ["vectors", "rows"])
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_own_models_as_any_model(loss, ranked_from, monkeypatch):
    """Blocks of users give what `predict` gives, user by user, from vectors as from rows of scores."""
    if ranked_from == "rows":
        monkeypatch.setattr(sources.OwnModel, "by_vectors", False)
    rng = np.random.default_rng(0)
    data, train = (
        Interactions(rng.integers(0, 9, 80), rng.integers(0, 20, 80), num_users=9, num_items=20) for _ in range(2)
    )
    model = ImplicitFactorizationModel(loss=loss, n_iter=1, embedding_dim=3, random_state=1)
    model.fit(data)
    table = Table(np.stack([model.predict(user) for user in range(9)]))
    monkeypatch.setattr(scoring, "BLOCK_BYTES", 4 * 4 * 20)
    monkeypatch.setattr(ranking, "USERS_AT_ONCE", 4)
    for score in (mrr_score, precision_recall_score):
        np.testing.assert_array_equal(score(model, data), score(table, data))
        np.testing.assert_array_equal(score(model, data, train), score(table, data, train))
    with pytest.raises(ValueError, match="test must hold users below 9, the size of the model, got 9"):
        mrr_score(model, Interactions([9], [0], num_items=20))


def test_own_models_with_infinities_and_nan():
    """Vectors that do not bound their scores are ranked by rows: infinities as any model's, NaN with its user."""
    rng = np.random.default_rng(0)
    data = Interactions(rng.integers(0, 9, 80), rng.integers(0, 20, 80), num_users=9, num_items=20)
    model = ImplicitFactorizationModel(loss="bpr", n_iter=1, random_state=1)
    model.fit(data)
    with torch.no_grad():
        model._net.item_biases.weight[3] = np.inf
        model._net.item_biases.weight[4] = -np.inf
    table = Table(np.stack([model.predict(user) for user in range(9)]))
    for score in (mrr_score, precision_recall_score):
        np.testing.assert_array_equal(score(model, data), score(table, data))
    with torch.no_grad():
        model._net.user_biases.weight[2] = np.nan
    for score in (mrr_score, precision_recall_score):
        with pytest.raises(ValueError, match="the prediction of user 2 for item 0 is NaN"):
            score(model, data)


ROW = np.array([[3.0, 2.0, 1.0, 0.0]])  # ranks 1, 2, 3, 4


class TestRanking:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int64, list])
    def test_kinds_of_predictions(self, dtype):
        predictions = ROW.tolist() if dtype is list else ROW.astype(dtype)
        assert mrr_score(Table(predictions), sp.csr_matrix([[0, 1, 0, 0]])).tolist() == [0.5]

    def test_float64_is_not_rounded(self):
        scores = np.array([[1.0, 1.0 + 1e-12]])
        assert mrr_score(Table(scores), sp.csr_matrix([[1, 0]])).tolist() == [0.5]

    def test_constant_scorer(self):
        test = Interactions([0, 0, 1], [0, 3, 2], num_users=3, num_items=4)
        model = Table(np.zeros((3, 4)))
        assert mrr_score(model, test).tolist() == [0.4, 0.4]  # rank 2.5
        precision, recall = precision_recall_score(model, test, k=2)  # the lower ids
        assert precision.tolist() == [0.5, 0.0]
        assert recall.tolist() == [0.5, 0.0]

    def test_test_items_among_training_items(self):
        test, train = sp.csr_matrix([[1, 0, 0, 1]]), sp.csr_matrix([[1, 1, 0, 0]])
        assert mrr_score(Table(ROW), test, train).tolist() == [(1 / 3.5 + 1 / 2) / 2]
        assert precision_recall_score(Table(ROW), test, train, k=2) == (np.array([0.5]), np.array([0.5]))

    @pytest.mark.parametrize("k", [2, 3, 4, 50])
    def test_k_beyond_the_items_left(self, k):
        """The list is cut: training items are no recommendations. Precision still divides by min(k, items)."""
        test, train = sp.csr_matrix([[1, 0, 1, 0]]), sp.csr_matrix([[1, 1, 0, 0]])
        assert precision_recall_score(Table(ROW), test, train, k=k) == (np.array([1 / min(k, 4)]), np.array([0.5]))
        everything = sp.csr_matrix(np.ones((1, 4)))
        assert precision_recall_score(Table(ROW), test, everything, k=k) == (np.array([0]), np.array([0]))

    @pytest.mark.parametrize("make", [list, tuple, np.array, lambda k: np.array(k, np.uint8)])
    def test_several_k(self, make):
        test = sp.csr_matrix([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]])
        precision, recall = precision_recall_score(Table(np.tile(ROW, (3, 1))), test, k=make([4, 1, 2, 1]))
        assert precision.tolist() == [[0.5, 0.0, 0.5, 0.0], [0.25, 1.0, 0.5, 1.0]]
        assert recall.tolist() == [[1.0, 0.0, 0.5, 0.0], [1.0, 1.0, 1.0, 1.0]]

    @pytest.mark.parametrize(("k", "shape"), [(10, (1,)), (np.int64(1), (1,)), ([10], (1, 1)), ([1, 1], (1, 2))])
    def test_shapes_of_one_user(self, k, shape):
        for part in precision_recall_score(Table(ROW), sp.csr_matrix([[0, 1, 0, 0]]), k=k):
            assert part.shape == shape
            assert part.dtype == np.float64

    @pytest.mark.parametrize(("k", "shape"), [(10, (0,)), ([1, 2], (0, 2))])
    def test_nobody_has_test_items(self, k, shape):
        empty = Interactions([], [], num_users=3, num_items=4)
        assert mrr_score(Table(ROW), empty).shape == (0,)
        for part in precision_recall_score(Table(ROW), empty, k=k):
            assert part.shape == shape

    @pytest.mark.parametrize("name", FORMATS)
    def test_scipy(self, name):
        """Entries count, values do not: even stored zeros, and repeated ones once."""
        model, values = Table(np.tile(ROW, (2, 1))), [1.0, 2.0, 3.0, 4.0]
        matrix = getattr(sp, name)(sp.coo_matrix((values, ([0, 0, 0, 1], [1, 1, 3, 0])), shape=(2, 4)))
        assert mrr_score(model, matrix).tolist() == [(1 / 2 + 1 / 4) / 2, 1.0]
        stored_zeros = sp.coo_matrix(([0, 1, -1], ([0, 1, 1], [1, 0, 0])), shape=(2, 4))
        assert mrr_score(model, stored_zeros).tolist() == [0.5, 1.0]

    def test_unsorted_rows(self):
        """Sorted, and rid of repetitions, in a copy."""
        indices = np.array([3, 1, 1, 0])
        matrix = sp.csr_matrix((np.ones(4), indices.copy(), [0, 3, 4]), shape=(2, 4))
        assert mrr_score(Table(np.tile(ROW, (2, 1))), matrix).tolist() == [(1 / 2 + 1 / 4) / 2, 1.0]
        np.testing.assert_array_equal(matrix.indices, indices)


INFINITE = np.array([[0.0, np.inf, -np.inf, 1.0], [3e38, 3e38, 3e38, -3e38]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_and_huge_scores_are_scores(dtype):
    """Also where a row's sum is not a number, or too large for one."""
    test = sp.csr_matrix([[0, 1, 1, 0], [0, 0, 0, 1]])
    assert mrr_score(Table(INFINITE.astype(dtype)), test).tolist() == [(1 + 1 / 4) / 2, 1 / 4]


class TestBadInput:
    @pytest.mark.parametrize("infinite", [False, True])
    @pytest.mark.parametrize("score", [mrr_score, precision_recall_score])
    def test_nan_names_the_user(self, score, infinite):
        scores = np.zeros((9, 4), np.float32)
        scores[7, 2] = np.nan
        scores[3, 1] = scores[7, 0] = np.inf if infinite else 1
        with pytest.raises(ValueError, match="the prediction of user 7 for item 2 is NaN"):
            score(Table(scores), sp.csr_matrix(np.ones((9, 4))))
        score(Table(scores), sp.csr_matrix(np.ones((9, 4)) * (np.arange(9) != 7)[:, np.newaxis]))  # not asked for

    ONE = sp.csr_matrix([[0, 1, 0, 0]])

    @pytest.mark.parametrize("score", [mrr_score, precision_recall_score])
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ((Table(ROW), 3), TypeError, "test must be Interactions or a scipy sparse matrix, got int"),
            ((Table(ROW), ROW), TypeError, "test must be .* got ndarray"),
            ((Table(ROW), ONE, ROW), TypeError, "train must be .* got ndarray"),
            ((3, ONE), TypeError, r"predict\(user\), or user_vectors\(\) .*, got int"),
            ((Table(ROW[:, :1]), ONE), ValueError, "test must hold items below 1, which the model predicts, got 1"),
            ((Table(ROW[:, :2]), ONE, sp.eye(1, 4, 3).tocsr()), ValueError, "train must hold items below 2, .* got 3"),
            (
                (Table(ROW), sp.csr_matrix([[0.0] * 4, [1.0] * 4]), sp.eye(1, 4)),
                ValueError,
                "train must have a row for every user of test, up to 1, got 1 rows",
            ),
            ((Table(ROW[:, :, np.newaxis]), ONE), ValueError, r"model must predict .* got \(4, 1\) for user 0"),
            ((Table([1.0]), ONE), ValueError, r"model must predict an array of shape .* got \(\) for user 0"),
            (
                (Table([[1, 2], [1]]), sp.csr_matrix([[1], [1]])),
                ValueError,
                "model must predict 2 items .* got 1 for 1",
            ),
        ],
    )
    def test_arguments(self, score, arguments, error, message):
        with pytest.raises(error, match=message):
            score(*arguments)

    @pytest.mark.parametrize(
        ("k", "error"),
        [(0, ValueError), (-1, ValueError), ([1, 0], ValueError), ([], ValueError)]
        + [(1.0, TypeError), ("1", TypeError), (None, TypeError), (True, TypeError), ([1.5], TypeError)],
    )
    def test_k(self, k, error):
        with pytest.raises(error, match=r"^k must .*integer of at least 1, got"):
            precision_recall_score(Table(ROW), self.ONE, k=k)
