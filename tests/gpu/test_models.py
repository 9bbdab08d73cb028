"""The three models on the device: they train, their losses are those of the CPU, and they move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.datasets.synthetic import generate_sequential
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel


class Data:
    """What models are trained on, and how.

    Args:
        samples: how many the tests of operations have. Models have its square: few users and items in a rehearsal.
    """

    def __init__(self, samples):
        self.count, self.users, self.items = samples**2, samples, 10 + samples
        self.settings = {"n_iter": 2, "batch_size": 5 * samples, "embedding_dim": 4, "random_state": 1}

    def interactions(self):
        rng = np.random.default_rng(0)
        ids = rng.integers(0, self.users, self.count), (self.items * rng.random(self.count) ** 2).astype(int)
        ratings = rng.integers(1, 6, self.count).astype(np.float32)
        return Interactions(*ids, ratings, num_users=self.users, num_items=self.items)

    def sequences(self):
        random = np.random.RandomState(0)
        data = generate_sequential(self.users, 60, self.count, concentration_parameter=0.01, random_state=random)
        return data.to_sequence(max_sequence_length=20)


def implicit(data, **options):
    return ImplicitFactorizationModel("pointwise", **data.settings, **options), data.interactions()


def explicit(data, **options):
    return ExplicitFactorizationModel("regression", **data.settings, **options), data.interactions()


def sequence(data, **options):
    return ImplicitSequenceModel("pointwise", "pooling", **data.settings, **options), data.sequences()


def sequence_of_a_large_catalogue(data, **options):
    """Tables with sparse gradients, whose rows deferred Adam moves."""
    settings = data.settings | {"batch_size": 2}
    sequences = SequenceInteractions(np.random.default_rng(0).integers(1, 60, (data.users, 2)), num_items=60)
    return ImplicitSequenceModel("bpr", "pooling", **settings, **options), sequences


def predictions(model):
    return model.predict(np.array([1, 2, 3]) if isinstance(model, ImplicitSequenceModel) else 3)


@pytest.fixture
def data(samples):
    return Data(samples)


pytestmark = [
    pytest.mark.parametrize("make", [implicit, explicit, sequence, sequence_of_a_large_catalogue]),
    pytest.mark.filterwarnings("ignore:training runs through autograd"),  # sequences, in a rehearsal
]


def test_losses_are_those_of_the_cpu(make, data, models_on_device, monkeypatch):
    own, interactions = make(data, **models_on_device)
    own.fit(interactions)
    monkeypatch.undo()
    other, _ = make(data, device="cpu")
    other.fit(interactions)
    assert len(own.history.losses) == 2
    assert own.history.losses == pytest.approx(other.history.losses, rel=1e-2)
    assert own.history.losses[-1] < own.history.losses[0]


def test_the_same_bits_twice(make, data, models_on_device):
    scores = []
    for _ in range(2):
        model, interactions = make(data, **models_on_device)
        model.fit(interactions)
        scores.append(predictions(model))
    assert np.array_equal(*scores)


def test_a_model_moves_to_the_cpu_and_trains_there(make, data, models_on_device, monkeypatch):
    model, interactions = make(data, **models_on_device)
    model.fit(interactions)
    before = predictions(model)
    monkeypatch.undo()
    assert model.to("cpu") is model
    assert model.device == torch.device("cpu")
    np.testing.assert_allclose(predictions(model), before, rtol=1e-4, atol=1e-5)
    model.fit(interactions)
    assert len(model.history.losses) == 4
