"""DeferredAdam against torch.optim.Adam on dense gradients."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from spotfast.optim import DeferredAdam

pytestmark = pytest.mark.exhaustive

ROWS, DIM = 60, 4


def twins(kind=nn.Embedding, dtype=torch.float64):
    torch.manual_seed(0)
    sparse = kind(ROWS, DIM, sparse=True, dtype=dtype)
    dense = kind(ROWS, DIM, dtype=dtype)
    dense.load_state_dict(sparse.state_dict())
    return sparse, dense


def train(layers, optimizers, steps, rate=lambda step: 1e-2, seed=1, scale=1.0):
    rng = np.random.RandomState(seed)
    for step in range(steps):
        ids = torch.from_numpy((ROWS * rng.rand(3) ** 4).astype(np.int64))
        gradient = torch.from_numpy(rng.randn(3, DIM)) * scale
        for layer, optimizer in zip(layers, optimizers, strict=True):
            optimizer.param_groups[0]["lr"] = rate(step)
            optimizer.zero_grad()
            output = layer(ids if isinstance(layer, nn.Embedding) else ids.unsqueeze(1))
            (output * gradient.to(output.dtype)).sum().backward()
            optimizer.step()


@pytest.mark.parametrize(
    ("kind", "scale"),
    [(nn.Embedding, 1e-2), (nn.Embedding, 1e-8), (nn.EmbeddingBag, 1e-4)],
)
def test_dense_semantics_with_a_schedule(kind, scale):
    """800 steps, most rows touched rarely: early steps by replay, later ones by the closed form."""
    sparse, dense = twins(kind)
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    start = dense.weight.detach().clone()
    train((sparse, dense), optimizers, 800, lambda step: 1e-2 * (0.55 + 0.45 * np.cos(np.pi * step / 800)), scale=scale)
    optimizers[0].flush()
    assert (dense.weight - start).abs().max() > 0.1
    assert (sparse.weight - dense.weight).abs().max() < 1e-5


def test_reads_see_dense_weights_at_every_step():
    sparse, dense = twins()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    for step in range(20):
        train((sparse, dense), optimizers, 15, seed=step)
        ids = torch.tensor([step, ROWS - 1])
        torch.testing.assert_close(sparse(ids), dense(ids), rtol=0, atol=1e-6)


def test_weight_decay_is_replayed():
    sparse, dense = twins()
    optimizers = DeferredAdam(sparse, weight_decay=1e-2), torch.optim.Adam(dense.parameters(), weight_decay=1e-2)
    train((sparse, dense), optimizers, 300)
    optimizers[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "betas", [(0.0, 0.999), (0.5, 0.3), (0.5, 0.9), (0.9, 0.5), (0.95, 0.9), (0.99, 0.999), (0.9, 0.9999)]
)
def test_any_betas(betas):
    """A row that is touched early, and one touched until late, after 300 steps without them."""
    sparse, dense = twins()
    optimizers = DeferredAdam(sparse, betas=betas), torch.optim.Adam(dense.parameters(), betas=betas)
    for step in range(900):
        ids = torch.tensor([0] if step == 0 else [1] if step < 600 else [2])
        for layer, optimizer in zip((sparse, dense), optimizers, strict=True):
            optimizer.zero_grad()
            layer(ids).pow(2).sum().backward()
            optimizer.step()
    optimizers[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=1e-6, atol=1e-6)


def test_states_of_other_optimizers_are_refused():
    sparse, dense = twins()
    with pytest.raises(ValueError, match="amsgrad"):
        DeferredAdam(sparse).load_state_dict(torch.optim.Adam(dense.parameters(), amsgrad=True).state_dict())


def test_a_learning_rate_of_zero():
    sparse, dense = twins()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    train((sparse, dense), optimizers, 800, lambda step: 1e-2 if step < 550 else 0.0)
    optimizers[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-5)


def test_state_moves_to_adam_and_back():
    sparse, dense = twins()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    train((sparse, dense), optimizers, 300)
    exchanged = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    exchanged[1].load_state_dict(optimizers[0].state_dict())
    exchanged[0].load_state_dict(optimizers[1].state_dict())
    train((sparse, dense), exchanged, 300, seed=2)
    exchanged[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-5)


def test_dense_parameters_are_updated_by_adam():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Embedding(ROWS, DIM, sparse=True), nn.Linear(DIM, 1))
    twin = nn.Sequential(nn.Embedding(ROWS, DIM), nn.Linear(DIM, 1))
    twin.load_state_dict(net.state_dict())
    optimizers = DeferredAdam(net), torch.optim.Adam(twin.parameters())
    for step in range(100):
        ids = torch.tensor([step % ROWS, 0])
        for each, optimizer in zip((net, twin), optimizers, strict=True):
            optimizer.zero_grad()
            each(ids).sum().backward()
            optimizer.step()
    optimizers[0].flush()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_go_on_alone(duplicate):
    check_copies(duplicate, *twins())


def check_copies(duplicate, sparse, _):
    optimizer = DeferredAdam(sparse)
    train((sparse,), (optimizer,), 50)
    optimizer.flush()
    layer, other = duplicate((sparse, optimizer))
    assert other.param_groups[0]["params"][0] is layer.weight
    for each in ((sparse, optimizer), (layer, other)):
        train(each[:1], each[1:], 50, seed=2)
        each[1].flush()
    assert torch.equal(layer.weight, sparse.weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, "lr"),
        ({"betas": (1.0, 0.9)}, r"betas\[0\]"),
        ({"betas": (0.9,)}, r"betas must be two decay rates in \[0, 1\), got \(0.9,\)"),
        ({"betas": (0.9, -0.1)}, r"betas\[1\]"),
        ({"eps": 0.0}, "eps"),
        ({"weight_decay": float("nan")}, "weight_decay"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeferredAdam(nn.Embedding(2, 2, sparse=True), **arguments)


def test_one_beta():
    with pytest.raises(TypeError, match=r"betas must be two decay rates in \[0, 1\), got 0.9"):
        DeferredAdam(nn.Embedding(2, 2, sparse=True), betas=0.9)


@pytest.fixture(params=["native", "reference"])
def float_tables(request, monkeypatch):
    """`float_tables()`: twins with float32 tables, which C++ works on unless the reference is asked for."""
    monkeypatch.setenv("SPOTFAST_BACKEND", "auto" if request.param == "native" else "reference")
    return lambda kind=nn.Embedding: twins(kind, torch.float32)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_float32_tables(float_tables, kind):
    """The first test in float32: as near to dense Adam in float64 as dense Adam in float32 is."""
    sparse, dense = float_tables(kind)
    truth = copy.deepcopy(dense).double()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters()), torch.optim.Adam(truth.parameters())
    train((sparse, dense, truth), optimizers, 700, lambda step: 1e-2 * (0.55 + 0.45 * np.cos(np.pi * step / 700)))
    optimizers[0].flush()
    error, allowed = ((layer.weight - truth.weight).abs().max() for layer in (sparse, dense))
    assert error <= 2 * allowed + 5e-6


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_of_float32_tables_go_on_alone(float_tables, duplicate):
    check_copies(duplicate, *float_tables())


def test_settings_that_change(float_tables):
    """Steps that were missed before a change are taken with the settings of their time."""
    sparse, dense = float_tables()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    for settings in ({"betas": (0.8, 0.99)}, {"eps": 1e-4}, {"weight_decay": 1e-2}, {"weight_decay": 0.0}):
        train((sparse, dense), optimizers, 40)
        for optimizer in optimizers:
            optimizer.param_groups[0].update(settings)
    train((sparse, dense), optimizers, 40)
    optimizers[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-5)


def test_gradients_that_are_dense_now_and_then(float_tables):
    """A table that is read past its layer, too, or whose layer changes its mind."""
    sparse, dense = float_tables()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    for step in range(60):
        sparse.sparse = step % 20 < 15
        train((sparse, dense), optimizers, 1, seed=step)
        assert sparse.weight.grad.is_sparse == sparse.sparse
    optimizers[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-5)
    assert optimizers[0].state[sparse.weight]["step"] == 60


def test_a_padding_row_stays_zero(float_tables):
    del float_tables  # for the backends
    layer = nn.Embedding(ROWS, DIM, padding_idx=0, sparse=True)
    optimizer = DeferredAdam(layer, lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        layer(torch.tensor([0, 3, 0, 3])).sum().backward()
        optimizer.step()
    optimizer.flush()
    assert layer.weight[0].abs().sum() == 0
    assert (layer.weight[3] < layer.weight[4]).any()


def test_resuming_after_steps_taken_elsewhere(float_tables):
    """The state says how many steps were taken; what was owed before is forgotten."""
    sparse, dense = float_tables()
    optimizers = DeferredAdam(sparse), torch.optim.Adam(dense.parameters())
    train((sparse, dense), optimizers, 30)
    optimizers[0].flush()
    elsewhere = torch.optim.Adam(sparse.parameters())
    elsewhere.state, elsewhere.param_groups = optimizers[0].state, [{**elsewhere.param_groups[0], "lr": 1e-2}]
    sparse.sparse = False
    train((sparse, dense), (elsewhere, optimizers[1]), 30, seed=2)
    sparse.sparse = True
    optimizers[0].resume()
    train((sparse, dense), optimizers, 30, seed=3)
    optimizers[0].flush()
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-5)


def test_an_optimizer_that_goes_leaves_the_table_up_to_date_and_no_hook(float_tables):
    sparse, dense = float_tables()
    optimizers = [DeferredAdam(sparse), torch.optim.Adam(dense.parameters())]
    train((sparse, dense), optimizers, 50)
    assert len(sparse._forward_pre_hooks) == 1
    del optimizers
    gc.collect()
    assert len(sparse._forward_pre_hooks) == 0
    torch.testing.assert_close(sparse.weight, dense.weight, rtol=0, atol=1e-5)


def test_sparse_gradients_without_a_layer():
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(ROWS, DIM))

    net = Bare()
    optimizer = DeferredAdam(net)
    nn.functional.embedding(torch.tensor([1]), net.weight, sparse=True).sum().backward()
    with pytest.raises(ValueError, match="sparse gradients must be of layers' tables"):
        optimizer.step()


def test_parameters_in_place_of_a_module():
    """As an `optimizer_func` gets them."""
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Module, .* got generator\. A model"):
        DeferredAdam(nn.Embedding(2, 2, sparse=True).parameters())


class TestBfloat16:
    """Tables of bfloat16 keep their moments in float32; weights are rounded to nearest, but by kernels."""

    @staticmethod
    def step(layers, optimizers, ids, sparse=True):
        gradient = torch.randn(len(ids), DIM, generator=torch.Generator().manual_seed(int(ids.sum()))).bfloat16()
        for layer, optimizer in zip(layers, optimizers, strict=True):
            layer(ids)  # catches up
            values = gradient.to(layer.weight.dtype)
            rows = torch.sparse_coo_tensor(ids.unsqueeze(0), values, (ROWS, DIM), check_invariants=False)
            layer.weight.grad = rows if sparse else rows.to_dense()
            optimizer.step()

    @staticmethod
    def moments(optimizer):
        state = optimizer.state_dict()["state"][0]
        return [state["exp_avg"], state["exp_avg_sq"]]

    @pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
    def test_a_step_is_computed_in_float32(self, weight_decay):
        """From the same weights. A penalty makes moments depend on weights, which part by their rounding."""
        layers = [nn.Embedding(ROWS, DIM, sparse=True, dtype=torch.bfloat16)]
        layers.append(nn.Embedding(ROWS, DIM, sparse=True, _weight=layers[0].weight.detach().float()))
        optimizers = [DeferredAdam(layer, lr=1e-2, weight_decay=weight_decay) for layer in layers]
        for start in range(0, 20, 5) if not weight_decay else [0]:
            self.step(layers, optimizers, torch.arange(start, start + 9) % 12)
        for ours, theirs in zip(*map(self.moments, optimizers), strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)
        torch.testing.assert_close(layers[0].weight.float(), layers[1].weight, rtol=2**-6, atol=1e-4)

    def test_gradients_of_a_row_are_summed_in_float32(self):
        """A thousand gradients of 1: in bfloat16, sums of ones end at 256."""
        layer = nn.Embedding(ROWS, DIM, sparse=True, dtype=torch.bfloat16)
        optimizer = DeferredAdam(layer)
        ids = torch.zeros(1, 1000, dtype=torch.int64)
        values = torch.ones(1000, DIM, dtype=torch.bfloat16)
        layer.weight.grad = torch.sparse_coo_tensor(ids, values, (ROWS, DIM), check_invariants=False)
        optimizer.step()
        torch.testing.assert_close(self.moments(optimizer)[0][0], torch.full((DIM,), 100.0))

    def test_replayed_steps_are_rounded_once(self):
        """Each missed step is a fraction of what is between two numbers: together they count."""
        layer = nn.Embedding(ROWS, DIM, sparse=True, _weight=torch.full((ROWS, DIM), 1.25, dtype=torch.bfloat16))
        optimizer = DeferredAdam(layer, lr=2**-9)
        for ids in [torch.tensor([0])] + 8 * [torch.tensor([1])]:
            self.step([layer], [optimizer], ids)
        before = layer.weight[0].clone()
        optimizer.flush()
        assert (layer.weight[0] != before).all()

    def test_dense_gradients_now_and_then(self):
        layers = [nn.Embedding(ROWS, DIM, sparse=True, dtype=torch.bfloat16)]
        layers.append(nn.Embedding(ROWS, DIM, sparse=True, _weight=layers[0].weight.detach().float()))
        optimizers = [DeferredAdam(layer, lr=1e-2) for layer in layers]
        for start, sparse in ((0, True), (3, False), (6, True)):
            self.step(layers, optimizers, torch.arange(start, start + 5), sparse)
        for ours, theirs in zip(*map(self.moments, optimizers), strict=True):
            assert ours.dtype == torch.float32
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(layers[0].weight.float(), layers[1].weight, rtol=2**-6, atol=1e-4)

    def test_a_state_is_loaded_as_it_was_saved(self):
        """torch casts what is loaded to the type of the parameter."""
        layer = nn.Embedding(ROWS, DIM, sparse=True, dtype=torch.bfloat16)
        optimizer = DeferredAdam(layer)
        self.step([layer], [optimizer], torch.arange(5))
        saved = copy.deepcopy(optimizer.state_dict())
        other = DeferredAdam(layer)
        other.load_state_dict(saved)
        for ours, theirs in zip(*map(self.moments, (optimizer, other)), strict=True):
            assert ours.dtype == theirs.dtype == torch.float32
            assert torch.equal(ours, theirs)

    def test_a_state_of_torch(self):
        layer = nn.Embedding(ROWS, DIM, dtype=torch.bfloat16)
        dense = torch.optim.Adam(layer.parameters())
        layer(torch.arange(5)).sum().backward()
        dense.step()
        optimizer = DeferredAdam(layer)
        optimizer.load_state_dict(dense.state_dict())
        moments = self.moments(optimizer)
        assert [moment.dtype for moment in moments] == [torch.float32] * 2
        assert torch.equal(moments[0], dense.state[layer.weight]["exp_avg"].float())

    def test_other_parameters_are_as_in_torch(self):
        layer = nn.Linear(3, 2, dtype=torch.bfloat16)
        twin = copy.deepcopy(layer)
        for each, optimizer in ((layer, DeferredAdam(layer)), (twin, torch.optim.Adam(twin.parameters(), fused=True))):
            each(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
            optimizer.step()
        assert torch.equal(layer.weight, twin.weight)
