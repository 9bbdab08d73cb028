"""Models on the C++ engine: which ones it trains, that they are those of autograd, and what an optimizer keeps."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import signal
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

import spotfast
from spotfast import backends
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import NEGATIVES, ImplicitFactorizationModel
from spotfast.factorization.model import NotRecognisedError
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.layers import BloomEmbedding
from spotfast.optim import DeferredAdam, RowwiseAdagrad
from spotfast.training.recognition import rule_of

USERS, ITEMS, DIM = 40, 30, 8
IMPLICIT, EXPLICIT = ImplicitFactorizationModel, ExplicitFactorizationModel
LOSSES = [(cls, loss) for cls in (IMPLICIT, EXPLICIT) for loss in cls.LOSSES]
SMOOTH = [(cls, loss) for cls, loss in LOSSES if "hinge" not in loss]
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
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)

pytestmark = [
    pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),  # of torch's own Adagrad
]


def data(count=1000, users=USERS, items=ITEMS, weighted=False):
    rng = np.random.RandomState(3)
    return Interactions(
        (users * rng.rand(count) ** 2).astype(np.int32),
        (items * rng.rand(count) ** 2).astype(np.int32),
        ratings=rng.rand(count).astype(np.float32),
        weights=rng.rand(count).astype(np.float32) if weighted else None,
        num_users=users,
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


@pytest.fixture
def no_autograd(monkeypatch):
    """Training through autograd is an error."""

    def fail(*arguments):
        raise AssertionError("the engine did not recognise this model")

    monkeypatch.setattr("spotfast.factorization.model.AutogradEngine", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture
def autograd(monkeypatch):
    """`with autograd():` models train through autograd."""

    def refuse(*arguments):
        raise NotRecognisedError("this is a test")

    @contextlib.contextmanager
    def patched():
        with monkeypatch.context() as patch:
            patch.setattr("spotfast.factorization.model.FactorizationEngine", refuse)
            yield

    return patched


@pytest.mark.usefixtures("no_autograd")
class TestRecognised:
    @every_optimizer
    def test_plain_optimizers(self, optimizer):
        losses = fitted(**OPTIMIZERS[optimizer]).history.losses
        assert losses[2] < losses[0]

    @pytest.mark.parametrize(("cls", "loss"), LOSSES)
    def test_every_loss(self, cls, loss):
        losses = fitted(cls, data(weighted=True), loss=loss, l2=1e-4, learning_rate=0.1).history.losses
        assert losses[2] < losses[0]

    def test_plain_tables(self):
        layers = {"user_embedding_layer": nn.Embedding(USERS, DIM), "item_embedding_layer": nn.Embedding(ITEMS, DIM)}
        net = BilinearNet(USERS, ITEMS, DIM, **layers)
        assert fitted(representation=net)._net is net

    @pytest.mark.parametrize("negatives", NEGATIVES)
    def test_tables_larger_than_the_data(self, negatives):
        net = BilinearNet(USERS + 7, ITEMS + 30, DIM)
        before = copy.deepcopy(net)
        fitted(representation=net, negatives=negatives)
        assert torch.equal(net.item_embeddings.weight[ITEMS:], before.item_embeddings.weight[ITEMS:])
        assert not torch.equal(net.item_embeddings.weight[:ITEMS], before.item_embeddings.weight[:ITEMS])

    def test_a_scheduler_of_the_learning_rate(self):
        model = fitted()
        torch.optim.lr_scheduler.StepLR(model._optimizer, 1)
        model.fit(data())

    def test_a_learning_rate_in_a_tensor(self):
        fitted(optimizer_func=lambda parameters: torch.optim.Adam(parameters, lr=torch.tensor(1e-2)))

    @pytest.mark.parametrize("negatives", NEGATIVES)
    def test_models_with_raw_ids_never_touch_padding(self, negatives):
        rng = np.random.RandomState(1)
        frame = pd.DataFrame({"user": rng.randint(0, 9, 300), "item": rng.randint(0, 50, 300)})
        model = made(n_iter=0, negatives=negatives)
        interactions = Interactions.from_frame(frame, user="user", item="item")
        model.fit(interactions)
        assert model.id_map.items.first == 1
        before = copy.deepcopy(model._net)
        model._n_iter = 2
        model.fit(interactions)
        for name in ("item_embeddings", "item_biases"):
            moved = (getattr(model._net, name).weight != getattr(before, name).weight).any(dim=1)
            assert moved.tolist() == [False] + [True] * frame["item"].nunique()


class TwoTowers(nn.Module):
    """Anyone's network, with none of our attributes."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(USERS, 4)
        self.items = nn.Embedding(ITEMS, 4)

    def forward(self, user_ids, item_ids):
        return (self.users(user_ids) * self.items(item_ids)).sum(1)


class Subclass(BilinearNet):
    pass


class OwnAdam(torch.optim.Adam):
    pass


def changed(change):
    """A built-in network, of as many items as users, after `change(net)`."""
    net = BilinearNet(USERS, USERS, DIM)
    change(net)
    return net


def replace_forward(net):
    net.forward = net.forward


def share_weights(net):
    net.user_embeddings.weight = net.item_embeddings.weight


def hooked(parameters):
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    optimizer.register_step_post_hook(lambda *arguments: None)
    return optimizer


def own_step(parameters):
    optimizer = torch.optim.Adam(parameters, lr=1e-2)
    plain = optimizer.step
    optimizer.step = lambda closure=None: plain(closure)
    return optimizer


def two_groups(parameters):
    first, *others = parameters
    return torch.optim.Adam([{"params": [first]}, {"params": others, "lr": 1e-3}], lr=1e-2)


OTHER_NETWORKS = {
    "the network is a TwoTowers": TwoTowers,
    "the network is a Subclass": lambda: Subclass(USERS, ITEMS, DIM),
    "the network has hooks, or methods of its own": lambda: changed(replace_forward),
    "the network has hooks": lambda: changed(lambda net: net.register_forward_hook(lambda *arguments: None)),
    "item_biases has hooks": lambda: changed(
        lambda net: net.item_biases.register_forward_pre_hook(lambda *arguments: None)
    ),
    "user_biases has hooks": lambda: changed(
        lambda net: net.user_biases.register_forward_hook(lambda *arguments: None)
    ),
    "user_embeddings has hooks on its gradient": lambda: changed(
        lambda net: net.user_embeddings.weight.register_hook(lambda gradient: None)
    ),
    "item_embeddings has hooks on its gradient": lambda: changed(
        lambda net: net.item_embeddings.weight.register_post_accumulate_grad_hook(lambda weight: None)
    ),
    "item_embeddings is frozen": lambda: changed(lambda net: net.item_embeddings.weight.requires_grad_(False)),
    "user_embeddings is torch.float64": lambda: changed(lambda net: net.double()),
    "layers share their weights": lambda: changed(share_weights),
    "item_embeddings is a BloomEmbedding": lambda: BilinearNet(
        USERS, ITEMS, DIM, item_embedding_layer=BloomEmbedding(ITEMS, DIM)
    ),
    "item_embeddings has padding_idx=0": lambda: BilinearNet(
        USERS, ITEMS, DIM, item_embedding_layer=nn.Embedding(ITEMS, DIM, padding_idx=0)
    ),
    "user_embeddings has max_norm=1.0": lambda: BilinearNet(
        USERS, ITEMS, DIM, user_embedding_layer=nn.Embedding(USERS, DIM, max_norm=1.0)
    ),
    "item_embeddings has scale_grad_by_freq=True": lambda: BilinearNet(
        USERS, ITEMS, DIM, item_embedding_layer=nn.Embedding(ITEMS, DIM, scale_grad_by_freq=True)
    ),
    "there are not as many biases as vectors": lambda: BilinearNet(
        USERS, ITEMS, DIM, item_embedding_layer=nn.Embedding(ITEMS + 5, DIM)
    ),
    "the optimizer is not over all tables and nothing else": lambda: changed(
        lambda net: net.register_parameter("temperature", nn.Parameter(torch.ones(())))
    ),
}
OTHER_OPTIMIZERS = {
    "RMSprop": torch.optim.RMSprop,
    "OwnAdam": OwnAdam,
    "the optimizer has hooks": hooked,
    "the optimizer has a step of its own": own_step,
    "2 groups of parameters": two_groups,
    "not over all tables": lambda parameters: torch.optim.Adam(list(parameters)[:3], lr=1e-2),
    "amsgrad=True": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, amsgrad=True),
    "maximize=True": lambda parameters: torch.optim.Adam(parameters, lr=1e-2, maximize=True),
    "nesterov=True": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "dampening=0.5": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, dampening=0.5),
    "weight_decay=0.01": lambda parameters: torch.optim.SGD(parameters, lr=0.1, weight_decay=0.01),
    "weight_decay=0.02": lambda parameters: torch.optim.Adagrad(parameters, lr=0.1, weight_decay=0.02),
    r"lr \* weight_decay = 0.5": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=5.0),
}


class TestNotRecognised:
    @staticmethod
    def fit_with_one_warning(message, **arguments):
        """The model, not fitted before; it must have moved."""
        model = made(n_iter=0, **arguments)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(data())
        before, model._n_iter = weights_of(model).clone(), 1
        with pytest.warns(spotfast.PerformanceWarning, match=message) as record:
            model.fit(data())
        files = [each.filename for each in record if each.category is spotfast.PerformanceWarning]
        assert files == [__file__]
        assert math.isfinite(model.history.losses[0])
        assert not torch.equal(weights_of(model), before)

    @pytest.mark.parametrize("reason", OTHER_NETWORKS)
    def test_networks(self, reason):
        self.fit_with_one_warning(reason, representation=OTHER_NETWORKS[reason]())

    @pytest.mark.parametrize("reason", OTHER_OPTIMIZERS)
    def test_optimizers(self, reason):
        self.fit_with_one_warning(reason, optimizer_func=OTHER_OPTIMIZERS[reason])

    @pytest.mark.filterwarnings("ignore:Full backward hook is firing")  # the inputs are ids
    @pytest.mark.parametrize(
        ("register", "what"),
        [
            (modules.register_module_forward_hook, "modules"),
            (modules.register_module_forward_pre_hook, "modules"),
            (modules.register_module_full_backward_hook, "modules"),
            (modules.register_module_full_backward_pre_hook, "modules"),
            (optimizers.register_optimizer_step_pre_hook, "optimizers"),
            (optimizers.register_optimizer_step_post_hook, "optimizers"),
        ],
    )
    def test_hooks_of_all(self, register, what):
        seen = []
        handle = register(lambda subject, *arguments: seen.append(type(subject)))
        try:
            self.fit_with_one_warning(f"torch has hooks on all {what}")
        finally:
            handle.remove()
        assert (torch.optim.Adam if what == "optimizers" else BilinearNet) in seen
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fitted()

    def test_momentum_of_sparse_gradients(self):
        optimizer = OPTIMIZERS["SGD with momentum"]["optimizer_func"]
        self.fit_with_one_warning("SGD needs tables with sparse=False", optimizer_func=optimizer, sparse=True)

    def test_nothing_added_to_the_denominator(self):
        def optimizer(parameters):
            return torch.optim.Adagrad(parameters, lr=0.1, eps=0.0)

        self.fit_with_one_warning("eps=0", optimizer_func=optimizer, sparse=True, loss="pointwise")

    def test_the_reference_as_the_environment_wants_it(self, monkeypatch):
        monkeypatch.setenv("SPOTFAST_BACKEND", "reference")
        self.fit_with_one_warning("the C\\+\\+ engine cannot run: SPOTFAST_BACKEND=reference is set")

    def test_tables_with_different_pasts(self):
        model = fitted()
        model._optimizer.state[model._net.item_biases.weight]["step"] += 1
        with pytest.warns(spotfast.PerformanceWarning, match="different numbers of steps"):
            model.fit(data())


def test_adamw_is_decoupled_where_torch_does_not_say_so():
    """As up to torch 2.6."""
    layers = (nn.Embedding(3, 2), nn.Embedding(3, 1))
    optimizer = torch.optim.AdamW([layer.weight for layer in layers], lr=1e-2, weight_decay=0.1)
    optimizer.param_groups[0].pop("decoupled_weight_decay", None)
    rule = rule_of(optimizer, layers)
    assert rule.decoupled
    assert rule.weight_decay == 0.1


@pytest.mark.parametrize("name", ["ratings", "weights"])
def test_numbers_too_large_for_float32(name):
    interactions = data(count=5)
    setattr(interactions, name, np.full(5, 1e39))
    model = made(EXPLICIT)
    with pytest.raises(ValueError, match=f"{name} must be at most 3.4e\\+38 in magnitude, got 1e\\+39"):
        model.fit(interactions)
    assert model._net is None


class TestAgainstAutograd:
    """The same negatives in the same order: what smooth losses train is the same but for rounding."""

    @staticmethod
    def assert_close(model, twin):
        np.testing.assert_allclose(model.history.losses, twin.history.losses, rtol=1e-4)
        torch.testing.assert_close(weights_of(model), weights_of(twin), rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize(("cls", "loss"), SMOOTH)
    @pytest.mark.parametrize("weighted", [False, True])
    def test_smooth_losses(self, autograd, cls, loss, weighted):
        model = fitted(cls, data(weighted=weighted), loss=loss)
        with autograd():
            self.assert_close(model, fitted(cls, data(weighted=weighted), loss=loss))

    @every_optimizer
    def test_optimizers(self, autograd, optimizer):
        model = fitted(**OPTIMIZERS[optimizer])
        with autograd():
            self.assert_close(model, fitted(**OPTIMIZERS[optimizer]))

    @pytest.mark.parametrize("negatives", NEGATIVES)
    def test_negatives(self, autograd, negatives):
        model = fitted(negatives=negatives)
        with autograd():
            self.assert_close(model, fitted(negatives=negatives))

    @pytest.mark.parametrize("sparse", [False, True])
    def test_l2(self, autograd, sparse):
        model = fitted(l2=1e-4, sparse=sparse)
        with autograd():
            self.assert_close(model, fitted(l2=1e-4, sparse=sparse))

    @every_optimizer
    def test_each_goes_on_from_the_other(self, autograd, optimizer):
        """The optimizer keeps its state in the format of its class."""
        models = [fitted(**OPTIMIZERS[optimizer], n_iter=1) for _ in range(2)]
        orders = (autograd, contextlib.nullcontext), (contextlib.nullcontext, autograd)
        for model, order in zip(models, orders, strict=True):
            for path in order:
                with path():
                    model.fit(data())
        self.assert_close(*models)

    def test_the_learning_rate_may_change_between_fits(self, autograd):
        def trained():
            model = made(n_iter=1)
            for learning_rate in (1e-2, 1e-3, 0.0, 1e-1):
                model.learning_rate = learning_rate
                model.fit(data())
            return model

        model = trained()
        with autograd():
            self.assert_close(model, trained())


class TestResuming:
    @pytest.mark.parametrize(("cls", "loss"), LOSSES)
    def test_two_fits_are_one(self, cls, loss):
        once, twice = fitted(cls, loss=loss, n_iter=10), made(cls, loss=loss, n_iter=5)
        for _ in range(2):
            twice.fit(data())
        assert once.history == twice.history
        assert torch.equal(weights_of(once), weights_of(twice))

    @every_optimizer
    @pytest.mark.parametrize("epochs", [0, 3])
    def test_saved_between_two_fits(self, optimizer, epochs, tmp_path):
        arguments = OPTIMIZERS[optimizer]
        once, saved = fitted(**arguments, n_iter=epochs + 3), fitted(**arguments, n_iter=epochs)
        saved.save(tmp_path / "model")
        loaded = IMPLICIT.load(tmp_path / "model", optimizer_func=arguments.get("optimizer_func"))
        loaded._n_iter = 3
        loaded.fit(data())
        assert once.history == loaded.history
        assert torch.equal(weights_of(once), weights_of(loaded))

    @every_optimizer
    @pytest.mark.parametrize("epochs", [0, 1])
    def test_training_goes_on_outside(self, optimizer, epochs):
        """In the optimizer that was trained with, and in a new one of its class, or, for `DeferredAdam`, in Adam."""
        model = fitted(**OPTIMIZERS[optimizer], n_iter=epochs)
        net, twin = model._net, copy.deepcopy(model._net)
        kind = type(model._optimizer)
        if kind is DeferredAdam:
            twin = BilinearNet(USERS, ITEMS, DIM)
            twin.load_state_dict(net.state_dict())
            kind = torch.optim.Adam
        other = kind(twin.parameters())
        other.load_state_dict(copy.deepcopy(model._optimizer.state_dict()))  # it would share tensors
        ids = torch.arange(4)
        for each, optimizer_of_it in ((net, model._optimizer), (twin, other)):
            optimizer_of_it.zero_grad()
            each(ids, ids).sum().backward()
            optimizer_of_it.step()
        if isinstance(model._optimizer, DeferredAdam):
            model._optimizer.flush()
        torch.testing.assert_close(list(net.parameters()), list(twin.parameters()), rtol=1e-6, atol=1e-6)


class TestInterrupt:
    LONG = data(1_000_000, 3000, 600)

    def test_takes_effect_between_steps(self, monkeypatch, autograd):
        """While the engine reports, at most every 50 ms: the epoch is longer."""
        model, twin = (made(n_iter=1, batch_size=1024, embedding_dim=32, negatives="uniform") for _ in range(2))
        with monkeypatch.context() as patch:
            patch.setattr("spotfast.training.progress.Progress.advance", lambda *_: signal.raise_signal(signal.SIGINT))
            with pytest.raises(KeyboardInterrupt):
                model.fit(self.LONG)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert len(model.history) == 1
        steps = int(model._optimizer.state[model._net.item_biases.weight]["step"])
        assert 0 < steps < 976
        with autograd(), monkeypatch.context() as patch:
            patch.setattr("spotfast.training.loop.deferred_interrupt", lambda: interrupted_after(steps))
            twin.fit(self.LONG)
        TestAgainstAutograd.assert_close(model, twin)
        model.fit(self.LONG)
        assert len(model.history) == 2

    def test_stops_within_a_second(self):
        model, sent = made(n_iter=10_000, embedding_dim=32, negatives="uniform"), []

        def interrupt():
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(0.3, interrupt)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            model.fit(self.LONG)
        assert time.monotonic() - sent[0] < 1
        timer.join()
        assert len(model.history) >= 1
        assert torch.isfinite(weights_of(model)).all()

    def test_a_second_one_does_not_wait_and_what_was_trained_counts(self, monkeypatch):
        model = made(n_iter=1, batch_size=1024, embedding_dim=32, negatives="uniform")

        def twice(*arguments):
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr("spotfast.training.progress.Progress.advance", twice)
            with pytest.raises(KeyboardInterrupt):
                model.fit(self.LONG)
        state = model._optimizer.state[model._net.item_biases.weight]
        assert state["exp_avg"].any()
        assert state["step"] > 0


@contextlib.contextmanager
def interrupted_after(steps):
    asked = []

    class Event:
        def is_set(self):
            asked.append(1)
            return len(asked) == steps

    yield Event()


@pytest.mark.parametrize("threads", [0, -1, 1025])
def test_number_of_threads_out_of_range(threads):
    with pytest.raises(ValueError, match=f"threads must be an integer .*1.* got {threads}"):
        spotfast.set_num_threads(threads)


@pytest.mark.parametrize("threads", [1.5, "2", True])
def test_number_of_threads_of_another_type(threads):
    with pytest.raises(TypeError, match="threads must be an integer"):
        spotfast.set_num_threads(threads)


def test_number_of_threads(set_threads):
    set_threads(1)
    assert spotfast.get_num_threads() == 1
    results = []
    for threads in (1, 2, 3, None):
        spotfast.set_num_threads(threads)
        assert spotfast.get_num_threads() == (threads or 1)
        results.append(weights_of(fitted()))
        assert torch.equal(results[0], results[-1])
