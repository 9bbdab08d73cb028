"""Factorization models of a few users and items, and a network of anyone's: of several files of tests."""

from __future__ import annotations

import numpy as np
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

USERS, ITEMS = 12, 30
IMPLICIT, EXPLICIT = ImplicitFactorizationModel, ExplicitFactorizationModel


def data(count=257, weights=False):
    rng = np.random.RandomState(3)
    return Interactions(
        rng.randint(0, USERS, count),
        rng.randint(0, ITEMS - 5, count),
        ratings=rng.randint(1, 6, count).astype(np.float32),
        weights=rng.rand(count) if weights else None,
        num_users=USERS,
        num_items=ITEMS,
    )


def fitted(cls=IMPLICIT, **arguments):
    model = cls(**{"n_iter": 2, "batch_size": 64, "embedding_dim": 8, "random_state": 5, **arguments})
    model.fit(data())
    return model


def weights_of(model):
    return weights_of_net(model._net)


def weights_of_net(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


class TwoTowers(torch.nn.Module):
    """Anyone's network, with none of our attributes."""

    def __init__(self):
        super().__init__()
        self.users = torch.nn.Embedding(USERS, 4)
        self.items = torch.nn.Embedding(ITEMS, 4)

    def forward(self, user_ids, item_ids):
        assert user_ids.shape == item_ids.shape
        return (self.users(user_ids) * self.items(item_ids)).sum(1)
