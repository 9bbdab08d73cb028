"""Training a sequence model: its semantics against plain PyTorch, for built-in networks and anyone's."""

from __future__ import annotations

import signal
import warnings
from functools import partial

import numpy as np
import pytest
import torch

import spotfast
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.ops import negatives, permutation
from spotfast.optim import DeferredAdam
from spotfast.sequence.implicit import NETWORKS, ImplicitSequenceModel
from spotfast.sequence.representations import PoolNet

ITEMS, LENGTH, DIM = 23, 6, 5  # as in conftest.py
LOSSES = ImplicitSequenceModel.LOSSES
REPRESENTATIONS = list(NETWORKS)


class Called(torch.nn.Module):
    """One of our networks, as if it were anyone's."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def user_representation(self, sequences):
        return self.net.user_representation(sequences)

    def forward(self, states, targets):
        return self.net(states, targets)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_loss_falls(fitted, representation, loss):
    model = fitted(representation, loss=loss, n_iter=20)
    assert model.history.losses[-1] < model.history.losses[0]
    assert len(model.history) == 20
    assert type(model._net) is NETWORKS[representation]
    assert model._num_users is None
    assert model._num_items == ITEMS


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_first_step_is_the_plain_one(data, representation, loss):
    """One batch of everything: the order does not matter, and SGD shows the gradient of the documented mean."""
    sequences = data()
    net, twin = (NETWORKS[representation](ITEMS, DIM) for _ in range(2))
    twin.load_state_dict(net.state_dict())
    model = ImplicitSequenceModel(
        loss,
        net,
        n_iter=1,
        batch_size=10_000,
        optimizer_func=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        random_state=5,
    )
    model.fit(sequences)
    assert model._net is net
    expected = _mean_loss(loss, twin, sequences, model._stream_seed)
    expected.backward()
    assert model.history.losses[0] == pytest.approx(expected.item(), rel=1e-5)
    for trained, plain in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(trained.detach(), (plain - 0.5 * plain.grad).detach(), rtol=1e-4, atol=1e-6)


def _mean_loss(loss, net, sequences, seed):
    count, slots = len(sequences), 5 if loss == "adaptive_hinge" else 1
    order = permutation.permutation(seed, 0, count).numpy()
    rows = torch.from_numpy(sequences.sequences[order].astype(np.int64))
    drawn = negatives.uniform(seed, 0, 0, count, LENGTH * slots, ITEMS - 1) + 1
    drawn = drawn.view(count, LENGTH, slots)
    states, _ = net.user_representation(rows)
    positive = net(states, rows)
    negative = torch.stack([net(states, drawn[:, :, slot]) for slot in range(slots)]).max(dim=0).values
    difference = positive - negative
    values = {
        "pointwise": 1 - positive.sigmoid() + negative.sigmoid(),
        "bpr": 1 - difference.sigmoid(),
        "hinge": (1 - difference).clamp(min=0),
        "adaptive_hinge": (1 - difference).clamp(min=0),
    }[loss]
    mask = rows != 0
    return values[mask].sum() / mask.sum()


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_anyones_network_trains_like_the_built_in_one(fitted, weights_of, Recency, representation, loss):
    nets = [NETWORKS[representation](ITEMS, DIM) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    # Not Adam, whose first steps are as large for a gradient that is nothing but rounding.
    common = {"loss": loss, "n_iter": 1, "batch_size": 70, "optimizer_func": partial(torch.optim.SGD, lr=1.0)}
    models = [fitted(net, **common) for net in (nets[0], Called(nets[1]))]
    torch.testing.assert_close(weights_of(models[1]), weights_of(models[0]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(models[1].predict([3, 4]), models[0].predict([3, 4]), rtol=1e-3, atol=1e-4)
    assert fitted(Recency(), loss=loss).predict([1, 2]).shape == (ITEMS,)


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_is_no_target_and_no_negative(data, fitted, weights_of, loss):
    """All padding: the loss is 0, and nothing moves. And 0 is not among the negatives of thousands of draws."""
    model = fitted(loss=loss)
    before = weights_of(model)
    model._optimizer = torch.optim.SGD(model._net.parameters(), lr=1.0)
    model.fit(SequenceInteractions(np.zeros((4, 3), np.int32), num_items=ITEMS))
    assert model.history.losses[-1] == 0.0
    assert torch.equal(weights_of(model), before)
    task = model._task(data(500), model._net)
    drawn = task.load(0, 0, 500)[1]
    assert drawn.shape == (500, LENGTH, 5 if loss == "adaptive_hinge" else 1)
    assert drawn.unique().tolist() == list(range(1, ITEMS))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("representation", ["pooling", "mixture"])
def test_fit_twice_is_fit_once(data, fitted, weights_of, representation, sparse):
    once = fitted(representation, n_iter=4, sparse=sparse, loss="adaptive_hinge")
    twice = fitted(representation, n_iter=2, sparse=sparse, loss="adaptive_hinge")
    twice.fit(data())
    assert once.history == twice.history
    assert torch.equal(weights_of(once), weights_of(twice))


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_how_much_is_loaded_at_once_does_not_matter(fitted, weights_of, loss, monkeypatch):
    whole = fitted("lstm", loss=loss)
    loaded = []
    monkeypatch.setattr("spotfast.sequence.implicit.CHUNK_POSITIONS", 40 * LENGTH * 2)
    load = ImplicitSequenceModel._task

    def watched(self, *arguments):
        task = load(self, *arguments)
        task.load = lambda epoch, start, stop: loaded.append(stop - start) or type(task).load(task, epoch, start, stop)
        return task

    monkeypatch.setattr(ImplicitSequenceModel, "_task", watched)
    assert torch.equal(weights_of(fitted("lstm", loss=loss)), weights_of(whole))
    # 40 sequences with one negative make two batches of 16; the 13 with five are fewer than one.
    assert loaded == 2 * ([32, 32, 6] if loss == "bpr" else [16, 16, 16, 16, 6])


@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_sparse_has_the_results_of_dense_adam(fitted, weights_of, l2):
    dense, sparse = (fitted("lstm", loss="bpr", n_iter=3, l2=l2, sparse=sparse) for sparse in (False, True))
    torch.testing.assert_close(weights_of(sparse), weights_of(dense), rtol=1e-3, atol=1e-4)
    assert type(sparse._optimizer) is DeferredAdam
    assert sparse._net.item_embeddings.weight.grad.is_sparse


def test_same_seed_same_model_and_no_global_state(data, fitted, weights_of):
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    models = [ImplicitSequenceModel(n_iter=1, random_state=np.int64(0)) for _ in range(2)]
    for model in models:
        model.fit(data())
    assert torch.equal(weights_of(models[0]), weights_of(models[1]))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    source = np.random.RandomState(1)
    assert not torch.equal(weights_of(fitted(random_state=source)), weights_of(fitted(random_state=source)))


def test_windows_that_are_cut_while_training_are_those_of_the_array(weights_of):
    rng = np.random.RandomState(0)
    interactions = Interactions(rng.randint(0, 9, 200), rng.randint(1, ITEMS, 200), timestamps=np.arange(200))
    cut, whole = (ImplicitSequenceModel(n_iter=2, batch_size=16, random_state=1) for _ in range(2))
    cut.fit(interactions.sequence_windows(LENGTH, step_size=1))
    whole.fit(interactions.to_sequence(LENGTH, step_size=1))
    assert torch.equal(weights_of(cut), weights_of(whole))


@pytest.mark.parametrize("representation", [*REPRESENTATIONS, "anyone's"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("count", "length"), [(17, 1), (1, 1), (1, 4)])
def test_dimensions_of_size_one(Recency, representation, loss, count, length):
    """Among them a last batch of one sequence."""
    net = Recency() if representation == "anyone's" else representation
    model = ImplicitSequenceModel(loss, net, n_iter=1, batch_size=16, random_state=0)
    model.fit(SequenceInteractions(np.full((count, length), 2, np.int32), num_items=ITEMS))
    assert np.isfinite(model.history.losses[0])
    if representation != "anyone's":  # whose initial values are not near zero
        assert model.history.losses[0] == pytest.approx(0.5 if loss == "bpr" else 1.0, abs=0.25)
    assert model.predict([1]).shape == (ITEMS,)


def test_verbose_prints_spotlights_line(data, capsys):
    model = ImplicitSequenceModel(n_iter=2)
    model.fit(data(), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Epoch {n}: loss {loss}" for n, loss in enumerate(model.history.losses)]


def test_interrupt_takes_effect_between_steps(data, fitted, monkeypatch):
    model, steps = fitted("lstm"), []
    step = type(model._optimizer).step

    def interrupted(self, closure=None):
        steps.append(1)
        if len(steps) == 3:
            signal.raise_signal(signal.SIGINT)
        return step(self, closure)

    monkeypatch.setattr(type(model._optimizer), "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        model.fit(data())
    assert len(steps) == 3
    assert len(model.history) == 3


def test_learning_rate(data):
    model = ImplicitSequenceModel(n_iter=1, learning_rate=0.5)
    model.learning_rate = 0.25
    model.fit(data())
    assert model.learning_rate == model._optimizer.param_groups[0]["lr"] == 0.25


def test_no_item_beyond_the_data_is_drawn_from_a_larger_table():
    net = PoolNet(60, 8)
    before = net.item_embeddings.weight.detach().clone()
    model = ImplicitSequenceModel(
        representation=net,
        n_iter=1,
        optimizer_func=lambda parameters: torch.optim.SGD(parameters, lr=0.5),
        random_state=0,
    )
    rng = np.random.default_rng(0)
    sequences = SequenceInteractions(rng.integers(1, 30, (40, 6)), num_items=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error", spotfast.PerformanceWarning)
        model.fit(sequences)
    assert torch.equal(net.item_embeddings.weight[30:], before[30:])
    assert not torch.equal(net.item_embeddings.weight[:30], before[:30])
