"""Errors name what the caller passed, and come before anything has moved."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.sequence.implicit import ImplicitSequenceModel

DATA = Interactions([0, 0, 1], [1, 2, 3], timestamps=[1, 2, 3], num_items=9)


def refuses(model, data, message):
    """Check the error and that the model, fitted or not, is as before."""
    state = model._random_state.get_state()[1].copy()
    before = None if model._net is None else [p.clone() for p in model._net.parameters()]
    with pytest.raises(ValueError, match=message):
        model.fit(data)
    assert np.array_equal(model._random_state.get_state()[1], state)
    if before is None:
        assert not model._initialized
    else:
        assert all(torch.equal(a, b) for a, b in zip(before, model._net.parameters(), strict=True))


def test_ratings_that_the_loss_has_no_meaning_for():
    model = ExplicitFactorizationModel("poisson", n_iter=1, random_state=np.random.RandomState(0))
    bad = Interactions([0, 0, 1], [1, 2, 3], ratings=[0.0, 1.0, -1.0])
    message = "ratings must be at least 0 with loss='poisson', got .*-1.0.* at position 2"
    refuses(model, bad, message)
    model.fit(Interactions([0, 0, 1], [1, 2, 3], ratings=[0, 1, 1000]))
    refuses(model, bad, message)
    for loss in ("regression", "logistic"):  # which cuts them to [0, 1], as Spotlight does
        ExplicitFactorizationModel(loss, n_iter=1).fit(bad)


class TestTooManyNegatives:
    @pytest.mark.parametrize("cls", [ImplicitFactorizationModel, ImplicitSequenceModel])
    def test_of_a_position(self, cls):
        message = "num_negative_samples must be an integer between 1 and 2147483646, got 1000000000000"
        with pytest.raises(ValueError, match=message):
            cls(num_negative_samples=10**12)

    @pytest.mark.parametrize("cls", [ImplicitFactorizationModel, ImplicitSequenceModel])
    def test_of_a_batch(self, cls):
        data = DATA.to_sequence(1, step_size=1) if cls is ImplicitSequenceModel else DATA
        model = cls("adaptive_hinge", num_negative_samples=2**30, random_state=np.random.RandomState(0))
        refuses(model, data, r"num_negative_samples and batch_size .* less than 2\*\*31 items.* 3 \* 1073741825")

    def test_other_losses_use_one(self):
        ImplicitFactorizationModel("bpr", num_negative_samples=2**30, n_iter=1).fit(DATA)


@pytest.mark.parametrize("cut", [DATA.to_sequence, DATA.sequence_windows])
def test_windows(cut):
    message = "^max_sequence_length must be an integer between 1 and 2147483647, got 10000000000"
    with pytest.raises(ValueError, match=message):
        cut(10**10)
    assert len(cut(2, min_sequence_length=10**20)) == 0
    assert len(cut(1, step_size=10**20)) == 2  # the last of each user
