"""Defects of Spotlight (docs/differences.md) that show in an exact coincidence, or in the order of calls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.optim import DeferredAdam
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import PoolNet

USERS, ITEMS = 9, 7
MODELS = [ImplicitFactorizationModel, ExplicitFactorizationModel]


def interactions(count=60):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, USERS, count), rng.integers(0, ITEMS, count)
    return Interactions(users, items, ratings=np.ones(count, np.float32), num_users=USERS, num_items=ITEMS)


class Watched(torch.nn.Module):
    """Anyone's network, which notes in what mode it is called, and whether with gradients."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.calls = set()

    def user_representation(self, sequences):
        self.calls.add((self.training, torch.is_grad_enabled()))
        return self.net.user_representation(sequences)

    def forward(self, *arguments):
        self.calls.add((self.training, torch.is_grad_enabled()))
        return self.net(*arguments)


@pytest.mark.parametrize("cls", MODELS)
def test_as_many_users_as_items_are_no_pairs(cls):
    model = cls(n_iter=1, random_state=0)
    model.fit(interactions())
    users = np.arange(ITEMS)
    scores = model.predict(users)
    assert scores.shape == (ITEMS, ITEMS)
    assert np.array_equal(scores, [model.predict(int(user)) for user in users])


@pytest.mark.parametrize(
    ("model", "data", "asked"),
    [
        (ImplicitFactorizationModel(representation=Watched(BilinearNet(USERS, ITEMS))), interactions(), 0),
        (ExplicitFactorizationModel(representation=Watched(BilinearNet(USERS, ITEMS))), interactions(), 0),
        (ImplicitSequenceModel(representation=Watched(PoolNet(5))), SequenceInteractions([[1, 2, 3, 4]]), [1, 2]),
    ],
    ids=["implicit", "explicit", "sequence"],
)
def test_fit_trains_in_training_mode_after_predict(model, data, asked):
    model._representation.eval()  # however the network comes
    calls = model._representation.calls
    for _ in range(2):
        model.fit(data)
        assert calls == {(True, True)}
        calls.clear()
        model.predict(asked)
        assert calls == {(False, False)}
        calls.clear()


@pytest.mark.parametrize("cls", MODELS)
def test_the_default_optimizer_serves_sparse_tables(cls):
    model = cls(n_iter=1, batch_size=16, sparse=True, random_state=0)
    model.fit(interactions())
    assert type(model._optimizer) is DeferredAdam
    assert model._net.user_embeddings.sparse
    assert model._net.item_biases.sparse
    assert np.isfinite(model.history.losses[0])


@pytest.mark.parametrize(
    "make", [lambda: None, lambda: Watched(BilinearNet(USERS, ITEMS))], ids=["built-in", "anyone's"]
)
@pytest.mark.parametrize("loss", ImplicitFactorizationModel.LOSSES)
def test_one_interaction_is_a_batch_like_any(loss, make):
    model = ImplicitFactorizationModel(loss, n_iter=1, representation=make(), random_state=0)
    model.fit(interactions(1))
    assert np.isfinite(model.history.losses[0])
    assert model.predict(0, [3]).shape == (1,)
