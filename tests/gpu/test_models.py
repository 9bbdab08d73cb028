"""The three models on the device: they train, their losses are those of the CPU, and they move."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.datasets.synthetic import generate_sequential
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.sequence.implicit import ImplicitSequenceModel

pytestmark = pytest.mark.device_only

SETTINGS = {"n_iter": 3, "batch_size": 256, "random_state": 1}


def factorization_data():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 300, 20_000), (200 * rng.random(20_000) ** 2).astype(int)
    return Interactions(users, items, rng.integers(1, 6, 20_000).astype(np.float32), num_users=300, num_items=200)


def sequence_data():
    random = np.random.RandomState(0)
    data = generate_sequential(100, 60, 20_000, concentration_parameter=0.01, random_state=random)
    return data.to_sequence(max_sequence_length=20)


def implicit(**options):
    return ImplicitFactorizationModel("pointwise", **SETTINGS, **options), factorization_data()


def explicit(**options):
    return ExplicitFactorizationModel("regression", **SETTINGS, **options), factorization_data()


def sequence(**options):
    return ImplicitSequenceModel("pointwise", "pooling", **SETTINGS, **options), sequence_data()


def predictions(model):
    return model.predict(np.array([1, 2, 3]) if isinstance(model, ImplicitSequenceModel) else 3)


@pytest.mark.parametrize("make", [implicit, explicit, sequence])
def test_losses_are_those_of_the_cpu(make):
    histories = []
    for options in ({"use_cuda": True}, {"device": "cpu"}):
        model, data = make(**options)
        model.fit(data)
        histories.append(model.history.losses)
        assert len(histories[-1]) == 3
    assert histories[0] == pytest.approx(histories[1], rel=1e-2)
    assert histories[0][-1] < histories[0][0]


@pytest.mark.parametrize("make", [implicit, explicit, sequence])
def test_the_same_bits_twice(make):
    scores = []
    for _ in range(2):
        model, data = make(use_cuda=True)
        model.fit(data)
        scores.append(predictions(model))
    assert np.array_equal(*scores)


@pytest.mark.parametrize("make", [implicit, explicit, sequence])
def test_a_model_moves_to_the_cpu_and_trains_there(make):
    model, data = make(use_cuda=True)
    model.fit(data)
    before = predictions(model)
    assert model.to("cpu") is model
    assert model.device == torch.device("cpu")
    np.testing.assert_allclose(predictions(model), before, rtol=1e-4, atol=1e-5)
    model.fit(data)
    assert len(model.history.losses) == 6
