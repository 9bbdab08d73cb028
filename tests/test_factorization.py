"""Both factorization models: training semantics, and Spotlight's defects that must not come back."""

from __future__ import annotations

import contextlib
import signal

import numpy as np
import pytest
import torch
from small_factorization_models import (
    EXPLICIT,
    IMPLICIT,
    ITEMS,
    USERS,
    TwoTowers,
    data,
    fitted,
    weights_of,
    weights_of_net,
)

from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions

LOSSES = [(cls, loss) for cls in (IMPLICIT, EXPLICIT) for loss in cls.LOSSES]


@pytest.mark.parametrize(("cls", "loss"), LOSSES)
def test_loss_falls(cls, loss):
    model = fitted(cls, loss=loss, n_iter=8)
    assert model.history.losses[-1] < model.history.losses[0]
    assert len(model.history) == 8


@pytest.mark.parametrize(("cls", "loss"), LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
def test_first_step_is_the_plain_one(cls, loss, weighted):
    """One batch of everything: the order does not matter, and SGD shows the gradient of the documented mean."""
    interactions = data(weights=weighted)
    net, twin = (BilinearNet(USERS, ITEMS, 8) for _ in range(2))
    twin.load_state_dict(net.state_dict())
    options = {"negatives": "uniform"} if cls is IMPLICIT else {}
    model = cls(
        loss=loss,
        n_iter=1,
        batch_size=10_000,
        representation=net,
        optimizer_func=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        random_state=5,
        **options,
    )
    model.fit(interactions)
    assert model._net is net
    expected = _mean_loss(cls, loss, twin, interactions, model)
    expected.backward()
    assert model.history.losses[0] == pytest.approx(expected.item(), rel=1e-6)
    for trained, plain in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(trained.detach(), (plain - 0.5 * plain.grad).detach(), rtol=1e-5, atol=1e-7)


def _mean_loss(cls, loss, net, interactions, model):
    from spotfast.ops import negatives, permutation

    seed, count = model._stream_seed, len(interactions)
    order = permutation.permutation(seed, 0, count)
    users, items = (torch.from_numpy(ids)[order] for ids in (interactions.user_ids, interactions.item_ids))
    scores = net(users, items)
    if cls is IMPLICIT:
        slots = 5 if loss == "adaptive_hinge" else 1
        drawn = negatives.uniform(seed, 0, 0, count, slots, ITEMS)
        negative = torch.stack([net(users, column) for column in drawn.T]).max(dim=0).values
        difference = scores - negative
        values = {
            "pointwise": 1 - scores.sigmoid() + negative.sigmoid(),
            "bpr": 1 - difference.sigmoid(),
            "hinge": (1 - difference).clamp(min=0),
            "adaptive_hinge": (1 - difference).clamp(min=0),
        }[loss]
    else:
        ratings = torch.from_numpy(interactions.ratings)[order]
        values = {
            "regression": (ratings - scores) ** 2,
            "poisson": scores.exp() - ratings * scores,
            "logistic": torch.nn.functional.softplus(scores) - ratings.clamp(0, 1) * scores,
        }[loss]
    if interactions.weights is not None:
        values = values * torch.from_numpy(interactions.weights.astype(np.float32))[order]
    return values.sum() / count


@pytest.mark.parametrize("cls", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("sparse", [False, True])
def test_fit_twice_is_fit_once(cls, sparse):
    once = fitted(cls, n_iter=4, sparse=sparse)
    twice = fitted(cls, n_iter=2, sparse=sparse)
    twice.fit(data())
    assert once.history == twice.history
    assert torch.equal(weights_of(once), weights_of(twice))  # rows are brought up to date after every epoch


def test_sparse_has_the_results_of_dense_adam():
    dense, sparse = fitted(loss="bpr", n_iter=6), fitted(loss="bpr", n_iter=6, sparse=True)
    torch.testing.assert_close(weights_of(sparse), weights_of(dense), rtol=1e-4, atol=1e-5)


def test_l2_means_the_same_for_sparse():
    dense, sparse = (fitted(loss="bpr", n_iter=3, l2=1e-3, sparse=sparse) for sparse in (False, True))
    torch.testing.assert_close(weights_of(sparse), weights_of(dense), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("random_state", [0, 7, np.int64(7)])
def test_same_seed_same_model_and_no_global_state(random_state):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    # Built before either is fitted.
    models = [IMPLICIT(n_iter=1, random_state=random_state) for _ in range(2)]
    for model in models:
        model.fit(data())
    assert torch.equal(weights_of(models[0]), weights_of(models[1]))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_random_state_is_advanced():
    source = np.random.RandomState(1)
    first, second = fitted(random_state=source), fitted(random_state=source)
    assert not torch.equal(weights_of(first), weights_of(second))
    assert torch.equal(
        weights_of(fitted(random_state=np.random.default_rng(2))),
        weights_of(fitted(random_state=np.random.default_rng(2))),
    )


def sgd(parameters):
    """Unlike Adam, it does not make large steps of small gradients, which are little but rounding errors."""
    return torch.optim.SGD(parameters, lr=1.0)


@pytest.mark.parametrize("loss", IMPLICIT.LOSSES)
def test_custom_network_trains_like_the_built_in_one(loss):
    class Subclass(BilinearNet):
        pass

    nets = [BilinearNet(USERS, ITEMS, 8), Subclass(USERS, ITEMS, 8)]
    nets[1].load_state_dict(nets[0].state_dict())
    before = weights_of_net(nets[0])
    models = [fitted(loss=loss, representation=net, n_iter=1, optimizer_func=sgd) for net in nets]
    assert (weights_of(models[0]) - before).abs().max() > 1e-2
    torch.testing.assert_close(weights_of(models[1]), weights_of(models[0]), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(models[1].predict(3), models[0].predict(3), rtol=1e-5, atol=1e-6)
    assert fitted(loss=loss, representation=TwoTowers()).predict(0).shape == (ITEMS,)


@pytest.mark.parametrize("negatives", ["uniform", "unseen", "popularity"])
def test_users_of_every_item(negatives):
    interactions = Interactions(np.repeat([0, 1], [4, 2]), [0, 1, 2, 3, 0, 1])
    model = IMPLICIT(n_iter=1, negatives=negatives)
    if negatives == "uniform":
        model.fit(interactions)
    else:
        with pytest.warns(UserWarning, match="user 0"):
            model.fit(interactions)
    assert np.isfinite(model.history.losses[0])


def test_one_row_in_the_last_batch():
    model = IMPLICIT(loss="adaptive_hinge", n_iter=1, batch_size=256)
    model.fit(data(257))
    assert np.isfinite(model.history.losses[0])


def test_learning_rate():
    model = IMPLICIT(n_iter=1, learning_rate=0.5)
    model.learning_rate = 0.25
    model.fit(data())
    assert model.learning_rate == model._optimizer.param_groups[0]["lr"] == 0.25
    model.learning_rate = 0.125
    assert model._optimizer.param_groups[0]["lr"] == 0.125


def test_verbose_prints_spotlights_line(capsys):
    model = IMPLICIT(n_iter=2)
    model.fit(data(), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Epoch {n}: loss {loss}" for n, loss in enumerate(model.history.losses)]


@pytest.mark.parametrize("sparse", [False, True])
def test_interrupt_takes_effect_between_steps(monkeypatch, sparse):
    monkeypatch.setenv("SPOTFAST_BACKEND", "reference")  # steps can be counted there
    model, twin = fitted(sparse=sparse), fitted(sparse=sparse)
    steps = []
    step = type(model._optimizer).step

    def interrupted(self, closure=None):
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)  # before the step, which is finished all the same
        return step(self, closure)

    monkeypatch.setattr(type(model._optimizer), "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(data())
    monkeypatch.setattr(type(model._optimizer), "step", step)
    assert len(steps) == 3
    assert len(model.history) == 3
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    # The twin takes the same three steps.
    monkeypatch.setattr("spotfast.training.loop.deferred_interrupt", _after_three_steps)
    twin._n_iter = 1
    twin.fit(data())
    assert torch.equal(weights_of(model), weights_of(twin))


@contextlib.contextmanager
def _after_three_steps():
    asked = []

    class Event:
        def is_set(self):
            asked.append(1)
            return len(asked) == 3

    yield Event()


def test_bilinear_is_spotlights(golden):
    net = BilinearNet(7, 9, 5)
    net.load_state_dict(
        {k.removeprefix("bilinear/state/"): torch.from_numpy(golden[k]) for k in golden if "bilinear/state/" in k}
    )
    scores = net(torch.from_numpy(golden["bilinear/users"]), torch.from_numpy(golden["bilinear/items"]))
    np.testing.assert_allclose(scores.detach(), golden["bilinear/scores"], rtol=1e-6)
    assert net(torch.tensor([1]), torch.tensor([2])).shape == (1,)
