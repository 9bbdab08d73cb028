"""A model and a train and a test set of MovieLens-20M's shape, to be evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import harness
import numpy as np
import shapes
import torch
from numpy.typing import NDArray

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

TEST_SHARE = 0.2
CLOSE = 1e-5  # predictions that add up the same products in another order
MATRIX_USERS = 512  # rows of a bare product at a time, which is faster than all at once


@dataclass(frozen=True)
class Evaluation:
    """What a score is computed from, for the users from 0 to `users`.

    Attributes:
        model: knows all users of the shape.
        train, test: interactions of the evaluated users only, so that work grows with their number.
        users: how many are evaluated.
    """

    model: ImplicitFactorizationModel
    train: Interactions
    test: Interactions
    users: int

    def of_first(self, users: int) -> Evaluation:
        """Return the same for fewer users."""
        train, test = (data.take(data.user_ids < users) for data in (self.train, self.test))
        return Evaluation(self.model, train, test, users)


def make(users: int) -> Evaluation:
    """Make a model with vectors as long as fitted ones, and the interactions of some users."""
    rng = np.random.default_rng(0)
    shape = shapes.MOVIELENS_20M
    user_ids, item_ids = shapes.distinct_pairs(shape, shapes.activity(shape, users, rng), rng)
    data = Interactions(user_ids, item_ids, num_users=shape.users, num_items=shape.items)
    in_test = rng.random(len(data)) < TEST_SHARE
    model = ImplicitFactorizationModel(embedding_dim=32, n_iter=0, negatives="uniform", random_state=0)
    model.fit(data)
    assert model._net is not None
    generator = torch.Generator().manual_seed(0)
    for parameter in model._net.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return Evaluation(model, data.take(~in_test), data.take(in_test), users)


def per_1000(evaluation: Evaluation, times: list[float]) -> list[float]:
    """Convert the seconds of an evaluation to seconds per 1,000 users."""
    return [1000 * taken / evaluation.users for taken in times]


def predict(evaluation: Evaluation, user: int) -> NDArray[Any]:
    """Predict with spotfast's own `predict`."""
    return evaluation.model.predict(user)


def spotlight_predict(evaluation: Evaluation, user: int) -> NDArray[Any]:
    """Predict as Spotlight does: gather a row of both tables for every item, sum the products, add the biases.

    Gradients are not switched off there, either.
    """
    net = evaluation.model._net
    assert net is not None
    items = torch.from_numpy(np.arange(evaluation.test.num_items).reshape(-1, 1))
    users = torch.from_numpy(np.array([[user]])).expand(items.size())
    dot = (net.user_embeddings(users).squeeze() * net.item_embeddings(items).squeeze()).sum(1)
    scores = dot + net.user_biases(users).squeeze() + net.item_biases(items).squeeze()
    return scores.detach().numpy().flatten()


def check_predictions(evaluation: Evaluation) -> None:
    """See that Spotlight's predictions are ours, to the last bits."""
    for user in range(10):
        difference = np.abs(spotlight_predict(evaluation, user) - predict(evaluation, user)).max()
        harness.require(bool(difference <= CLOSE), f"predictions for user {user} differ by up to {difference:.3g}")


def product(evaluation: Evaluation) -> None:
    """Multiply the users' vectors with those of all items, and nothing else: `torch.mm`, in one buffer."""
    net = evaluation.model._net
    assert net is not None
    users, items = net.user_embeddings.weight.detach()[: evaluation.users], net.item_embeddings.weight.detach()
    buffer = torch.empty(MATRIX_USERS, len(items))
    for start in range(0, len(users), MATRIX_USERS):
        some = users[start : start + MATRIX_USERS]
        torch.mm(some, items.T, out=buffer[: len(some)])
