"""Scores of sequence models: Spotlight's own values, a naive count, models of any kind, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotfast.evaluation import (
    evaluate,
    mrr_score,
    precision_recall_score,
    rmse_score,
    scoring,
    sequence_mrr_score,
    sequence_precision_recall_score,
    sequence_ranking,
    sequence_scoring,
)
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

ITEMS = 15


class Table:
    """No spotfast model: predicts the rows of a table, one after the other."""

    def __init__(self, scores):
        self.scores = list(scores)
        self.seen = []

    def predict(self, sequence):
        self.seen.append(np.array(sequence))
        return self.scores[len(self.seen) - 1]


def naive(scores, sequences, k, exclude):
    """Reciprocal rank of the last item, and the share of the last k among the k best, by counting."""
    found = []
    for row, sequence in zip(scores, sequences, strict=True):
        behind = set(sequence[:-1]) if exclude else set()
        keys = [(item not in behind, 0.0 if item in behind else score) for item, score in enumerate(row)]
        own = keys[sequence[-1]]
        rank = sum(key > own for key in keys) + (sum(key == own for key in keys) + 1) / 2
        out = set(sequence[:-k]) if exclude else set()
        best = sorted((item for item in range(len(row)) if item not in out), key=lambda item, row=row: -row[item])[:k]
        found.append((1 / rank, len(set(best) & set(sequence[-k:])) / k))
    return np.array(found).reshape(-1, 2).T


def scored(model, test, k, exclude):
    """The reciprocal ranks, and precision and recall, which must be equal."""
    precision, recall = sequence_precision_recall_score(model(), test, k, exclude)
    assert np.array_equal(precision, recall)
    return sequence_mrr_score(model(), test, exclude), precision


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exclude", [False, True])
def test_spotlights_values(golden, exclude, dtype):
    """Of a model that ranks padding like any item, as Spotlight's do: two of the sequences have some."""
    scores, sequences = golden["sequence_evaluation/scores"].astype(dtype), golden["sequence_evaluation/sequences"]
    test = SequenceInteractions(sequences, num_items=31)
    mrr, precision = scored(lambda: Table(scores), test, 3, exclude)
    np.testing.assert_allclose(mrr, golden[f"sequence_evaluation/mrr-{exclude}"], rtol=1e-15)
    for name in ("precision3", "recall3"):
        np.testing.assert_allclose(precision, golden[f"sequence_evaluation/{name}-{exclude}"], rtol=1e-15)
    assert mrr.dtype == precision.dtype == np.float64


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_naive_counts(data):
    """Tied and infinite scores, repeated targets, padding, any k."""
    count, length = data.draw(st.integers(0, 40)), data.draw(st.integers(2, 6))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    scores = rng.choice([-np.inf, -1.0, 0.0, 1.0, 2.0, np.inf], (count, 5))
    sequences = rng.integers(0, 5, (count, length))
    k, exclude = data.draw(st.integers(1, length - 1)), data.draw(st.booleans())
    result = scored(lambda: Table(scores), SequenceInteractions(sequences, num_items=5), k, exclude)
    np.testing.assert_allclose(result, naive(scores, sequences, k, exclude), rtol=1e-14)


def model_and_sequences(representation="pooling", count=70):
    rng = np.random.default_rng(0)
    sequences = rng.integers(1, ITEMS, (count, 6)).astype(np.int32)
    sequences[::5, :4] = 0
    test = SequenceInteractions(sequences, num_items=ITEMS)
    model = ImplicitSequenceModel(representation=representation, n_iter=2, embedding_dim=4, random_state=1)
    model.fit(test)
    return model, test


@pytest.mark.parametrize("representation", ["pooling", "lstm", "cnn", "mixture"])
@pytest.mark.parametrize("exclude", [False, True])
def test_own_models_as_any_model(representation, exclude, monkeypatch):
    """Blocks of sequences give what `predict` gives, sequence by sequence. And the blocks leave no trace."""
    model, test = model_and_sequences(representation)
    monkeypatch.setattr(scoring, "BLOCK_BYTES", 4 * ITEMS * 7)
    monkeypatch.setattr(sequence_ranking, "REPRESENTED", 32)
    monkeypatch.setattr(sequence_scoring, "PREDICTED", 9)
    for score, held_out in ((sequence_mrr_score, 1), (sequence_precision_recall_score, 3)):
        table = Table([model.predict(sequence[:-held_out]) for sequence in test.sequences])
        options = {"exclude_preceding": exclude, **({} if held_out == 1 else {"k": held_out})}
        np.testing.assert_array_equal(score(model, test, **options), score(table, test, **options))
    sizes = [len(block.targets) for block in sequence_ranking.sequence_blocks(model, test, 1, exclude)]
    assert sizes == ([7, 7, 7, 7, 4] * 2 + [6] if representation == "mixture" else [32, 32, 6])


@pytest.mark.parametrize("representation", ["pooling", "lstm", "cnn"])
def test_no_rows_of_scores_are_made_of_our_models(representation, monkeypatch):
    model, test = model_and_sequences(representation)

    def refuse(*arguments):
        raise AssertionError("a row of scores")

    monkeypatch.setattr(sequence_ranking, "ScoredBlock", refuse)
    assert len(sequence_mrr_score(model, test)) == len(sequence_precision_recall_score(model, test, 3)[0]) == len(test)
    assert evaluate(model, test, metrics=("mrr", "coverage")).num_evaluated == len(test)


def test_our_models_without_an_engine(monkeypatch):
    """The reference ranks rows of scores: by the same results."""
    model, test = model_and_sequences()
    every = [scored(lambda: model, test, 3, exclude) for exclude in (False, True)]
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
    np.testing.assert_allclose(
        [scored(lambda: model, test, 3, exclude) for exclude in (False, True)], every, rtol=1e-15
    )


def test_our_models_with_scores_beyond_float32(monkeypatch):
    """They are ranked row by row, as predicted: infinities like other scores, while NaN is refused."""
    model, test = model_and_sequences()
    monkeypatch.setattr(sequence_ranking, "REPRESENTED", 32)
    biases, vectors = model._net.item_biases.weight.detach(), model._net.item_embeddings.weight.detach()
    biases[3], biases[4] = torch.inf, 3e38
    for score, held_out in ((sequence_mrr_score, 1), (sequence_precision_recall_score, 3)):
        table = Table([model.predict(sequence[:-held_out]) for sequence in test.sequences])
        options = {} if held_out == 1 else {"k": held_out}
        np.testing.assert_array_equal(score(model, test, **options), score(table, test, **options))
    biases[3:5], vectors[ITEMS - 1] = 0, torch.nan
    known = np.flatnonzero((test.sequences[:, :-1] != ITEMS - 1).all(axis=1))
    without = SequenceInteractions(test.sequences[known], num_items=ITEMS)
    with pytest.raises(ValueError, match=f"after sequence 0 for item {ITEMS - 1} is NaN"):
        sequence_mrr_score(model, without)


def test_padding_is_ranked_last_by_our_models():
    model, _ = model_and_sequences()
    ends_in_padding = SequenceInteractions([[1, 2, 0]], num_items=ITEMS)
    assert sequence_mrr_score(model, ends_in_padding).tolist() == [1 / ITEMS]
    precision, _ = sequence_precision_recall_score(model, ends_in_padding, k=1)
    assert precision.tolist() == [0.0]


def test_windows_that_are_cut_while_scored_are_those_of_the_array():
    rng = np.random.RandomState(0)
    interactions = Interactions(rng.randint(0, 9, 200), rng.randint(1, ITEMS, 200), timestamps=np.arange(200))
    model, _ = model_and_sequences()
    windows, array = interactions.sequence_windows(5), interactions.to_sequence(5)
    assert np.array_equal(sequence_mrr_score(model, windows), sequence_mrr_score(model, array))


def test_models_see_what_comes_before_and_no_more():
    test = SequenceInteractions([[0, 1, 2, 3], [4, 1, 2, 3]])
    for k in (1, 2, 3):
        table = Table(np.zeros((2, 5)))
        sequence_precision_recall_score(table, test, k)
        assert [seen.tolist() for seen in table.seen] == test.sequences[:, :-k].tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.int64, list])
def test_kinds_of_predictions(dtype):
    row = [3.0, 2.0, 1.0, 0.0] if dtype is list else np.array([3, 2, 1, 0], dtype)
    assert sequence_mrr_score(Table([row]), SequenceInteractions([[3, 1]])).tolist() == [0.5]


def test_shapes():
    model, test = model_and_sequences()
    for count in (0, 1, 2):
        some = SequenceInteractions(test.sequences[:count], num_items=ITEMS)
        assert sequence_mrr_score(model, some).shape == (count,)
        for score in sequence_precision_recall_score(model, some, k=np.int64(1)):
            assert score.shape == (count,)
    few = SequenceInteractions([[1, 2, 1, 2, 1, 2]])
    assert sequence_precision_recall_score(Table([[0.0, 1.0, 2.0]]), few, k=4)[0].tolist() == [2 / 4]


def test_models_of_users_and_of_sequences_are_told_apart():
    model, test = model_and_sequences()
    interactions = Interactions([0, 1], [1, 2], ratings=[3, 4], num_items=ITEMS)
    nobody = Interactions([], [], num_users=2, num_items=ITEMS)
    for score in (mrr_score, precision_recall_score, rmse_score):
        for data in (interactions, nobody, test):
            with pytest.raises(TypeError, match=r"must be one of users, got ImplicitSequ.* use sequence_mrr_score"):
                score(model, data)
    for of_users in (ImplicitFactorizationModel(n_iter=1), ExplicitFactorizationModel(n_iter=1)):
        of_users.fit(interactions)
        for score in (sequence_mrr_score, sequence_precision_recall_score):
            with pytest.raises(TypeError, match="predicts users: use mrr_score"):
                score(of_users, test)
    for score in (sequence_mrr_score, sequence_precision_recall_score):
        with pytest.raises(TypeError, match=r"to_sequence.*use mrr_score"):
            score(model, interactions)


def test_what_is_wrong_is_named():
    model, test = model_and_sequences()
    with pytest.raises(TypeError, match=r"predict\(sequence\)"):
        sequence_mrr_score(3, test)
    with pytest.raises(TypeError, match="test must be SequenceInteractions, got ndarray"):
        sequence_mrr_score(model, test.sequences)
    with pytest.raises(ValueError, match="fitted"):
        sequence_mrr_score(ImplicitSequenceModel(), test)
    with pytest.raises(ValueError, match=r"more than 1 items.*got 1"):
        sequence_mrr_score(model, SequenceInteractions([[1]]))
    for k, error in ((0, ValueError), (6, ValueError), (1.5, TypeError), ([1, 2], TypeError)):
        with pytest.raises(error, match=r"k must be|more than 6 items"):
            sequence_precision_recall_score(model, test, k)
    beyond = SequenceInteractions([[1, 2], [ITEMS, 1]])
    for other in (model, Table(np.zeros((2, ITEMS)))):
        with pytest.raises(ValueError, match=f"items below {ITEMS}"):
            sequence_mrr_score(other, beyond, exclude_preceding=True)
    with pytest.raises(ValueError, match=f"items below {ITEMS}.*got {ITEMS}"):
        sequence_mrr_score(Table(np.zeros((1, ITEMS))), SequenceInteractions([[1, ITEMS]]))


@pytest.mark.parametrize("rows", [[np.zeros(3), np.zeros(4)], [np.zeros((3, 1))], [np.zeros(0)], [3.0]])
def test_predictions_of_wrong_shapes_are_refused(rows):
    with pytest.raises(ValueError, match=r"shape \(num_items,\), the same for every sequence"):
        sequence_mrr_score(Table(rows), SequenceInteractions([[1, 2]] * len(rows)))


def test_nan_is_refused_and_its_sequence_named():
    scores = np.zeros((40, 3))
    scores[:, :2] = np.inf, -np.inf  # whose sum is NaN
    test = SequenceInteractions([[1, 2]] * 40)
    sequence_mrr_score(Table(scores), test)
    scores[37, 1] = np.nan
    with pytest.raises(ValueError, match="after sequence 37 for item 1 is NaN"):
        sequence_mrr_score(Table(scores), test)
