"""Predictions of both factorization models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_factorization_models import EXPLICIT, IMPLICIT, ITEMS, USERS, TwoTowers, fitted

from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions


@pytest.mark.parametrize("cls", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("make", [None, TwoTowers])
def test_predict(cls, make):
    model = fitted(cls, representation=make and make(), loss=cls.LOSSES[-1])
    every = np.arange(ITEMS)
    row = model.predict(4)
    assert row.dtype == np.float32
    assert row.flags.writeable and row.shape == (ITEMS,)
    for same in (
        model.predict(np.int32(4)),
        model.predict(4, every),
        model.predict(4, every[:, np.newaxis]),
        model.predict(np.full(ITEMS, 4), every),
        model.predict([4]),
        model.predict([4, 5])[0],
    ):
        assert np.array_equal(same, row)
    assert model.predict([4, 5]).shape == (2, ITEMS)
    assert model.predict(np.arange(USERS)).shape == (USERS, ITEMS)
    assert np.array_equal(model.predict(4, [7]), row[[7]])
    assert np.array_equal(model.predict([4], [7]), row[[7]])


def test_predict_leaves_the_network_in_its_mode():
    net = TwoTowers()
    net.dropout = torch.nn.Dropout(0.5)
    model = fitted(representation=net)
    model.predict(1)
    assert net.training
    assert net.dropout.training
    net.dropout.eval()
    model.predict(1)
    assert net.training
    assert not net.dropout.training


def test_same_bits_however_many_are_asked_for():
    """With a length that fills no vector register: the functions that map scores must not depend on it."""
    interactions = Interactions([0, 1], [5, 1002], ratings=[1.0, 0.0])
    for loss in EXPLICIT.LOSSES:
        net = BilinearNet(2, 1003, 16)
        torch.nn.init.normal_(net.item_biases.weight)
        model = EXPLICIT(loss=loss, n_iter=0, representation=net)
        model.fit(interactions)
        rows = model.predict([0, 1])
        for user in (0, 1):
            assert np.array_equal(model.predict(user), rows[user])
            assert np.array_equal([model.predict(user, [item])[0] for item in range(1003)], rows[user])


def test_networks_changed_from_outside_are_called():
    net = BilinearNet(USERS, ITEMS, 8)
    model = fitted(representation=net)
    net.forward = lambda user_ids, item_ids: torch.full((len(user_ids),), 7.0)
    assert (model.predict(1) == 7).all()
