"""Models move between devices: network, what the optimizer keeps, and where training and prediction go on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.optim import RowwiseAdagrad
from spotfast.sequence.implicit import ImplicitSequenceModel

USERS, ITEMS = 20, 30
OPTIMIZERS = {
    "the default": {},
    "the default for sparse": {"sparse": True},
    "SparseAdam": {"optimizer_func": lambda parameters: torch.optim.SparseAdam(parameters, lr=1e-2), "sparse": True},
    "momentum": {"optimizer_func": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)},
    "Adagrad": {"optimizer_func": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1)},
    "RowwiseAdagrad": {"optimizer_func": lambda parameters: RowwiseAdagrad(parameters, lr=0.1)},
    "autograd": {"optimizer_func": lambda parameters: torch.optim.RMSprop(parameters, lr=1e-2)},
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def interactions():
    rng = np.random.default_rng(2)
    ids = (rng.integers(1, size, 300).astype(np.int32) for size in (USERS, ITEMS))
    ratings, times = rng.random(300, np.float32), np.arange(300)
    return Interactions(*ids, ratings=ratings, timestamps=times, num_users=USERS, num_items=ITEMS)


def fitted(cls=ImplicitFactorizationModel, **arguments):
    model = cls(n_iter=2, batch_size=64, embedding_dim=8, random_state=5, **arguments)
    model.fit(interactions())
    return model


def tensors_of(model):
    states = [value for state in model._optimizer.state.values() for value in state.values()]
    return [*model._net.parameters(), *(value for value in states if isinstance(value, torch.Tensor))]


class Elsewhere:
    """`with Elsewhere(monkeypatch):` moves to "cuda" end here, in new memory, as moves to another device do."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def __enter__(self):
        self._patch = self._monkeypatch.context()
        patch = self._patch.__enter__()
        patch.setattr("spotfast.model._device", lambda use_cuda, device: torch.device(device))
        patch.setattr(torch.nn.Module, "to", move_to_new_memory)

    def __exit__(self, *error):
        self._patch.__exit__(*error)


def move_to_new_memory(module, device):
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    return module


@every_optimizer
def test_moving_to_where_it_is_changes_nothing(optimizer):
    model = fitted(**OPTIMIZERS[optimizer])
    before = [tensor.clone() for tensor in tensors_of(model)]
    assert model.to("cpu") is model
    assert model.device == torch.device("cpu")
    assert all(torch.equal(tensor, other) for tensor, other in zip(tensors_of(model), before, strict=True))


@every_optimizer
def test_training_goes_on_as_if_it_had_stayed(optimizer, monkeypatch):
    moved, stayed = fitted(**OPTIMIZERS[optimizer]), fitted(**OPTIMIZERS[optimizer])
    parameters = list(moved._net.parameters())
    addresses = [parameter.data_ptr() for parameter in parameters]
    with Elsewhere(monkeypatch):
        moved.to("cpu")
    assert all(parameter.data_ptr() != address for parameter, address in zip(parameters, addresses, strict=True))
    assert all(one is other for one, other in zip(moved._net.parameters(), parameters, strict=True))
    for model in (moved, stayed):
        model.fit(interactions())
    assert moved.history == stayed.history
    assert all(torch.equal(one, other) for one, other in zip(tensors_of(moved), tensors_of(stayed), strict=True))


@pytest.mark.parametrize("cls", [ExplicitFactorizationModel, ImplicitFactorizationModel, ImplicitSequenceModel])
def test_before_it_is_fitted(cls):
    model = cls(n_iter=1, random_state=5)
    assert model.to(torch.device("cpu")) is model
    data = interactions()
    model.fit(data.to_sequence(max_sequence_length=5) if cls is ImplicitSequenceModel else data)
    assert next(model._net.parameters()).device.type == "cpu"


def test_a_device_that_does_not_exist():
    model = fitted()
    with pytest.raises(ValueError, match="device must be 'cpu' or a CUDA device, as 'cuda' or 'cuda:0', got 'gpu'"):
        model.to("gpu")
    assert model.device == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_torch_does_not_see():
    model = fitted()
    before = model.predict(3)
    with pytest.raises(RuntimeError, match=r"device=.cuda.: torch .* sees no CUDA device"):
        model.to("cuda")
    assert model.device == torch.device("cpu")
    assert np.array_equal(model.predict(3), before)


def test_a_move_that_fails_half_way_is_undone(monkeypatch):
    model, stayed = fitted(), fitted()
    devices = []

    def fail_at_first(module, device):
        devices.append(device)
        if len(devices) == 1:
            raise torch.cuda.OutOfMemoryError("on purpose")
        return module

    monkeypatch.setattr("spotfast.model._device", lambda use_cuda, device: torch.device(device))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 10**9))
    monkeypatch.setattr(torch.nn.Module, "to", fail_at_first)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="on purpose"):
        model.to("cuda")
    assert devices == [torch.device("cuda"), torch.device("cpu")]
    assert model.device == torch.device("cpu")
    for each in (model, stayed):
        each.fit(interactions())
    assert model.history == stayed.history


@needs_cuda
@every_optimizer
def test_there_and_back(optimizer):
    moved, stayed = fitted(**OPTIMIZERS[optimizer]), fitted(**OPTIMIZERS[optimizer])
    moved.to("cuda")
    assert {tensor.device.type for tensor in moved._net.parameters()} == {"cuda"}
    np.testing.assert_allclose(moved.predict(3), stayed.predict(3), rtol=1e-5, atol=1e-6)
    for model in (moved, stayed):
        model.fit(interactions())
    np.testing.assert_allclose(moved.history.losses, stayed.history.losses, rtol=1e-4)
    moved.to("cpu")
    assert {tensor.device.type for tensor in tensors_of(moved)} == {"cpu"}
    moved.fit(interactions())
