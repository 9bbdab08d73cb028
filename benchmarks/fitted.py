"""A model and a train and a test set of MovieLens-20M's shape, to be evaluated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapes
import torch

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions

TEST_SHARE = 0.2


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
