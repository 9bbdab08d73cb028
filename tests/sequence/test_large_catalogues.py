"""Large catalogues: tables with sparse gradients, and the results of dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.interactions import SequenceInteractions
from spotfast.optim import DeferredAdam
from spotfast.sequence.implicit import ImplicitSequenceModel

BATCH, LENGTH = 2, 4
LIMIT = 3 * BATCH * LENGTH * 3  # as the class says, with one negative


def sequences(num_items):
    rng = np.random.RandomState(0)
    rows = rng.randint(1, num_items, (20, LENGTH))
    rows[::3, :2] = 0
    return SequenceInteractions(rows, num_items=num_items)


def model(**settings):
    return ImplicitSequenceModel(
        **{"loss": "bpr", "representation": "lstm", "n_iter": 3, "batch_size": BATCH, "random_state": 0, **settings}
    )


def sparse(fitted):
    layers = fitted._net.item_embeddings, fitted._net.item_biases
    return [layer.sparse for layer in layers]


@pytest.mark.parametrize("representation", ["lstm", "cnn", "mixture"])
def test_the_same_as_with_dense_gradients(representation):
    data = sequences(LIMIT + 1)
    ours = model(representation=representation)
    dense = model(representation=representation, optimizer_func=lambda p: torch.optim.Adam(p, lr=1e-2))
    for each in (ours, dense):
        each.fit(data)
    assert sparse(ours) == [True, True]
    assert sparse(dense) == [False, False]
    assert ours.history.losses == pytest.approx(dense.history.losses, rel=1e-5)
    for one, other in zip(ours._net.parameters(), dense._net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)
    assert ours._net.item_embeddings.weight[0].abs().sum() == 0
    assert ours._net.item_biases.weight[0] == 0


@pytest.mark.parametrize(
    ("num_items", "settings", "expected"),
    [
        (LIMIT, {}, False),
        (LIMIT + 1, {}, True),
        (LIMIT + 1, {"l2": 1e-4}, False),
        (LIMIT + 1, {"loss": "adaptive_hinge"}, False),
        (LIMIT, {"sparse": True}, True),
    ],
)
def test_where_gradients_are_sparse(num_items, settings, expected):
    fitted = model(n_iter=1, **settings)
    fitted.fit(sequences(num_items))
    assert isinstance(fitted._optimizer, DeferredAdam)
    assert sparse(fitted) == [expected, expected]


def test_without_the_engine_they_are_dense(monkeypatch):
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
    fitted = model(n_iter=1)
    fitted.fit(sequences(LIMIT + 1))
    assert sparse(fitted) == [False, False]


@pytest.mark.parametrize(
    ("backend", "dim", "expected"), [("native", 600, True), ("triton", 512, True), ("triton", 513, False)]
)
def test_gradients_are_chosen_alike_on_every_device(monkeypatch, backend, dim, expected):
    """Where rows are moved by C++ or by kernels, which take vectors of up to 512 numbers."""
    fitted = model(n_iter=0, embedding_dim=dim)
    fitted.fit(sequences(LIMIT + 1))
    monkeypatch.setattr("spotfast.backends.choose", lambda operation, device: backend)
    fitted._choose_gradients(fitted._net, LENGTH * 3)
    assert sparse(fitted) == [expected, expected]


def test_training_goes_on_from_a_file(tmp_path):
    data = sequences(LIMIT + 1)
    fitted = model()
    fitted.fit(data)
    fitted.save(tmp_path / "model.safetensors")
    loaded = ImplicitSequenceModel.load(tmp_path / "model.safetensors")
    for each in (fitted, loaded):
        each.fit(data)
    assert sparse(loaded) == [True, True]
    assert loaded.history.losses == fitted.history.losses
    for one, other in zip(fitted._net.parameters(), loaded._net.parameters(), strict=True):
        assert torch.equal(one, other)
