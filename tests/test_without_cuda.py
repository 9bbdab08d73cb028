"""`use_cuda=True` where there is no CUDA device: an error that names it, from all three models."""

from __future__ import annotations

import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

MODELS = (ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel)

pytestmark = pytest.mark.parametrize("cls", MODELS)


@pytest.fixture(autouse=True)
def no_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_in_the_constructor(cls):
    with pytest.raises(RuntimeError, match=r"use_cuda=True: torch \S+ sees no CUDA device; device=.cpu., the"):
        cls(use_cuda=True)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda")])
def test_a_device_that_is_named(cls, device):
    with pytest.raises(RuntimeError, match=rf"device='{device}': torch \S+ sees no CUDA device"):
        cls(device=device)


def test_both_that_contradict_each_other(cls):
    with pytest.raises(ValueError, match="use_cuda=True and device='cpu' contradict each other"):
        cls(use_cuda=True, device="cpu")


def test_moving_there(cls):
    model = cls(n_iter=1, random_state=0)
    ratings = [1.0, 2.0] if cls is ExplicitFactorizationModel else None
    data = Interactions([0, 1], [1, 2], ratings)
    model.fit(SequenceInteractions([[1, 2]]) if cls is ImplicitSequenceModel else data)
    with pytest.raises(RuntimeError, match=r"device='cuda': torch .* sees no CUDA device"):
        model.to("cuda")
    assert model.device == torch.device("cpu")


def test_a_device_that_is_gone_when_it_is_fitted(cls, monkeypatch):
    """As for a model that was made on another machine and unpickled here."""
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        model = cls(n_iter=1, random_state=0, use_cuda=True)
    data = Interactions([0, 1], [1, 2], [1.0, 2.0])
    with pytest.raises(RuntimeError, match=r"device='cuda': torch .* sees no CUDA device"):
        model.fit(SequenceInteractions([[1, 2]]) if cls is ImplicitSequenceModel else data)
    assert model._net is None
