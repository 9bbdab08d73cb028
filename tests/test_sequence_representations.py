"""Sequence networks: Spotlight's values, and ways of scoring many items that give the scores of one at a time."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from spotfast.layers import BloomEmbedding
from spotfast.optim import DeferredAdam
from spotfast.sequence.representations import PADDING_IDX, CNNNet, LSTMNet, MixtureLSTMNet, PoolNet

ITEMS, DIM = 20, 4
GOLDEN = {
    "pool": lambda **more: PoolNet(ITEMS, DIM, **more),
    "lstm": lambda **more: LSTMNet(ITEMS, DIM, **more),
    "cnn": lambda **more: CNNNet(ITEMS, DIM, **more),
    "cnn_relu_w5_d2": lambda **more: CNNNet(ITEMS, DIM, 5, 2, nonlinearity="relu", **more),
    "cnn_3layers": lambda **more: CNNNet(ITEMS, DIM, [3, 3, 2], (1, 2, 4), num_layers=3, **more),
    "cnn_2layers_noresidual": lambda **more: CNNNet(ITEMS, DIM, num_layers=2, residual_connections=False, **more),
    "mixture": lambda **more: MixtureLSTMNet(ITEMS, DIM, num_mixtures=3, **more),
}
KINDS = {
    "pool": PoolNet,
    "lstm": LSTMNet,
    "cnn": CNNNet,
    "mixture": MixtureLSTMNet,
    "one taste": lambda *args, **more: MixtureLSTMNet(*args, num_mixtures=1, **more),
}
every_net = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def sequences(batch=5, length=6, seed=0):
    """Random items, padded on the left by 0, 1, 2, ... steps."""
    ids = torch.randint(1, ITEMS, (batch, length), generator=torch.Generator().manual_seed(seed))
    return ids.masked_fill(torch.arange(length) < torch.arange(batch).unsqueeze(1), PADDING_IDX)


def candidates(batch=5, length=6, count=3, seed=1):
    return torch.randint(1, ITEMS, (batch, length, count), generator=torch.Generator().manual_seed(seed))


def with_biases(net):
    """Biases that are not zero, so that they count."""
    with torch.no_grad():
        net.item_biases.weight[1:].normal_()
    return net


def gradients(net, loss):
    net.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in net.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", GOLDEN)
def test_networks_are_spotlights(golden, name):
    prefix = f"sequence/{name}/state/"
    state = {key.removeprefix(prefix): torch.from_numpy(golden[key]) for key in golden if key.startswith(prefix)}
    net = GOLDEN[name]()
    assert list(net.state_dict()) == list(state)
    net.load_state_dict(state)
    states, final = net.user_representation(torch.from_numpy(golden["sequence/sequences"]))
    scores = net(states, torch.from_numpy(golden["sequence/targets"]))
    for part, value in (("states", states), ("final", final), ("scores", scores)):
        expected = golden[f"sequence/{name}/{part}"]
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.detach(), expected, rtol=1e-6, atol=1e-6)


@every_net
def test_candidates_are_scored_as_one_by_one(make):
    net = with_biases(make(ITEMS, DIM))
    items = candidates()
    direction = torch.randn(items.shape)
    states, _ = net.user_representation(sequences())
    together = net.score_candidates(states, items)
    fast = gradients(net, (together * direction).sum())
    states, _ = net.user_representation(sequences())
    apart = torch.stack([net(states, column) for column in items.unbind(-1)], -1)
    plain = gradients(net, (apart * direction).sum())
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)
    assert fast.keys() == plain.keys() == dict(net.named_parameters()).keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(fast[name], gradient, rtol=1e-4, atol=1e-5)


@every_net
def test_candidates_are_scored_as_repeated_users(make):
    """Spotlight's way: states n times over, beside the negatives slot by slot."""
    net = with_biases(make(ITEMS, DIM))
    items = candidates()
    states, _ = net.user_representation(sequences())
    repeated = states.repeat(3, *(1 for _ in states.shape[1:]))
    scores = net(repeated, items.permute(2, 0, 1).reshape(-1, 6)).view(3, 5, 6)
    torch.testing.assert_close(net.score_candidates(states, items).permute(2, 0, 1), scores, rtol=1e-5, atol=1e-6)


@every_net
def test_items_are_scored_as_one_by_one(make):
    net = with_biases(make(ITEMS, DIM))
    items = torch.tensor([7, 1, 19])
    _, final = net.user_representation(sequences())
    scores = net.score_items(final, items)
    assert scores.shape == (5, 3)
    for user, row in zip(final, scores, strict=True):
        # Spotlight's way to predict.
        expected = net(user.expand(3, *user.shape), items.unsqueeze(1))
        assert expected.shape == (3, 1)
        torch.testing.assert_close(row, expected[:, 0], rtol=1e-5, atol=1e-6)
    assert net.score_items(final[:1], items[:1]).shape == (1, 1)


@every_net
def test_scores_depend_on_the_items_before_and_on_no_others(make):
    net = make(ITEMS, DIM)
    before = sequences(batch=1, length=6)
    after = before.clone()
    after[0, 3] = before[0, 3] % (ITEMS - 1) + 1
    (states, final), (changed, changed_final) = net.user_representation(before), net.user_representation(after)
    assert torch.equal(states[..., :4], changed[..., :4])
    assert not torch.equal(states[..., 4], changed[..., 4])
    assert not torch.equal(final, changed_final) or isinstance(net, CNNNet)  # which has forgotten it


def test_final_is_the_state_before_what_comes_next():
    for make in KINDS.values():
        net = make(ITEMS, DIM)
        longer = sequences(batch=3, length=7)
        _, final = net.user_representation(longer[:, :-1])
        states, _ = net.user_representation(longer)
        torch.testing.assert_close(final.reshape(3, -1), states[..., -1].reshape(3, -1))


def test_pooling_divides_by_one_more_than_the_items():
    net = PoolNet(ITEMS, DIM)
    e = net.item_embeddings.weight
    states, final = net.user_representation(torch.tensor([[0, 0, 3, 5]]))
    expected = torch.stack([0 * e[0], 0 * e[0], 0 * e[0], e[3] / 2], 1)
    torch.testing.assert_close(states[0], expected)
    torch.testing.assert_close(final[0], (e[3] + e[5]) / 3)


@every_net
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (1, 4), (4, 1)])
def test_dimensions_of_one_stay(make, batch, length):
    net = make(ITEMS, DIM)
    states, final = net.user_representation(sequences(batch, length))
    assert states.shape[0] == batch
    assert states.shape[-2:] == (DIM, length)
    tastes = states.shape[1:-2]
    assert final.shape == ((batch, *tastes, DIM, 1) if tastes else (batch, DIM))
    targets = candidates(batch, length, 1)
    assert net(states, targets[..., 0]).shape == (batch, length)
    assert net.score_candidates(states, targets).shape == (batch, length, 1)
    assert net(final, targets[:, :1, 0]).shape == (batch, 1)


def test_vectors_of_one_dimension():
    for make in KINDS.values():
        net = make(ITEMS, 1)
        states, final = net.user_representation(sequences(2, 1))
        assert net.score_candidates(states, candidates(2, 1, 1)).shape == (2, 1, 1)
        assert net.score_items(final, torch.tensor([4])).shape == (2, 1)


@every_net
@pytest.mark.parametrize("bloom", [False, True])
def test_all_padding(make, bloom):
    layer = BloomEmbedding(ITEMS, DIM, compression_ratio=0.5) if bloom else None
    net = make(ITEMS, DIM, item_embedding_layer=layer)
    nothing = torch.zeros(2, 3, dtype=torch.int64)
    states, final = net.user_representation(nothing)
    assert torch.isfinite(states).all()
    torch.testing.assert_close(final[0], final[1])
    loss = net(states, candidates(2, 3, 1)[..., 0]).sum()
    # What a sequence of padding says about users is not a matter of item vectors.
    fixed = net(states.detach(), candidates(2, 3, 1)[..., 0]).sum()
    table = layer.embeddings.weight if bloom else net.item_embeddings.weight
    torch.testing.assert_close(torch.autograd.grad(loss, table), torch.autograd.grad(fixed, table))


@every_net
@pytest.mark.parametrize("sparse", [False, True])
def test_padding_rows_stay_zero(make, sparse):
    net = make(ITEMS, DIM, sparse=sparse)
    optimizer = DeferredAdam(net, lr=0.1) if sparse else torch.optim.Adam(net.parameters(), lr=0.1)
    before = net.item_embeddings.weight.detach().clone()
    for _ in range(3):
        optimizer.zero_grad()
        states, _ = net.user_representation(sequences())
        net.score_candidates(states, sequences().unsqueeze(-1)).sigmoid().sum().backward()
        assert net.item_embeddings.weight.grad.is_sparse == net.item_biases.weight.grad.is_sparse == sparse
        optimizer.step()
    for table in (net.item_embeddings, net.item_biases):
        assert torch.equal(table.weight[PADDING_IDX], torch.zeros_like(table.weight[PADDING_IDX]))
    assert not torch.equal(net.item_embeddings.weight, before)


@every_net
@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("padding_idx", [0, None])
def test_bloom_layers(make, bag, padding_idx):
    layer = BloomEmbedding(ITEMS, 6, compression_ratio=0.5, bag=bag, padding_idx=padding_idx)
    net = with_biases(make(ITEMS, item_embedding_layer=layer))  # the layer's own length of vectors
    assert net.item_embeddings is layer
    assert net.embedding_dim == 6
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    for _ in range(2):
        twin = tabulated(net)
        (states, final), (expected, expected_final) = (each.user_representation(sequences()) for each in (net, twin))
        scores, expected_scores = (each.score_candidates(states, candidates()) for each in (net, twin))
        torch.testing.assert_close(states, expected)
        torch.testing.assert_close(final, expected_final)
        torch.testing.assert_close(scores, expected_scores)
        items = torch.arange(1, ITEMS)
        torch.testing.assert_close(net.score_items(final, items), twin.score_items(final, items))
        # Padding is zero after a step, too.
        optimizer.zero_grad()
        scores.sigmoid().sum().backward()
        optimizer.step()


def tabulated(net):
    """The same network over a plain table of the vectors, with zeros for padding."""
    vectors = net.item_embeddings(torch.arange(ITEMS))[:, 0].detach().clone()
    vectors[PADDING_IDX] = 0
    twin = copy.deepcopy(net)
    twin.item_embeddings = nn.Embedding.from_pretrained(vectors)
    return twin


@every_net
def test_any_layer_of_two_dimensional_ids(make):
    class Projected(nn.Module):
        """Takes (B, L) only."""

        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(ITEMS, 2)
            self.up = nn.Linear(2, DIM)

        def forward(self, ids):
            batch, length = ids.shape
            return self.up(self.table(ids)).view(batch, length, DIM)

    net = make(ITEMS, DIM, item_embedding_layer=Projected())
    states, final = net.user_representation(sequences())
    assert net.score_candidates(states, candidates()).shape == (5, 6, 3)
    assert net.score_items(final, torch.arange(ITEMS)).shape == (5, ITEMS)
    own = make(ITEMS, item_embedding_layer=nn.Embedding(ITEMS, 7))
    assert own(own.user_representation(sequences())[0], sequences()).shape == (5, 6)


@pytest.mark.parametrize("name", GOLDEN)
def test_states_round_trip(name):
    net, other = with_biases(GOLDEN[name]()), GOLDEN[name]()
    other.load_state_dict(net.state_dict())
    for twin in (other, copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        (states, final), (twin_states, twin_final) = (each.user_representation(sequences()) for each in (net, twin))
        assert torch.equal(states, twin_states)
        assert torch.equal(final, twin_final)
        assert torch.equal(net(states, sequences()), twin(states, sequences()))


def test_cudnn_is_left_alone():
    before = torch.backends.cudnn.benchmark
    for benchmark in (True, False):
        CNNNet(ITEMS, DIM, benchmark=benchmark)
        assert torch.backends.cudnn.benchmark == before


def test_vectors_start_scaled_and_biases_at_zero():
    net = PoolNet(5000, 8)
    assert net.item_embeddings.weight[1:].std().item() == pytest.approx(1 / 8, abs=0.003)
    assert torch.equal(net.item_biases.weight, torch.zeros(5000, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_items": 0}, "num_items"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"nonlinearity": "sigmoid"}, "nonlinearity must be one of 'tanh', 'relu', got 'sigmoid'"),
        ({"num_layers": 0}, "num_layers"),
        ({"kernel_width": [3, 3]}, r"kernel_width must be one number, or one per layer \(1\), got \[3, 3\]"),
        ({"dilation": (1,), "num_layers": 2}, "dilation must be one number"),
        ({"kernel_width": 0}, "kernel_width"),
        ({"kernel_width": [3, 0], "num_layers": 2}, "kernel_width"),
        ({"kernel_width": 2.5}, "kernel_width"),
        ({"dilation": 0}, "dilation"),
        ({"item_embedding_layer": 3}, r"item_embedding_layer must be a torch\.nn\.Module, got 3 of type int"),
    ],
)
def test_networks_name_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        CNNNet(**{"num_items": ITEMS, **arguments})


def test_mixtures_have_tastes():
    with pytest.raises(ValueError, match="num_mixtures"):
        MixtureLSTMNet(ITEMS, num_mixtures=0)


def test_one_taste_is_not_attended_to():
    net = with_biases(MixtureLSTMNet(ITEMS, DIM, num_mixtures=1))
    states, _ = net.user_representation(sequences())
    items = candidates(count=1)[..., 0]
    expected = (states[:, 0] * net.item_embeddings(items).transpose(1, 2)).sum(1) + net.item_biases(items).squeeze(-1)
    torch.testing.assert_close(net(states, items), expected)
