"""Factorization models on small data, with every optimizer that the engine knows: of several files of tests."""

from __future__ import annotations

import numpy as np
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.optim import RowwiseAdagrad

USERS, ITEMS, DIM = 40, 30, 8
IMPLICIT, EXPLICIT = ImplicitFactorizationModel, ExplicitFactorizationModel
LOSSES = [(cls, loss) for cls in (IMPLICIT, EXPLICIT) for loss in cls.LOSSES]
OPTIMIZERS = {
    "the default": {},
    "the default for sparse": {"sparse": True},
    "Adam": {"optimizer_func": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, betas=(0.8, 0.99))},
    "AdamW": {"optimizer_func": lambda parameters: torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)},
    "SparseAdam": {"optimizer_func": lambda parameters: torch.optim.SparseAdam(parameters, lr=1e-2), "sparse": True},
    "SGD": {"optimizer_func": lambda parameters: torch.optim.SGD(parameters, lr=0.5)},
    "SGD for sparse": {"optimizer_func": lambda parameters: torch.optim.SGD(parameters, lr=0.5), "sparse": True},
    "SGD with momentum": {"optimizer_func": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9)},
    "Adagrad": {"optimizer_func": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1, lr_decay=1e-3)},
    "Adagrad for sparse": {
        "optimizer_func": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1, initial_accumulator_value=0.1),
        "sparse": True,
    },
    "RowwiseAdagrad": {"optimizer_func": lambda parameters: RowwiseAdagrad(parameters, lr=0.1)},
    "RowwiseAdagrad for sparse": {
        "optimizer_func": lambda parameters: RowwiseAdagrad(parameters, lr=0.05),
        "sparse": True,
    },
}


def data(count=1000, users=USERS, items=ITEMS, weighted=False, unseen=0):
    """Interactions of uneven popularity; the last `unseen` users have none."""
    rng = np.random.RandomState(3)
    return Interactions(
        (users * rng.rand(count) ** 2).astype(np.int32),
        (items * rng.rand(count) ** 2).astype(np.int32),
        ratings=rng.rand(count).astype(np.float32),
        weights=rng.rand(count).astype(np.float32) if weighted else None,
        num_users=users + unseen,
        num_items=items,
    )


def made(cls=IMPLICIT, **arguments):
    defaults = {"n_iter": 3, "batch_size": 64, "embedding_dim": DIM, "random_state": 5}
    return cls(**{**defaults, "loss": "bpr" if cls is IMPLICIT else "logistic", **arguments})


def fitted(cls=IMPLICIT, interactions=None, **arguments):
    model = made(cls, **arguments)
    model.fit(interactions or data())
    return model


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model._net.parameters()])


def assert_close(model, twin):
    np.testing.assert_allclose(model.history.losses, twin.history.losses, rtol=1e-4)
    torch.testing.assert_close(weights_of(model), weights_of(twin), rtol=1e-4, atol=1e-4)
