"""Sequence models in files: what is read predicts the same bits, and training goes on where it stopped."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.sequence.implicit import NETWORKS, ImplicitSequenceModel

REPRESENTATIONS = list(NETWORKS)


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"optimizer_func": _sgd}])
def test_save_and_load(data, fitted, weights_of, tmp_path, representation, options):
    model = fitted(representation, loss="adaptive_hinge", num_negative_samples=3, **options)
    model.save(tmp_path / "model")
    loaded = ImplicitSequenceModel.load(tmp_path / "model", optimizer_func=options.get("optimizer_func"))
    assert np.array_equal(loaded.predict([[1, 2], [3, 4]]), model.predict([[1, 2], [3, 4]]))
    for each in (model, loaded):
        each.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
    assert model.history == loaded.history
    assert loaded._num_users is None


def test_load_takes_the_network_that_the_model_was_made_with(fitted, Recency, tmp_path):
    path = tmp_path / "model"
    model = fitted(Recency())
    model.save(path)
    with pytest.raises(ValueError, match="representation must be a Recency"):
        ImplicitSequenceModel.load(path)
    with pytest.raises(ValueError, match="not a ImplicitFactorizationModel"):
        ImplicitFactorizationModel.load(path)
    net = Recency()
    loaded = ImplicitSequenceModel.load(path, representation=net)
    assert loaded._net is net
    assert np.array_equal(loaded.predict([1, 2]), model.predict([1, 2]))
    fitted("lstm").save(path)
    with pytest.raises(ValueError, match="representation must be None"):
        ImplicitSequenceModel.load(path, representation=Recency())


@pytest.mark.parametrize("sparse", [False, True])
def test_pickled_by_torch(data, fitted, weights_of, tmp_path, sparse):
    model = fitted("mixture", sparse=sparse)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert np.array_equal(loaded.predict([3]), model.predict([3]))
    for each in (model, loaded):
        each.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
