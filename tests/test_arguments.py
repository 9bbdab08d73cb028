"""The constructor's arguments can be read, and set where the next `fit` can go by it."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import PoolNet

MODELS = [ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel]
every_model = pytest.mark.parametrize("cls", MODELS)
SETTABLE = {
    "n_iter": (5, -1, ValueError),
    "batch_size": (7, 0, ValueError),
    "l2": (0.5, -1.0, ValueError),
    "learning_rate": (0.5, "a", TypeError),
    "num_negative_samples": (9, 1.5, TypeError),
    "negatives": ("uniform", "none", ValueError),
}


def data(cls):
    rng = np.random.RandomState(3)
    interactions = Interactions(rng.randint(0, 12, 200), rng.randint(1, 30, 200), rng.rand(200), np.arange(200))
    return interactions.to_sequence(5) if cls is ImplicitSequenceModel else interactions


def arguments_of(cls):
    return inspect.signature(cls).parameters.values()


@every_model
def test_all_can_be_read(cls):
    model = cls()
    for argument in arguments_of(cls):
        if argument.name not in ("random_state", "device"):
            assert getattr(model, argument.name) == argument.default, argument.name
    assert model.device == torch.device("cpu")
    source = np.random.RandomState(1)
    assert cls(random_state=source).random_state is source


@every_model
def test_each_can_be_set_or_says_what_to_do(cls):
    model = cls()
    for argument in arguments_of(cls):
        if argument.name in SETTABLE:
            good, bad, error = SETTABLE[argument.name]
            setattr(model, argument.name, good)
            with pytest.raises(error, match=argument.name):
                setattr(model, argument.name, bad)
            assert getattr(model, argument.name) == getattr(model, f"_{argument.name}") == good
        else:
            instead = "call to" if argument.name in ("device", "use_cuda") else "make a new model"
            with pytest.raises(AttributeError, match=f"{argument.name} cannot be set: {instead}"):
                setattr(model, argument.name, argument.default)


def test_the_representation_of_a_sequence_model():
    net = PoolNet(30)
    assert ImplicitSequenceModel(representation="cnn").representation == "cnn"
    assert ImplicitSequenceModel(representation=net).representation is net


@every_model
def test_the_next_fit_goes_by_them(cls):
    changed, new = cls(random_state=0), cls(n_iter=3, batch_size=16, l2=0.1, random_state=0)
    changed.n_iter, changed.batch_size, changed.l2 = 3, 16, 0.1
    for model in (changed, new):
        model.fit(data(cls))
    assert changed.history == new.history
    changed.n_iter, new._n_iter = 2, 2  # Spotlight's scripts use the private name
    for model in (changed, new):
        model.fit(data(cls))
    assert len(changed.history) == len(new.history) == 5


@pytest.mark.parametrize("sparse", [False, True])
@every_model
def test_l2_is_that_of_the_optimizer_in_use(cls, sparse):
    """As if torch's Adam, on dense gradients through autograd, were given another `weight_decay` in between."""
    ours = cls(n_iter=1, batch_size=64, embedding_dim=4, sparse=sparse, random_state=0)
    plain = cls(
        n_iter=1, batch_size=64, embedding_dim=4, random_state=0, optimizer_func=lambda p: torch.optim.Adam(p, lr=1e-2)
    )
    for l2 in (0.0, 0.01, 0.0):
        ours.l2 = l2
        if plain._optimizer is not None:
            plain._optimizer.param_groups[0]["weight_decay"] = l2
        for model in (ours, plain):
            model.fit(data(cls))
        assert ours.l2 == l2
        for one, other in zip(ours._net.parameters(), plain._net.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_l2_is_not_that_of_another_optimizer():
    model = ImplicitFactorizationModel(optimizer_func=torch.optim.Adagrad)
    with pytest.raises(AttributeError, match="l2 cannot be set: it is of the default optimizer"):
        model.l2 = 0.1
