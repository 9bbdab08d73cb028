"""Small sequences, and models fitted on them: what every test of sequence models starts from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.interactions import SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

ITEMS, LENGTH, DIM = 23, 6, 5


class Recency(torch.nn.Module):
    """Anyone's network, with none of our attributes: the state is the vector of the item before."""

    def __init__(self, items=ITEMS):
        super().__init__()
        self.before = torch.nn.Embedding(items, 4)
        self.after = torch.nn.Embedding(items, 4)

    def user_representation(self, sequences):
        states = torch.nn.functional.pad(self.before(sequences), (0, 0, 1, 0)).permute(0, 2, 1)
        return states[:, :, :-1], states[:, :, -1:]

    def forward(self, states, targets):
        assert states.shape[0] == targets.shape[0]
        assert states.shape[2] == targets.shape[1]
        return (states * self.after(targets).permute(0, 2, 1)).sum(1)


def make_data(count=70, length=LENGTH, items=ITEMS, seed=3):
    rng = np.random.RandomState(seed)
    sequences = rng.randint(1, items, (count, length)).astype(np.int32)
    sequences[::3, : length // 2] = 0
    return SequenceInteractions(sequences, num_items=items)


@pytest.fixture
def data():
    """`data(count, length, items, seed)`: sequences, a third of them padded halfway."""
    return make_data


@pytest.fixture
def fitted():
    """`fitted(representation, **arguments)`: a model after two epochs of `data()`."""

    def fit(representation="pooling", **arguments):
        settings = {"n_iter": 2, "batch_size": 16, "embedding_dim": DIM, "random_state": 5, **arguments}
        model = ImplicitSequenceModel(representation=representation, **settings)
        model.fit(make_data())
        return model

    return fit


@pytest.fixture
def weights_of():
    """`weights_of(model)`: all weights in one row."""
    return lambda model: torch.cat([parameter.detach().flatten() for parameter in model._net.parameters()])


@pytest.fixture(name="Recency")
def recency():
    """The class `Recency`."""
    return Recency
