"""Predicting with a sequence model: shapes, bits, padding, and networks of any kind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.layers import BloomEmbedding
from spotfast.sequence import scoring
from spotfast.sequence.implicit import NETWORKS, ImplicitSequenceModel
from spotfast.sequence.representations import PoolNet

ITEMS, DIM = 23, 5  # as in conftest.py
REPRESENTATIONS = list(NETWORKS)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("dim", [3, 32])
def test_a_sequence_and_an_item_have_the_same_bits_however_they_are_asked_for(data, representation, dim):
    """With numbers of sequences and items that fill no batch and no vector register."""
    model = ImplicitSequenceModel(representation=representation, n_iter=1, embedding_dim=dim, random_state=1)
    model.fit(data(items=1003))
    for parameter in model._net.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    items = [0, 1, 17, 1002]
    for length in (1, 2, 7, 50):
        sequences = data(77, length, 1003).sequences
        together = model.predict(sequences)
        assert together.shape == (77, 1003)
        assert np.array_equal(model.predict(sequences, items), together[:, items])
        for row in (0, 1, 15, 16, 63, 76):
            assert np.array_equal(model.predict(sequences[row]), together[row])
            assert np.array_equal([model.predict(sequences[row], [item])[0] for item in items], together[row][items])


@pytest.mark.parametrize("representation", [*REPRESENTATIONS, "anyone's"])
def test_predict(fitted, Recency, representation):
    model = fitted(Recency() if representation == "anyone's" else representation)
    every = np.arange(ITEMS)
    row = model.predict([4, 7, 1])
    assert row.dtype == np.float32
    assert row.flags.writeable and row.shape == (ITEMS,)
    assert row[0] == -np.inf
    assert np.isfinite(row[1:]).all()
    for same in (
        model.predict(np.array([[4, 7, 1]])),
        model.predict(torch.tensor([4, 7, 1])),
        model.predict([4, 7, 1], every),
        model.predict([4, 7, 1], every[:, np.newaxis]),
        model.predict([[4, 7, 1], [1, 2, 3]])[0],
        model.predict([[1, 2, 3], [4, 7, 1]], every)[1],
    ):
        assert np.array_equal(same, row)
    assert np.array_equal(model.predict([4, 7, 1], [3, 0, 3]), row[[3, 0, 3]])
    assert np.array_equal(model.predict([4, 7, 1], 5), row[[5]])
    assert model.predict([[1, 2], [3, 4]], [5]).shape == (2, 1)
    for odd in ([0], [3], np.zeros(9, int), [0, 3, 0], np.ones((1, 100))):
        assert model.predict(odd).shape == (ITEMS,)
    row[:] = 1
    assert model.predict([4, 7, 1])[1] != 1


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_predict_is_the_networks_score(fitted, representation):
    model = fitted(representation, n_iter=5)
    sequences = torch.tensor([[0, 3, 5, 9], [1, 2, 3, 4]])
    with torch.no_grad():
        _, final = model._net.user_representation(sequences)
        expected = model._net.score_items(final, torch.arange(1, ITEMS))
    np.testing.assert_allclose(model.predict(sequences)[:, 1:], expected, rtol=1e-4, atol=1e-6)


def test_sequences_are_neither_stripped_nor_padded(fitted):
    model = fitted("lstm", n_iter=5)
    assert not np.array_equal(model.predict([3, 4]), model.predict([0, 3, 4]))


def test_mixtures_and_called_networks_in_blocks(data, fitted, Recency, monkeypatch):
    models = [fitted("mixture"), fitted(Recency())]
    sequences = data(9).sequences
    whole = [model.predict(sequences) for model in models]
    monkeypatch.setattr(scoring, "MIXTURE_FLOATS", 3 * 8 * ITEMS)
    monkeypatch.setattr(scoring, "CALLED_ITEMS", 10)
    for model, expected in zip(models, whole, strict=True):
        np.testing.assert_allclose(model.predict(sequences), expected, rtol=1e-6)


def test_predict_leaves_the_network_in_its_mode(fitted, Recency):
    net = Recency()
    net.dropout = torch.nn.Dropout(0.5)
    model = fitted(net)
    net.dropout.eval()
    model.predict([1])
    assert net.training
    assert not net.dropout.training
    assert torch.is_grad_enabled()


def test_networks_changed_from_outside_are_called(fitted):
    net = PoolNet(ITEMS, DIM)
    model = fitted(net)
    net.forward = lambda states, targets: torch.full(targets.shape, 7.0)
    assert (model.predict([1, 2])[1:] == 7).all()
    del net.forward
    plain = model.predict([1, 2])
    net.register_forward_hook(lambda net, arguments, scores: scores + 1)
    np.testing.assert_allclose(model.predict([1, 2])[1:], plain[1:] + 1, rtol=1e-5)


def test_bloom_embeddings(fitted):
    for net in (NETWORKS[name](ITEMS, item_embedding_layer=BloomEmbedding(ITEMS, 8, 0.5)) for name in NETWORKS):
        model = fitted(net, loss="adaptive_hinge")
        row = model.predict([1, 2])
        assert row[0] == -np.inf
        assert np.array_equal(model.predict([[1, 2], [3, 4]])[0], row)
