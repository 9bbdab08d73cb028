"""The error of predicted ratings: its value, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from spotfast.evaluation import rmse_score
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions

DATA = Interactions([0, 1, 2], [4, 5, 6], ratings=[1, 3, 5])


class Ratings:
    """Predicts pairs by a function."""

    def __init__(self, function):
        self.function = function

    def predict(self, users, items):
        return self.function(users, items)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32, np.float64])
def test_value(dtype):
    data = Interactions([0, 1, 2], [4, 5, 6], ratings=np.array([1, 3, 5], dtype))
    error = rmse_score(Ratings(lambda users, items: (items - users).astype(dtype)), data)  # 4
    assert type(error) is float
    assert error == np.sqrt((9 + 1 + 1) / 3)


@pytest.mark.parametrize(
    ("predictions", "changed", "message"),
    [
        (np.zeros((3, 1)), {}, r"model must predict an array of shape \(3,\), got \(3, 1\)"),
        (np.zeros(1), {}, r"model must predict an array of shape \(3,\), got \(1,\)"),
        (np.array([0, np.nan, np.nan]), {}, "the prediction of user 1 for item 5 is NaN"),
        (np.zeros(3), {"ratings": None}, "test must hold ratings .* got interactions with ratings=None"),
        (np.zeros(3), {"ratings": np.zeros(2)}, r"ratings must have one value per interaction \(3\), got 2"),
        (np.zeros(3), {"ratings": np.array([0, np.nan, 0])}, "ratings must be finite, got .*nan.* at position 1"),
        (np.zeros(3), {"user_ids": [], "item_ids": [], "ratings": []}, "test must not be empty"),
    ],
)
def test_bad_input(predictions, changed, message):
    data = DATA.take(slice(None))
    for name, value in changed.items():
        setattr(data, name, value)
    with pytest.raises(ValueError, match=message):
        rmse_score(Ratings(lambda users, items: predictions), data)


@pytest.mark.parametrize("test", [sp.eye(3).tocsr(), SequenceInteractions([[1, 2]]), 3])
def test_no_interactions(test):
    with pytest.raises(TypeError, match=f"test must be Interactions with ratings, got {type(test).__name__}"):
        rmse_score(Ratings(None), test)


def test_no_model():
    with pytest.raises(TypeError, match=r"predict\(user_ids, item_ids\), or user_vectors\(\) .*, got int"):
        rmse_score(3, DATA)


def test_a_model_that_is_too_small():
    model = ExplicitFactorizationModel(n_iter=1)
    with pytest.raises(ValueError, match="fitted"):
        rmse_score(model, DATA)
    model.fit(DATA)
    assert rmse_score(model, DATA) > 0
    for beyond in ([[3], [4]], [[0], [7]]):
        with pytest.raises(ValueError, match="ids must be below num_"):
            rmse_score(model, Interactions(*beyond, ratings=[1]))
