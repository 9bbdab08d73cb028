"""Evaluation of models that know what their ids stand for: test and training sets must mean the same by theirs."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from spotfast.cross_validation import random_train_test_split
from spotfast.evaluation import (
    evaluate,
    mrr_score,
    precision_recall_score,
    rmse_score,
    sequence_mrr_score,
    sequence_precision_recall_score,
)
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.sequence.implicit import ImplicitSequenceModel

OF_USERS = {
    "mrr_score": mrr_score,
    "precision_recall_score": precision_recall_score,
    "evaluate": lambda *arguments: evaluate(*arguments, k=3),
}
OF_SEQUENCES = {
    "sequence_mrr_score": sequence_mrr_score,
    "sequence_precision_recall_score": lambda *arguments: sequence_precision_recall_score(*arguments, k=2),
    "evaluate": lambda *arguments: evaluate(*arguments, k=3),
}


def interactions(first, id_map=None):
    """Users and items from this raw id on: the same number stands for another one of them than elsewhere."""
    pairs = np.random.default_rng(first).permutation(20 * 15)[:120]
    columns = {"user_id": pairs // 15 + first, "item_id": pairs % 15 + first, "rating": 1.0 + pairs % 5}
    df = pd.DataFrame(columns | {"timestamp": np.arange(120)})
    return Interactions.from_frame(df, rating="rating", timestamp="timestamp", id_map=id_map)


@pytest.fixture(scope="module")
def train():
    return interactions(500)


@pytest.fixture(scope="module")
def model(train):
    model = ImplicitFactorizationModel(n_iter=1, embedding_dim=4, random_state=0)
    model.fit(train)
    return model


def refused(name, of="the model"):
    return pytest.raises(
        ValueError, match=f"^{name} must have the id_map of {of}, {re.escape('<IdMap (')}.* other raw ids"
    )


@pytest.mark.parametrize("score", OF_USERS.values(), ids=OF_USERS)
class TestUsers:
    def test_another_map_is_refused(self, score, model, train):
        other = interactions(501)
        with refused("test"):
            score(model, other)
        with refused("test"):
            score(model, other, train)
        same = interactions(500, train.id_map)
        with refused("train"):
            score(model, same, other)

    def test_two_maps_under_a_model_that_has_none(self, score, model, train):
        class Anyone:
            def predict(self, user):
                return np.arange(16.0) + user

        with refused("train", "test"):
            score(Anyone(), train, interactions(501))

    def test_the_same_map_and_no_map_are_fine(self, score, model, train):
        some, rest = random_train_test_split(train, random_state=0)
        score(model, rest, some)
        score(model, rest.tocsr(), some.tocsr())
        plain = Interactions(rest.user_ids, rest.item_ids, num_users=rest.num_users, num_items=rest.num_items)
        score(model, plain, some)


@pytest.mark.parametrize("score", [rmse_score, lambda model, test: evaluate(model, test, metrics=["rmse"])])
def test_ratings(score, train):
    model = ExplicitFactorizationModel(n_iter=1, embedding_dim=4, random_state=0)
    model.fit(train)
    score(model, train)
    with refused("test"):
        score(model, interactions(501))


@pytest.mark.parametrize("score", OF_SEQUENCES.values(), ids=OF_SEQUENCES)
def test_sequences(score, train):
    model = ImplicitSequenceModel(n_iter=1, embedding_dim=4, random_state=0)
    sequences = train.to_sequence(max_sequence_length=5)
    model.fit(sequences)
    score(model, sequences)
    with refused("test"):
        score(model, interactions(501).to_sequence(max_sequence_length=5))
