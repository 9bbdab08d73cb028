"""A fitted model that diverges says so, and what it holds since; so does every further use of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.evaluation import mrr_score, rmse_score, sequence_mrr_score
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.sequence.implicit import ImplicitSequenceModel

USERS, ITEMS = 12, 30
every_model = pytest.mark.parametrize(
    "cls", [ImplicitFactorizationModel, ExplicitFactorizationModel, ImplicitSequenceModel]
)


def data(cls):
    rng = np.random.RandomState(3)
    users, items = rng.randint(0, USERS, 200), rng.randint(1, ITEMS, 200)
    interactions = Interactions(users, items, rng.rand(200), np.arange(200), num_users=USERS, num_items=ITEMS)
    return interactions.to_sequence(5) if cls is ImplicitSequenceModel else interactions


def diverged(cls):
    model = cls(n_iter=3, batch_size=32, embedding_dim=4, random_state=0)
    model.fit(data(cls))
    model.learning_rate = 1e38
    with pytest.raises(ValueError, match=r"diverged.*The network keeps the steps taken.*make a new model.*load"):
        model.fit(data(cls))
    return model


@every_model
def test_a_further_fit_names_the_parameter(cls):
    model = diverged(cls)
    epochs = len(model.history)
    model.learning_rate = 1e-2
    with pytest.raises(
        ValueError, match=r"the network's parameter \w+_\w+\.weight holds (nan|-?inf): .*make a new model"
    ):
        model.fit(data(cls))
    assert len(model.history) == epochs


def poisoned(cls, value=np.nan):
    model = cls(n_iter=1, embedding_dim=4, random_state=0)
    model.fit(data(cls))
    with torch.no_grad():
        model._net.item_embeddings.weight[7, 1] = value
    return model


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@every_model
def test_one_value_is_enough(cls, value):
    with pytest.raises(ValueError, match=f"parameter item_embeddings.weight holds {value}"):
        poisoned(cls, value).fit(data(cls))


def test_parameters_that_are_not_trained_may_hold_what_they_like():
    net = BilinearNet(USERS, ITEMS, 4)
    net.register_parameter("ceiling", torch.nn.Parameter(torch.tensor([np.inf]), requires_grad=False))
    net.register_parameter("nothing", torch.nn.Parameter(torch.empty(0)))
    with pytest.warns(UserWarning, match="autograd"):
        ImplicitFactorizationModel(n_iter=1, representation=net).fit(data(ImplicitFactorizationModel))


def test_a_passed_in_network_that_diverges_in_the_first_fit_is_named():
    model = ImplicitFactorizationModel(n_iter=3, representation=BilinearNet(USERS, ITEMS, 4), learning_rate=1e38)
    interactions = data(ImplicitFactorizationModel)
    with pytest.raises(ValueError, match=r"diverged.*keeps the steps taken.*with a new representation"):
        model.fit(interactions)
    assert not model._initialized
    with pytest.raises(ValueError, match=r"the network's parameter \w+\.weight holds"):
        model.fit(interactions)


@pytest.mark.parametrize("cls", [ImplicitFactorizationModel, ExplicitFactorizationModel])
def test_predictions_that_are_nan_name_user_and_item(cls):
    model = poisoned(cls)
    for asked in [(3,), (3, [1, 7]), ([3, 4], [7, 1]), ([3, 4],), (3, 7)]:
        with pytest.raises(ValueError, match="the prediction of user 3 for item 7 is NaN"):
            model.predict(*asked)
    assert np.isfinite(model.predict(3, [1, 6])).all()


def test_predictions_that_are_nan_name_the_sequence():
    model = poisoned(ImplicitSequenceModel)
    for asked in [([3, 4],), ([[3, 4], [1, 2]],), ([3], [1, 7])]:
        with pytest.raises(ValueError, match="the prediction after sequence 0 for item 7 is NaN"):
            model.predict(*asked)
    with pytest.raises(ValueError, match="the prediction after sequence 1 for item 1 is NaN"):
        model.predict([[3, 4], [1, 7]], [1, 2])


def test_scores_and_lists_of_such_models_are_refused():
    model, test = poisoned(ExplicitFactorizationModel), data(ExplicitFactorizationModel)
    for use in (mrr_score, rmse_score):
        with pytest.raises(ValueError, match=r"of user \d+ for item 7 is NaN"):
            use(model, test)
    with pytest.raises(ValueError, match="of user 0 for item 7 is NaN"):
        model.recommend([0, 1])
    model, test = poisoned(ImplicitSequenceModel), data(ImplicitSequenceModel)
    with pytest.raises(ValueError, match=r"after sequence \d+ for item \d+ is NaN"):
        sequence_mrr_score(model, test)
