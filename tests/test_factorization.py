"""Both factorization models: training semantics, prediction, and Spotlight's defects that must not come back."""

from __future__ import annotations

import contextlib
import signal
from functools import partial

import numpy as np
import pytest
import torch

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.layers import BloomEmbedding

USERS, ITEMS = 12, 30
IMPLICIT, EXPLICIT = ImplicitFactorizationModel, ExplicitFactorizationModel
LOSSES = [(cls, loss) for cls in (IMPLICIT, EXPLICIT) for loss in cls.LOSSES]


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


@pytest.mark.parametrize("cls", [IMPLICIT, EXPLICIT])
@pytest.mark.parametrize("make", [None, TwoTowers])
def test_predict(cls, make):
    model = fitted(cls, representation=make and make(), loss=cls.LOSSES[-1])
    every = np.arange(ITEMS)
    row = model.predict(4)
    assert row.dtype == np.float32
    assert row.flags.writeable and row.shape == (ITEMS,)
    for same in (
        model.predict(np.int32(4)),
        model.predict(4, every),
        model.predict(4, every[:, np.newaxis]),
        model.predict(np.full(ITEMS, 4), every),
        model.predict([4]),
        model.predict([4, 5])[0],
    ):
        assert np.array_equal(same, row)
    assert model.predict([4, 5]).shape == (2, ITEMS)
    assert model.predict(np.arange(USERS)).shape == (USERS, ITEMS)
    assert np.array_equal(model.predict(4, [7]), row[[7]])
    assert np.array_equal(model.predict([4], [7]), row[[7]])


def test_predict_leaves_the_network_in_its_mode():
    net = TwoTowers()
    net.dropout = torch.nn.Dropout(0.5)
    model = fitted(representation=net)
    model.predict(1)
    assert net.training
    assert net.dropout.training
    net.dropout.eval()
    model.predict(1)
    assert net.training
    assert not net.dropout.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "nope"}, "loss must be one of"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_iter": -1}, "n_iter"),
        ({"l2": -0.1}, "l2"),
        ({"l2": float("nan")}, "l2"),
        ({"learning_rate": "fast"}, "learning_rate"),
        ({"num_negative_samples": 0}, "num_negative_samples"),
        ({"negatives": "some"}, "negatives must be one of"),
        ({"random_state": -1}, "random_state"),
        ({"random_state": "seed"}, "random_state"),
        ({"representation": 3}, "representation"),
        ({"optimizer_func": 3}, "optimizer_func"),
        ({"device": "nowhere"}, "device"),
        ({"use_cuda": True, "device": "cpu"}, "contradict"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        IMPLICIT(**arguments)


def test_fit_names_what_is_wrong_and_changes_nothing():
    with pytest.raises(ValueError, match="fitted"):
        IMPLICIT().predict(0)
    with pytest.raises(TypeError, match="interactions"):
        IMPLICIT().fit("data")
    with pytest.raises(ValueError, match="empty"):
        IMPLICIT().fit(Interactions([], [], num_users=2, num_items=2))
    with pytest.raises(ValueError, match="ratings"):
        EXPLICIT().fit(Interactions([0], [1]))
    with pytest.raises(ValueError, match="num_users"):
        IMPLICIT(representation=BilinearNet(2, ITEMS)).fit(data())
    model = fitted()
    before = weights_of(model)
    for bad in (Interactions([USERS], [0]), Interactions([0], [ITEMS])):
        with pytest.raises(ValueError, match="first fit"):
            model.fit(bad)
    changed = data()
    changed.user_ids[3] = -1
    with pytest.raises(ValueError, match="-1 at position 3"):
        model.fit(changed)
    assert torch.equal(weights_of(model), before)
    assert len(model.history) == 2
    for bad_ids in ((USERS, None), (-1, None), (0, [ITEMS]), ([0, 1], [1, 2, 3]), ([0, 1], [5])):
        with pytest.raises(ValueError, match="_ids"):
            model.predict(*bad_ids)


def test_diverging_loss_raises_and_zero_does_not():
    with pytest.raises(ValueError, match="diverged"):
        fitted(EXPLICIT, loss="poisson", learning_rate=1e6)
    net = BilinearNet(2, 2, 1)
    with torch.no_grad():
        net.item_biases.weight.copy_(torch.tensor([[9.0], [0.0]]))
    model = IMPLICIT(loss="hinge", n_iter=1, representation=net, learning_rate=1e-3)
    model.fit(Interactions([0, 1], [0, 0], num_items=2))
    assert model.history.losses == [0.0]


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


def test_failed_first_fit_leaves_the_model_as_new():
    class Wrong(TwoTowers):
        def forward(self, user_ids, item_ids):
            return torch.zeros(3)

    source = np.random.RandomState(1)
    model = IMPLICIT(representation=Wrong(), random_state=source)
    with pytest.raises(ValueError, match="scores of shape"):
        model.fit(data())
    assert not model._initialized
    assert len(model.history) == 0
    state = source.get_state()[1].copy()
    with pytest.raises(TypeError, match="optimizer_func"):
        IMPLICIT(optimizer_func=lambda parameters: 3, random_state=source).fit(data())
    assert np.array_equal(source.get_state()[1], state)
    small = BilinearNet(USERS, ITEMS, 8, user_embedding_layer=torch.nn.Embedding(3, 8))
    with pytest.raises(ValueError, match="num_users"):
        IMPLICIT(representation=small).fit(data())


def test_same_bits_however_many_are_asked_for():
    """With a length that fills no vector register: the functions that map scores must not depend on it."""
    interactions = Interactions([0, 1], [5, 1002], ratings=[1.0, 0.0])
    for loss in EXPLICIT.LOSSES:
        net = BilinearNet(2, 1003, 16)
        torch.nn.init.normal_(net.item_biases.weight)
        model = EXPLICIT(loss=loss, n_iter=0, representation=net)
        model.fit(interactions)
        rows = model.predict([0, 1])
        for user in (0, 1):
            assert np.array_equal(model.predict(user), rows[user])
            assert np.array_equal([model.predict(user, [item])[0] for item in range(1003)], rows[user])


def test_networks_changed_from_outside_are_called():
    net = BilinearNet(USERS, ITEMS, 8)
    model = fitted(representation=net)
    net.forward = lambda user_ids, item_ids: torch.full((len(user_ids),), 7.0)
    assert (model.predict(1) == 7).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_save_and_load(tmp_path, sparse):
    model = fitted(loss="bpr", sparse=sparse)
    model.save(tmp_path / "model")
    loaded = IMPLICIT.load(tmp_path / "model")
    assert np.array_equal(loaded.predict([1, 2]), model.predict([1, 2]))
    for each in (model, loaded):
        each.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
    assert model.history == loaded.history
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_load_names_what_is_wrong(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(ValueError, match="fitted"):
        IMPLICIT().save(path)
    fitted(representation=TwoTowers()).save(path)
    with pytest.raises(ValueError, match="TwoTowers"):
        IMPLICIT.load(path)
    with pytest.raises(ValueError, match="not a ExplicitFactorizationModel"):
        EXPLICIT.load(path)
    assert IMPLICIT.load(path, representation=TwoTowers()).predict(0).shape == (ITEMS,)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged"):
        IMPLICIT.load(path)
    with pytest.raises(FileNotFoundError):
        IMPLICIT.load(tmp_path / "nothing")


@pytest.mark.parametrize("sparse", [False, True])
def test_pickled_by_torch(tmp_path, sparse):
    model = fitted(sparse=sparse)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert np.array_equal(loaded.predict(3), model.predict(3))
    loaded.fit(data())
    model.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))


def test_bilinear_is_spotlights(golden):
    net = BilinearNet(7, 9, 5)
    net.load_state_dict(
        {k.removeprefix("bilinear/state/"): torch.from_numpy(golden[k]) for k in golden if "bilinear/state/" in k}
    )
    scores = net(torch.from_numpy(golden["bilinear/users"]), torch.from_numpy(golden["bilinear/items"]))
    np.testing.assert_allclose(scores.detach(), golden["bilinear/scores"], rtol=1e-6)
    assert net(torch.tensor([1]), torch.tensor([2])).shape == (1,)


@pytest.mark.parametrize("make", [torch.nn.Embedding, partial(BloomEmbedding, compression_ratio=1.0)])
def test_tables_passed_in_must_hold_all_ids(make):
    data = Interactions([0, 1], [1, 6])
    for layers, message in (
        ({"item_embedding_layer": make(6, 4)}, "num_items of at least 7, as the interactions, got 6"),
        ({"user_embedding_layer": make(1, 4)}, "num_users of at least 2, as the interactions, got 1"),
    ):
        net = BilinearNet(2, 7, embedding_dim=4, **layers)
        with pytest.raises(ValueError, match=message):
            ImplicitFactorizationModel(representation=net).fit(data)


def test_errors_inside_anyones_network_say_what_it_was_called_with():
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.items = torch.nn.Embedding(3, 1)

        def forward(self, users, items):
            return self.items(items).squeeze(1)

    model = ImplicitFactorizationModel(n_iter=1, representation=Small())
    with pytest.raises(IndexError) as caught:
        model.fit(data())
    assert "raised in forward of representation, called with user_ids of shape" in caught.value.__notes__[0]


def test_a_network_without_parameters_is_refused():
    class Constant(torch.nn.Module):
        def forward(self, users, items):
            return torch.zeros(len(users))

    with pytest.raises(ValueError, match="representation must have parameters to train, got a Constant"):
        ImplicitFactorizationModel(representation=Constant()).fit(data())


def test_saving_into_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be in a folder that exists, got .*missing"):
        fitted().save(tmp_path / "missing" / "model")
