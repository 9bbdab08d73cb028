"""Optimizers that refuse a table's gradients: one error, before anything moves."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.training.gradient_kinds import DENSE_ONLY, check_gradients

DATA = Interactions([0, 1, 1], [1, 2, 0])
SEQUENCES = SequenceInteractions([[0, 1, 2], [2, 1, 2]])


def refused(model, data):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=r"^sparse must be") as error:
            model.fit(data)
    assert not model._initialized
    return str(error.value)


@pytest.mark.parametrize("kind", DENSE_ONLY)
def test_optimizers_without_sparse_gradients(kind):
    told = refused(ImplicitFactorizationModel(optimizer_func=kind, sparse=True), DATA)
    assert told.startswith(f"sparse must be False with torch.optim.{kind.__name__}, which takes no sparse gradients")
    layer = nn.Embedding(3, 2, sparse=True)
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):  # indeed
        kind(layer.parameters()).step()


@pytest.mark.parametrize("representation", ["pooling", "lstm"])
def test_sequence_models(representation):
    refused(
        ImplicitSequenceModel(representation=representation, optimizer_func=torch.optim.Adam, sparse=True), SEQUENCES
    )


def test_networks_that_are_passed_in():
    net = BilinearNet(2, 3, sparse=True)
    before = net.item_embeddings.weight.detach().clone()
    random_state = np.random.RandomState(3)
    refused(
        ImplicitFactorizationModel(representation=net, optimizer_func=torch.optim.Adam, random_state=random_state), DATA
    )
    assert torch.equal(net.item_embeddings.weight, before)
    assert random_state.randint(1 << 30) == np.random.RandomState(3).randint(1 << 30)


def test_the_optimizer_without_dense_gradients():
    told = refused(ImplicitFactorizationModel(optimizer_func=torch.optim.SparseAdam), DATA)
    assert told == "sparse must be True with torch.optim.SparseAdam, which takes no dense gradients, got False"


def test_tables_that_are_not_trained_do_not_matter():
    net = BilinearNet(2, 3, sparse=True)
    check_gradients(net, torch.optim.Adam([nn.Parameter(torch.ones(1))]))
    check_gradients(net.requires_grad_(False), torch.optim.Adam(net.parameters()))


def test_networks_of_ones_own_may_use_their_tables_otherwise():
    class Tied(BilinearNet):
        def forward(self, user_ids, item_ids):
            every = self.item_embeddings.weight.sum() + self.user_embeddings.weight.sum()
            biases = self.item_biases.weight.sum() + self.user_biases.weight.sum()
            return super().forward(user_ids, item_ids) + every + biases

    model = ImplicitFactorizationModel(
        representation=Tied(2, 3, sparse=True), optimizer_func=torch.optim.Adam, n_iter=1, loss="pointwise"
    )
    with pytest.warns(match="the network is a Tied"):
        model.fit(DATA)
