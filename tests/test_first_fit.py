"""A first fit that fails leaves the model, and what was passed to it, as they were."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import LSTMNet
from spotfast.warnings import PerformanceWarning

USERS, ITEMS = 12, 30
MODELS = [ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel]
every_model = pytest.mark.parametrize("cls", MODELS)


def data(cls):
    rng = np.random.RandomState(3)
    users, items = rng.randint(0, USERS, 200), rng.randint(1, ITEMS, 200)
    ratings, times = rng.rand(200).astype(np.float32), np.arange(200)
    interactions = Interactions(users, items, ratings, times, num_users=USERS, num_items=ITEMS)
    return interactions.to_sequence(5) if cls is ImplicitSequenceModel else interactions


def make(cls, **arguments):
    return cls(n_iter=2, batch_size=32, embedding_dim=4, **arguments)


def rmsprop(parameters):
    return torch.optim.RMSprop(parameters, lr=1e-2)  # no engine has it: `fit` warns


def fit(model, action):
    with warnings.catch_warnings():
        warnings.simplefilter(action, PerformanceWarning)
        model.fit(data(type(model)))


def numbers_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model._net.parameters()])


@every_model
@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_the_next_fit_is_that_of_a_new_model(cls, kind):
    source = kind(5)
    failed, new = make(cls, optimizer_func=rmsprop, random_state=source), make(cls, random_state=kind(5))
    with pytest.raises(PerformanceWarning):
        fit(failed, "error")
    assert not failed._initialized
    assert failed.id_map is None
    new._optimizer_func = rmsprop
    for model in (failed, new):
        fit(model, "ignore")
    assert failed.history == new.history
    assert torch.equal(numbers_of(failed), numbers_of(new))


@every_model
def test_a_seed_drawn_by_a_later_fit_is_not_given_back(cls):
    """Only the first fit draws: what others drew from the source meanwhile stays drawn."""
    source = np.random.RandomState(5)
    model = make(cls, random_state=source)
    model._n_iter = 0
    model.fit(data(cls))
    source.rand()
    state = source.get_state()[2]
    model._optimizer = rmsprop(model._net.parameters())
    with pytest.raises(PerformanceWarning):
        fit(model, "error")
    assert model._initialized
    assert source.get_state()[2] == state


@every_model
def test_a_first_fit_that_diverges_leaves_a_new_model(cls):
    """In whichever epoch: nothing of what was trained is of use, the sizes and the seed included."""
    model = make(cls, random_state=np.random.RandomState(5), optimizer_func=lambda p: torch.optim.SGD(p, lr=1e30))
    with pytest.raises(ValueError, match="diverged"):
        fit(model, "ignore")
    assert not model._initialized
    assert len(model.history) == 0
    new = make(cls, random_state=np.random.RandomState(5))
    model._optimizer_func = None
    for each in (model, new):
        fit(each, "ignore")
    assert model.history == new.history
    assert torch.equal(numbers_of(model), numbers_of(new))


def test_a_first_fit_that_diverges_does_not_fix_the_sizes():
    model = make(ExplicitFactorizationModel)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(Interactions([1], [1], ratings=[1e38]))
    model.fit(data(ExplicitFactorizationModel))
    assert model.predict(USERS - 1).shape == (ITEMS,)


@every_model
def test_a_module_goes_back_to_where_it_was(cls, monkeypatch):
    net = LSTMNet(ITEMS, 4) if cls is ImplicitSequenceModel else BilinearNet(USERS, ITEMS, 4)
    places = []
    monkeypatch.setattr("spotfast.model._device", lambda use_cuda, device: torch.device(device))
    monkeypatch.setattr("spotfast.model._require_device", lambda *arguments: None)
    monkeypatch.setattr("spotfast.device_memory.room", lambda device: None)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: places.append(torch.device(device).type) or self)
    model = make(cls, representation=net, optimizer_func=lambda parameters: 3, device="cuda")
    with pytest.raises(TypeError, match="optimizer_func"):
        model.fit(data(cls))
    assert places == ["cuda", "cpu"]
