"""Both factorization models: errors name what is wrong, and leave the model as it was."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from small_factorization_models import EXPLICIT, IMPLICIT, ITEMS, USERS, TwoTowers, data, fitted, weights_of

from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.layers import BloomEmbedding


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "nope"}, "loss must be one of"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_iter": -1}, "n_iter"),
        ({"l2": -0.1}, "l2"),
        ({"l2": float("nan")}, "l2"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"num_negative_samples": 0}, "num_negative_samples"),
        ({"negatives": "some"}, "negatives must be one of"),
        ({"random_state": -1}, "random_state"),
        ({"random_state": "seed"}, "random_state"),
        ({"representation": 3}, "representation"),
        ({"optimizer_func": 3}, "optimizer_func"),
        ({"device": "nowhere"}, "device must be 'cpu' or a CUDA device, as 'cuda' or 'cuda:0', got 'nowhere'"),
        ({"device": "meta"}, "device must be 'cpu' or a CUDA device, .* got 'meta'"),
        ({"use_cuda": True, "device": "cpu"}, "contradict"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        IMPLICIT(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": None}, "loss must be one of .*, got None"),
        ({"negatives": 3}, "negatives must be one of .*, got 3"),
        ({"device": 3}, "device must be 'cpu' or a CUDA device, .* got 3 of type int"),
        ({"representation": 3}, "representation must be a torch.nn.Module, got 3"),
    ],
)
def test_values_of_other_types_are_type_errors(arguments, message):
    with pytest.raises(TypeError, match=message):
        IMPLICIT(**arguments)


def test_fit_names_what_is_wrong_and_changes_nothing():
    with pytest.raises(ValueError, match="fitted"):
        IMPLICIT().predict(0)
    with pytest.raises(TypeError, match="interactions"):
        IMPLICIT().fit("data")
    with pytest.raises(ValueError, match="empty"):
        IMPLICIT().fit(Interactions([], [], num_users=2, num_items=2))
    with pytest.raises(ValueError, match="ratings"):
        EXPLICIT().fit(Interactions([0], [1]))
    with pytest.raises(ValueError, match="num_users"):
        IMPLICIT(representation=BilinearNet(2, ITEMS)).fit(data())
    model = fitted()
    before = weights_of(model)
    for bad in (Interactions([USERS], [0]), Interactions([0], [ITEMS])):
        with pytest.raises(ValueError, match="first fit"):
            model.fit(bad)
    changed = data()
    changed.user_ids[3] = -1
    with pytest.raises(ValueError, match="-1 at position 3"):
        model.fit(changed)
    assert torch.equal(weights_of(model), before)
    assert len(model.history) == 2
    for bad_ids in ((USERS, None), (-1, None), (0, [ITEMS]), ([0, 1], [1, 2, 3]), ([0, 1], [5])):
        with pytest.raises(ValueError, match="_ids"):
            model.predict(*bad_ids)


@pytest.mark.parametrize("make", [torch.nn.Embedding, partial(BloomEmbedding, compression_ratio=1.0)])
def test_tables_passed_in_must_hold_all_ids(make):
    data = Interactions([0, 1], [1, 6])
    for layers, message in (
        ({"item_embedding_layer": make(6, 4)}, "num_items of at least 7, as the interactions, got 6"),
        ({"user_embedding_layer": make(1, 4)}, "num_users of at least 2, as the interactions, got 1"),
    ):
        net = BilinearNet(2, 7, embedding_dim=4, **layers)
        with pytest.raises(ValueError, match=message):
            IMPLICIT(representation=net).fit(data)


def test_a_network_without_parameters_is_refused():
    class Constant(torch.nn.Module):
        def forward(self, users, items):
            return torch.zeros(len(users))

    with pytest.raises(ValueError, match="representation must have parameters to train, got a Constant"):
        IMPLICIT(representation=Constant()).fit(data())


def test_errors_inside_anyones_network_say_what_it_was_called_with():
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.items = torch.nn.Embedding(3, 1)

        def forward(self, users, items):
            return self.items(items).squeeze(1)

    model = IMPLICIT(n_iter=1, representation=Small())
    with pytest.raises(IndexError) as caught:
        model.fit(data())
    assert "raised in forward of representation, called with user_ids of shape" in caught.value.__notes__[0]


def test_failed_first_fit_leaves_the_model_as_new():
    class Wrong(TwoTowers):
        def forward(self, user_ids, item_ids):
            return torch.zeros(3)

    source = np.random.RandomState(1)
    model = IMPLICIT(representation=Wrong(), random_state=source)
    with pytest.raises(ValueError, match="scores of shape"):
        model.fit(data())
    assert not model._initialized
    assert len(model.history) == 0
    state = source.get_state()[1].copy()
    with pytest.raises(TypeError, match="optimizer_func"):
        IMPLICIT(optimizer_func=lambda parameters: 3, random_state=source).fit(data())
    assert np.array_equal(source.get_state()[1], state)
    small = BilinearNet(USERS, ITEMS, 8, user_embedding_layer=torch.nn.Embedding(3, 8))
    with pytest.raises(ValueError, match="num_users"):
        IMPLICIT(representation=small).fit(data())


def test_diverging_loss_raises_and_zero_does_not():
    with pytest.raises(ValueError, match="diverged"):
        fitted(EXPLICIT, loss="poisson", learning_rate=1e6)
    net = BilinearNet(2, 2, 1)
    with torch.no_grad():
        net.item_biases.weight.copy_(torch.tensor([[9.0], [0.0]]))
    model = IMPLICIT(loss="hinge", n_iter=1, representation=net, learning_rate=1e-3)
    model.fit(Interactions([0, 1], [0, 0], num_items=2))
    assert model.history.losses == [0.0]
