"""Large catalogues: tables with sparse gradients, and the results of dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.interactions import SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.optim import DeferredAdam
from spotfast.sequence.gradients import sparse_where_faster
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.representations import CNNNet, LSTMNet, MixtureLSTMNet

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
    """Which gradients the tables had in the last step; `fit` leaves the layers as they were."""
    layers = fitted._net.item_embeddings, fitted._net.item_biases
    assert [layer.sparse for layer in layers] == [fitted._sparse] * 2
    return [layer.weight.grad.is_sparse for layer in layers]


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


@pytest.mark.parametrize("kind", [LSTMNet, CNNNet, MixtureLSTMNet])
@pytest.mark.parametrize("l2", [0.0, 1e-4])
def test_built_in_networks_that_are_passed_in_are_trained_as_those_by_name(kind, l2):
    data, nets = sequences(LIMIT + 1), []
    for optimizer_func in (None, lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=l2)):
        torch.manual_seed(0)
        fitted = model(representation=kind(LIMIT + 1, 8), l2=l2, optimizer_func=optimizer_func)
        fitted.fit(data)
        assert isinstance(fitted._optimizer, DeferredAdam) == (optimizer_func is None)
        assert sparse(fitted) == [optimizer_func is None and l2 == 0] * 2
        nets.append(fitted._net)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_network_with_sparse_gradients_keeps_them():
    net = LSTMNet(LIMIT, 8, sparse=True)
    fitted = model(representation=net)
    fitted.fit(sequences(LIMIT))
    assert net.item_embeddings.weight.grad.is_sparse
    assert net.item_embeddings.sparse


@pytest.mark.parametrize(
    "layer",
    [
        BloomEmbedding(LIMIT + 1, 8, padding_idx=0),
        torch.nn.Embedding(LIMIT + 1, 8, padding_idx=0, max_norm=1.0),
        torch.nn.Embedding(LIMIT + 1, 8, padding_idx=0, scale_grad_by_freq=True),
    ],
)
def test_layers_that_are_more_than_tables_keep_their_gradients(layer):
    fitted = model(representation=LSTMNet(LIMIT + 1, 8, item_embedding_layer=layer))
    fitted.fit(sequences(LIMIT + 1))
    assert type(fitted._optimizer) is torch.optim.Adam
    assert not fitted._net.item_biases.weight.grad.is_sparse


def test_a_frozen_table_is_trained_on_from_a_file(tmp_path):
    """The default was Adam, as the table was frozen; the network that the file is read into is not."""
    frozen = model(representation=LSTMNet(LIMIT + 1, 8))
    frozen._representation.item_embeddings.weight.requires_grad_(False)
    frozen.fit(sequences(LIMIT + 1))
    assert type(frozen._optimizer) is torch.optim.Adam
    frozen.save(tmp_path / "model.safetensors")
    loaded = ImplicitSequenceModel.load(tmp_path / "model.safetensors", representation=LSTMNet(LIMIT + 1, 8))
    loaded.fit(sequences(LIMIT + 1))
    assert isinstance(loaded._optimizer, DeferredAdam)
    assert len(loaded.history) == 6


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
    net = LSTMNet(LIMIT + 1, dim)
    monkeypatch.setattr("spotfast.backends.choose", lambda operation, device: backend)
    with sparse_where_faster(net, LIMIT // 3, torch.device("cpu")):
        chosen = [net.item_embeddings.sparse, net.item_biases.sparse]
    assert chosen == [expected, expected]


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
