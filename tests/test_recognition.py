"""Which models the C++ engine trains, and what the warning says where autograd does."""

from __future__ import annotations

import copy
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from models_to_train import DIM, ITEMS, LOSSES, OPTIMIZERS, USERS, data, fitted, made, weights_of
from torch import nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

import spotfast
from spotfast import backends
from spotfast.factorization.implicit import NEGATIVES
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.layers import BloomEmbedding
from spotfast.training.recognition import rule_of

every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)

pytestmark = [
    pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension"),
    pytest.mark.filterwarnings("ignore:Sparse invariant checks"),  # of torch's own Adagrad
]


@pytest.fixture
def no_autograd(monkeypatch):
    """Training through autograd is an error."""

    def fail(*arguments):
        raise AssertionError("the engine did not recognise this model")

    monkeypatch.setattr("spotfast.factorization.model.AutogradEngine", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


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
