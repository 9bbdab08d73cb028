"""The sequence model: training semantics, prediction, and Spotlight's defects that must not come back."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import torch

from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.layers import BloomEmbedding
from spotfast.ops import negatives, permutation
from spotfast.sequence import scoring
from spotfast.sequence.implicit import NETWORKS, ImplicitSequenceModel
from spotfast.sequence.representations import LSTMNet, PoolNet

ITEMS, LENGTH, DIM = 23, 6, 5
LOSSES = ImplicitSequenceModel.LOSSES
REPRESENTATIONS = list(NETWORKS)


def data(count=70, length=LENGTH, items=ITEMS, seed=3):
    rng = np.random.RandomState(seed)
    sequences = rng.randint(1, items, (count, length)).astype(np.int32)
    sequences[::3, : length // 2] = 0
    return SequenceInteractions(sequences, num_items=items)


def fitted(representation="pooling", **arguments):
    settings = {"n_iter": 2, "batch_size": 16, "embedding_dim": DIM, "random_state": 5, **arguments}
    model = ImplicitSequenceModel(representation=representation, **settings)
    model.fit(data())
    return model


def weights_of(model):
    return torch.cat([parameter.detach().flatten() for parameter in model._net.parameters()])


class Recency(torch.nn.Module):
    """Anyone's network, with none of our attributes: the state is the vector of the item before."""

    def __init__(self, items=ITEMS):
        super().__init__()
        self.before = torch.nn.Embedding(items, 4)
        self.after = torch.nn.Embedding(items, 4)

    def user_representation(self, sequences):
        states = torch.nn.functional.pad(self.before(sequences), (0, 0, 1, 0)).permute(0, 2, 1)
        return states[:, :, :-1], states[:, :, -1:]

    def forward(self, states, targets):
        assert states.shape[0] == targets.shape[0]
        assert states.shape[2] == targets.shape[1]
        return (states * self.after(targets).permute(0, 2, 1)).sum(1)


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
def test_loss_falls(representation, loss):
    model = fitted(representation, loss=loss, n_iter=20)
    assert model.history.losses[-1] < model.history.losses[0]
    assert len(model.history) == 20
    assert type(model._net) is NETWORKS[representation]
    assert model._num_users is None
    assert model._num_items == ITEMS


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_first_step_is_the_plain_one(representation, loss):
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
def test_anyones_network_trains_like_the_built_in_one(representation, loss):
    nets = [NETWORKS[representation](ITEMS, DIM) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    models = [fitted(net, loss=loss, n_iter=1, batch_size=70) for net in (nets[0], Called(nets[1]))]
    torch.testing.assert_close(weights_of(models[1]), weights_of(models[0]), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(models[1].predict([3, 4]), models[0].predict([3, 4]), rtol=1e-3, atol=1e-4)
    assert fitted(Recency(), loss=loss).predict([1, 2]).shape == (ITEMS,)


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_is_no_target_and_no_negative(loss):
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
def test_fit_twice_is_fit_once(representation, sparse):
    once = fitted(representation, n_iter=4, sparse=sparse, loss="adaptive_hinge")
    twice = fitted(representation, n_iter=2, sparse=sparse, loss="adaptive_hinge")
    twice.fit(data())
    assert once.history == twice.history
    assert torch.equal(weights_of(once), weights_of(twice))


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_how_much_is_loaded_at_once_does_not_matter(loss, monkeypatch):
    whole = fitted(loss=loss)
    loaded = []
    monkeypatch.setattr("spotfast.sequence.implicit.CHUNK_POSITIONS", 40 * LENGTH * 2)
    load = ImplicitSequenceModel._task

    def watched(self, *arguments):
        task = load(self, *arguments)
        task.load = lambda epoch, start, stop: loaded.append(stop - start) or type(task).load(task, epoch, start, stop)
        return task

    monkeypatch.setattr(ImplicitSequenceModel, "_task", watched)
    assert torch.equal(weights_of(fitted(loss=loss)), weights_of(whole))
    # 40 sequences with one negative make two batches of 16; the 13 with five are fewer than one.
    assert loaded == 2 * ([32, 32, 6] if loss == "bpr" else [16, 16, 16, 16, 6])


@pytest.mark.parametrize("l2", [0.0, 1e-3])
def test_sparse_has_the_results_of_dense_adam(l2):
    dense, sparse = (fitted("lstm", loss="bpr", n_iter=3, l2=l2, sparse=sparse) for sparse in (False, True))
    torch.testing.assert_close(weights_of(sparse), weights_of(dense), rtol=1e-3, atol=1e-4)


def test_same_seed_same_model_and_no_global_state():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    models = [ImplicitSequenceModel(n_iter=1, random_state=np.int64(0)) for _ in range(2)]
    for model in models:
        model.fit(data())
    assert torch.equal(weights_of(models[0]), weights_of(models[1]))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)
    source = np.random.RandomState(1)
    assert not torch.equal(weights_of(fitted(random_state=source)), weights_of(fitted(random_state=source)))


def test_windows_that_are_cut_while_training_are_those_of_the_array():
    rng = np.random.RandomState(0)
    interactions = Interactions(rng.randint(0, 9, 200), rng.randint(1, ITEMS, 200), timestamps=np.arange(200))
    cut, whole = (ImplicitSequenceModel(n_iter=2, batch_size=16, random_state=1) for _ in range(2))
    cut.fit(interactions.sequence_windows(LENGTH, step_size=1))
    whole.fit(interactions.to_sequence(LENGTH, step_size=1))
    assert torch.equal(weights_of(cut), weights_of(whole))


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("dim", [3, 32])
def test_a_sequence_and_an_item_have_the_same_bits_however_they_are_asked_for(representation, dim):
    """With numbers of sequences and items that fill no batch and no vector register."""
    model = ImplicitSequenceModel(representation=representation, n_iter=1, embedding_dim=dim, random_state=1)
    model.fit(data(items=1003))
    for parameter in model._net.parameters():
        torch.nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(0))
    items = [0, 1, 17, 1002]
    for length in (1, 2, 7, 50):
        sequences = data(77, length, 1003).sequences
        together = model.predict(sequences)
        assert together.shape == (77, 1003)
        assert np.array_equal(model.predict(sequences, items), together[:, items])
        for row in (0, 1, 15, 16, 63, 76):
            assert np.array_equal(model.predict(sequences[row]), together[row])
            assert np.array_equal([model.predict(sequences[row], [item])[0] for item in items], together[row][items])


@pytest.mark.parametrize("representation", [*REPRESENTATIONS, "anyone's"])
def test_predict(representation):
    model = fitted(Recency() if representation == "anyone's" else representation)
    every = np.arange(ITEMS)
    row = model.predict([4, 7, 1])
    assert row.dtype == np.float32
    assert row.flags.writeable and row.shape == (ITEMS,)
    assert row[0] == -np.inf
    assert np.isfinite(row[1:]).all()
    for same in (
        model.predict(np.array([[4, 7, 1]])),
        model.predict(torch.tensor([4, 7, 1])),
        model.predict([4, 7, 1], every),
        model.predict([4, 7, 1], every[:, np.newaxis]),
        model.predict([[4, 7, 1], [1, 2, 3]])[0],
        model.predict([[1, 2, 3], [4, 7, 1]], every)[1],
    ):
        assert np.array_equal(same, row)
    assert np.array_equal(model.predict([4, 7, 1], [3, 0, 3]), row[[3, 0, 3]])
    assert np.array_equal(model.predict([4, 7, 1], 5), row[[5]])
    assert model.predict([[1, 2], [3, 4]], [5]).shape == (2, 1)
    for odd in ([0], [3], np.zeros(9, int), [0, 3, 0], np.ones((1, 100))):
        assert model.predict(odd).shape == (ITEMS,)
    row[:] = 1
    assert model.predict([4, 7, 1])[1] != 1


@pytest.mark.parametrize("representation", REPRESENTATIONS)
def test_predict_is_the_networks_score(representation):
    model = fitted(representation, n_iter=5)
    sequences = torch.tensor([[0, 3, 5, 9], [1, 2, 3, 4]])
    with torch.no_grad():
        _, final = model._net.user_representation(sequences)
        expected = model._net.score_items(final, torch.arange(1, ITEMS))
    np.testing.assert_allclose(model.predict(sequences)[:, 1:], expected, rtol=1e-4, atol=1e-6)


def test_sequences_are_neither_stripped_nor_padded():
    model = fitted("lstm", n_iter=5)
    assert not np.array_equal(model.predict([3, 4]), model.predict([0, 3, 4]))


def test_mixtures_and_called_networks_in_blocks(monkeypatch):
    models = [fitted("mixture"), fitted(Recency())]
    sequences = data(9).sequences
    whole = [model.predict(sequences) for model in models]
    monkeypatch.setattr(scoring, "MIXTURE_FLOATS", 3 * 8 * ITEMS)
    monkeypatch.setattr(scoring, "CALLED_ITEMS", 10)
    for model, expected in zip(models, whole, strict=True):
        np.testing.assert_allclose(model.predict(sequences), expected, rtol=1e-6)


def test_predict_leaves_the_network_in_its_mode():
    net = Recency()
    net.dropout = torch.nn.Dropout(0.5)
    model = fitted(net)
    net.dropout.eval()
    model.predict([1])
    assert net.training
    assert not net.dropout.training
    assert torch.is_grad_enabled()


def test_networks_changed_from_outside_are_called():
    net = PoolNet(ITEMS, DIM)
    model = fitted(net)
    net.forward = lambda states, targets: torch.full(targets.shape, 7.0)
    assert (model.predict([1, 2])[1:] == 7).all()
    del net.forward
    plain = model.predict([1, 2])
    net.register_forward_hook(lambda net, arguments, scores: scores + 1)
    np.testing.assert_allclose(model.predict([1, 2])[1:], plain[1:] + 1, rtol=1e-5)


@pytest.mark.parametrize("representation", [*REPRESENTATIONS, "anyone's"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("count", "length"), [(17, 1), (1, 1), (1, 4)])
def test_dimensions_of_size_one(representation, loss, count, length):
    """Among them a last batch of one sequence."""
    net = Recency() if representation == "anyone's" else representation
    model = ImplicitSequenceModel(loss, net, n_iter=1, batch_size=16, random_state=0)
    model.fit(SequenceInteractions(np.full((count, length), 2, np.int32), num_items=ITEMS))
    assert np.isfinite(model.history.losses[0])
    if representation != "anyone's":  # whose initial values are not near zero
        assert model.history.losses[0] == pytest.approx(0.5 if loss == "bpr" else 1.0, abs=0.25)
    assert model.predict([1]).shape == (ITEMS,)


def test_bloom_embeddings():
    for net in (NETWORKS[name](ITEMS, item_embedding_layer=BloomEmbedding(ITEMS, 8, 0.5)) for name in NETWORKS):
        model = fitted(net, loss="adaptive_hinge")
        row = model.predict([1, 2])
        assert row[0] == -np.inf
        assert np.array_equal(model.predict([[1, 2], [3, 4]])[0], row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": "nope"}, "loss must be one of"),
        ({"representation": "nope"}, "representation must be one of 'pooling'"),
        ({"representation": 3}, "representation must be one of 'pooling'"),
        ({"representation": torch.nn.Linear(2, 2)}, "a method user_representation"),
        ({"num_negative_samples": 0}, "num_negative_samples"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"optimizer_func": 3}, "optimizer_func"),
        ({"device": "nowhere"}, "device"),
    ],
)
def test_constructor_names_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ImplicitSequenceModel(**arguments)


def test_fit_names_what_is_wrong_and_changes_nothing():
    model = ImplicitSequenceModel(n_iter=1)
    with pytest.raises(TypeError, match="to_sequence"):
        model.fit(Interactions([0], [1]))
    with pytest.raises(TypeError, match="must be SequenceInteractions, got ndarray"):
        model.fit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="empty"):
        model.fit(SequenceInteractions(np.zeros((0, 3), int), num_items=5))
    with pytest.raises(ValueError, match="num_items must be at least 2"):
        model.fit(SequenceInteractions([[0, 0]]))
    for small in (PoolNet(ITEMS - 1, DIM), LSTMNet(ITEMS, item_embedding_layer=torch.nn.Embedding(3, 8))):
        with pytest.raises(ValueError, match=f"num_items of at least {ITEMS}"):
            fitted(small)
    assert model._net is None
    assert repr(model) == "<ImplicitSequenceModel: [uninitialised]>"
    model = fitted()
    before = weights_of(model)
    with pytest.raises(ValueError, match=f"items below {ITEMS}.*got {ITEMS}"):
        model.fit(SequenceInteractions([[1, ITEMS]]))
    changed = data()
    changed.sequences[3, 2] = -1
    with pytest.raises(ValueError, match="-1"):
        model.fit(changed)
    assert torch.equal(weights_of(model), before)
    assert len(model.history) == 2
    model.fit(SequenceInteractions([[1, 2]], num_items=ITEMS + 1))  # a larger catalogue whose new items do not occur


def test_predict_names_what_is_wrong():
    with pytest.raises(ValueError, match="fitted"):
        ImplicitSequenceModel().predict([1])
    model = fitted()
    for sequences in (3, [], [[]], np.ones((1, 1, 1), int)):
        with pytest.raises(ValueError, match="sequences must be of shape"):
            model.predict(sequences)
    for arguments in (([ITEMS],), ([-1],), ([0.5],)):
        with pytest.raises(ValueError, match="sequences must"):
            model.predict(*arguments)
    for items in ([ITEMS], [-1], [], [[1, 2]]):
        with pytest.raises(ValueError, match="item_ids must"):
            model.predict([1], items)
    with pytest.raises(TypeError, match="sequences must hold integers"):
        model.predict(["a"])


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (3, r"a pair \(states, final\) from user_representation, got int"),
        ((torch.ones(2), None), "states of shape .16, .*, one row per sequence, got .2,"),
        ((torch.ones(16, 4, LENGTH), torch.ones(3)), "final of shape .16, .*, one row per sequence, got .3,"),
    ],
)
def test_a_wrong_output_of_anyones_network_is_named(output, message):
    class Wrong(Recency):
        def user_representation(self, sequences):
            return output

    source = np.random.RandomState(1)
    model = ImplicitSequenceModel(representation=Wrong(), batch_size=16, random_state=source)
    with pytest.raises(ValueError, match=message):
        model.fit(data())
    assert not model._initialized


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_wrong_scores_of_anyones_network_are_named(loss):
    class Wrong(Recency):
        def forward(self, states, targets):
            return torch.ones(len(targets), requires_grad=True)

    with pytest.raises(ValueError, match=rf"scores of shape \(16, {LENGTH}\), got \(16,\)"):
        fitted(Wrong(), loss=loss)


def test_verbose_prints_spotlights_line(capsys):
    model = ImplicitSequenceModel(n_iter=2)
    model.fit(data(), verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Epoch {n}: loss {loss}" for n, loss in enumerate(model.history.losses)]


def test_interrupt_takes_effect_between_steps(monkeypatch):
    model, steps = fitted(), []
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


def test_learning_rate():
    model = ImplicitSequenceModel(n_iter=1, learning_rate=0.5)
    model.learning_rate = 0.25
    model.fit(data())
    assert model.learning_rate == model._optimizer.param_groups[0]["lr"] == 0.25


def _sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


@pytest.mark.parametrize("representation", REPRESENTATIONS)
@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"optimizer_func": _sgd}])
def test_save_and_load(tmp_path, representation, options):
    model = fitted(representation, loss="adaptive_hinge", num_negative_samples=3, **options)
    model.save(tmp_path / "model")
    loaded = ImplicitSequenceModel.load(tmp_path / "model", optimizer_func=options.get("optimizer_func"))
    assert np.array_equal(loaded.predict([[1, 2], [3, 4]]), model.predict([[1, 2], [3, 4]]))
    for each in (model, loaded):
        each.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
    assert model.history == loaded.history
    assert loaded._num_users is None


def test_load_takes_the_network_that_the_model_was_made_with(tmp_path):
    path = tmp_path / "model"
    model = fitted(Recency())
    model.save(path)
    with pytest.raises(ValueError, match="representation must be a Recency"):
        ImplicitSequenceModel.load(path)
    with pytest.raises(ValueError, match="not a ImplicitFactorizationModel"):
        ImplicitFactorizationModel.load(path)
    net = Recency()
    loaded = ImplicitSequenceModel.load(path, representation=net)
    assert loaded._net is net
    assert np.array_equal(loaded.predict([1, 2]), model.predict([1, 2]))
    fitted("lstm").save(path)
    with pytest.raises(ValueError, match="representation must be None"):
        ImplicitSequenceModel.load(path, representation=Recency())


@pytest.mark.parametrize("sparse", [False, True])
def test_pickled_by_torch(tmp_path, sparse):
    model = fitted("mixture", sparse=sparse)
    torch.save(model, tmp_path / "model.pt")
    loaded = torch.load(tmp_path / "model.pt", weights_only=False)
    assert np.array_equal(loaded.predict([3]), model.predict([3]))
    for each in (model, loaded):
        each.fit(data())
    assert torch.equal(weights_of(model), weights_of(loaded))
