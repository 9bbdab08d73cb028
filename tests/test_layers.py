"""Layers: initial values, and tables that ids share by hashing."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.factorization.representations import BilinearNet
from spotfast.interactions import Interactions
from spotfast.layers import SEEDS, BloomEmbedding, ScaledEmbedding, ScaledEmbeddingBag, ZeroEmbedding
from spotfast.optim import DeferredAdam
from spotfast.sequence.representations import PoolNet

USERS, ITEMS = 12, 30


def bloom(bag=False, **arguments):
    return BloomEmbedding(60, 6, compression_ratio=0.5, num_hash_functions=3, bag=bag, **arguments)


def data():
    rng = np.random.RandomState(3)
    users, items = rng.randint(0, USERS, 300), rng.randint(0, ITEMS, 300)
    return Interactions(users, items, ratings=rng.rand(300), num_users=USERS, num_items=ITEMS)


@pytest.mark.parametrize("cls", [ScaledEmbedding, ScaledEmbeddingBag])
def test_scaled_rows(cls):
    layer = cls(5000, 8, padding_idx=3)
    assert isinstance(layer, nn.Embedding if cls is ScaledEmbedding else nn.EmbeddingBag)
    assert torch.equal(layer.weight[3], torch.zeros(8))
    # 40,000 values: their standard deviation has a standard error of 0.0004.
    assert layer.weight.std().item() == pytest.approx(1 / 8, abs=0.003)
    assert layer.weight.mean().item() == pytest.approx(0, abs=0.005)


def test_bags_take_the_arguments_of_torch():
    weight = torch.arange(8.0).view(4, 2)
    layer = ScaledEmbeddingBag(4, 2, mode="sum", sparse=True, padding_idx=0, _weight=weight)
    vectors = layer(torch.tensor([1, 2, 0, 3]), torch.tensor([0, 3]))
    assert torch.equal(vectors, torch.stack([weight[1] + weight[2], weight[3]]))
    vectors.sum().backward()
    assert layer.weight.grad.is_sparse


def test_zero_rows():
    assert torch.equal(ZeroEmbedding(3, 1).weight, torch.zeros(3, 1))


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("padding", [None, 4])
@pytest.mark.parametrize("options", [{}, {"sparse": True}, {"scale_grad_by_freq": True}, {"max_norm": 0.5}])
@pytest.mark.parametrize("shape", [(1,), (50,), (5, 8), (2, 3, 4), (0, 3)])
def test_biases_are_looked_up_as_by_torch(width, padding, options, shape):
    layer, plain = (cls(7, width, padding_idx=padding, **options) for cls in (ZeroEmbedding, nn.Embedding))
    layer.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for each in (layer, plain):
            each.weight[4] = 1.5  # padding is what its row says, but learns nothing
    ids = torch.randint(7, shape)
    values, expected = layer(ids), plain(ids)
    assert torch.equal(values, expected)
    direction = torch.randn(expected.shape)
    values.backward(direction)
    expected.backward(direction)
    assert layer.weight.grad.is_sparse == plain.weight.grad.is_sparse
    torch.testing.assert_close(layer.weight.grad.to_dense(), plain.weight.grad.to_dense())
    for bad in (-1, 7):
        with pytest.raises(IndexError):
            layer(torch.tensor([bad]))


def test_seeds_are_spotlights(golden):
    assert list(SEEDS) == golden["layers/SEEDS"].tolist()


def test_bloom_vectors_are_spotlights(golden):
    layer = bloom()
    layer.load_state_dict({"embeddings.weight": torch.from_numpy(golden["bloom/plain/weight"])})
    vectors = layer(torch.from_numpy(golden["bloom/ids"]))
    np.testing.assert_array_equal(vectors.detach(), golden["bloom/plain/vectors"])


def test_bags_hold_all_rows_of_an_id(golden):
    """Spotlight's hold one row each: a vector there depends on the id's place in the batch."""
    weight, ids = (torch.from_numpy(golden[f"bloom/{name}"]) for name in ("bag/weight", "ids"))
    layer, plain = bloom(bag=True, padding_idx=None), bloom(padding_idx=None)
    for each in (layer, plain):
        each.load_state_dict({"embeddings.weight": weight})
    rows = layer.hashes[ids].long()
    expected = weight[rows].sum(1, keepdim=True)
    torch.testing.assert_close(layer(ids).detach(), expected)
    torch.testing.assert_close(plain(ids).detach(), expected)
    torch.testing.assert_close(layer(ids.flip(0)).detach(), expected.flip(0))
    misplaced = weight[rows.flatten()[: len(ids) - 1]]
    np.testing.assert_array_equal(misplaced, golden["bloom/bag/vectors"][:-1, 0])


@pytest.mark.parametrize("bag", [False, True])
def test_bloom_shapes(bag):
    layer = bloom(bag)
    assert layer(torch.tensor([1, 2])).shape == (2, 1, 6)
    assert layer(torch.tensor([1])).shape == (1, 1, 6)
    assert layer(torch.tensor([[1, 2, 3]])).shape == (1, 3, 6)
    assert layer(torch.ones(2, 3, 4, dtype=torch.int32)).shape == (2, 3, 4, 6)
    assert torch.equal(layer(torch.tensor([7, 9]))[:, 0], layer(torch.tensor([[7, 9]]))[0])


@pytest.mark.parametrize("bag", [False, True])
@pytest.mark.parametrize("padding", [0, 5])
def test_padding_is_zero_and_costs_other_ids_nothing(bag, padding):
    layer = bloom(bag, padding_idx=padding)
    everyone = torch.arange(60)
    on_row_0 = (layer.hashes == 0).any(1)
    assert on_row_0[everyone != padding].any()
    assert layer.embeddings.weight[0].abs().min() > 0
    vectors = layer(everyone)[:, 0]
    assert torch.equal(vectors[padding], torch.zeros(6))
    expected = layer.embeddings.weight[layer.hashes.long()].sum(1)
    others = everyone != padding
    torch.testing.assert_close(vectors[others], expected[others])

    layer(torch.tensor([padding, padding])).sum().backward()
    assert torch.equal(layer.embeddings.weight.grad, torch.zeros(30, 6))
    layer(everyone[on_row_0 & others][:1]).sum().backward()
    assert layer.embeddings.weight.grad[0].abs().min() > 0


def test_without_padding_id_0_is_like_any():
    layer = bloom(padding_idx=None)
    torch.testing.assert_close(layer(torch.tensor([0]))[0, 0], layer.embeddings.weight[layer.hashes[0].long()].sum(0))


def test_hashes_are_part_of_the_state_and_may_be_missing():
    layer, other = bloom(), bloom()
    ids = torch.arange(60)
    state = layer.state_dict()
    assert list(state) == ["hashes", "embeddings.weight"]
    assert state["hashes"].dtype == torch.int32
    assert "hashes" not in dict(layer.named_parameters())
    other.load_state_dict(state)
    assert torch.equal(other(ids), layer(ids))

    # The saved table counts, whatever the seeds of the version that loads it.
    state["hashes"] = state["hashes"].roll(1, 0)
    other.load_state_dict(state)
    assert torch.equal(other(ids[2:]), layer(ids[1:-1]))

    for prefix, module in (("", bloom()), ("1.", nn.Sequential(nn.Identity(), bloom()))):
        without = {f"{prefix}embeddings.weight": layer.embeddings.weight.detach()}
        module.load_state_dict(without)
        assert list(without) == [f"{prefix}embeddings.weight"]
        assert torch.equal(module(ids), layer(ids))
    with pytest.raises(RuntimeError, match=r"embeddings\.weight"):
        bloom().load_state_dict({})


def test_hashes_follow_the_layer():
    layer = bloom().to("meta")
    assert layer.hashes.is_meta
    assert bloom().double()(torch.tensor([1])).dtype == torch.float64
    with torch.device("meta"):
        assert bloom().hashes.is_meta


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_of_bloom(duplicate):
    layer = bloom(padding_idx=None)
    twin = duplicate(layer)
    ids = torch.arange(60)
    assert torch.equal(twin(ids), layer(ids))
    with torch.no_grad():
        twin.embeddings.weight.zero_()
    assert layer(ids).abs().sum() > 0
    assert "compression_ratio=0.5" in repr(twin)


def test_many_ids_take_every_row():
    layer = BloomEmbedding(200_000, 1, compression_ratio=0.01)
    counts = torch.bincount(layer.hashes.flatten(), minlength=2000)
    assert len(counts) == 2000
    # Poisson of mean 400: a deviation of 7 standard deviations is one in 4e11.
    assert (counts - 400).abs().max() < 7 * 20
    assert len(layer.hashes.sort(1).values.unique(dim=0)) > 199_990


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_embeddings": 0}, "num_embeddings"),
        ({"num_embeddings": 2**31}, "num_embeddings"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"embedding_dim": 2.0}, "embedding_dim"),
        ({"compression_ratio": 0.0}, "compression_ratio"),
        ({"compression_ratio": -1.0}, "compression_ratio"),
        ({"compression_ratio": float("nan")}, "compression_ratio"),
        ({"compression_ratio": 0.01}, r"compression_ratio must leave .* int\(0.01 \* 60\) is 0"),
        ({"compression_ratio": 1e9}, "compression_ratio must leave"),
        ({"num_hash_functions": 0}, "num_hash_functions"),
        ({"num_hash_functions": 25}, "num_hash_functions must be an integer between 1 and 24, got 25"),
        ({"padding_idx": -1}, "padding_idx"),
        ({"padding_idx": 60}, "padding_idx"),
    ],
)
def test_bloom_names_what_is_wrong(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        BloomEmbedding(**{"num_embeddings": 60, "embedding_dim": 4, **arguments})


@pytest.mark.parametrize("ids", [[-1, 3], [60, 3]])
def test_ids_beyond_the_layer(ids):
    with pytest.raises(IndexError, match=rf"^ids must lie in \[0, 60\), got {min(ids)} to {max(ids)}$"):
        bloom()(torch.tensor(ids))


def test_all_seeds_may_be_used():
    assert BloomEmbedding(5, 2, 1.0, num_hash_functions=24).hashes.shape == (5, 24)


@pytest.mark.parametrize("bag", [False, True])
def test_bilinear_net_has_no_padding(bag):
    users = BloomEmbedding(USERS, 8, compression_ratio=0.5, bag=bag, padding_idx=0)
    items = BloomEmbedding(ITEMS, 8, compression_ratio=0.5, bag=bag)
    net = BilinearNet(USERS, ITEMS, user_embedding_layer=users, item_embedding_layer=nn.Sequential(items))
    assert net.user_embeddings is users
    assert net.item_embeddings[0] is items
    for layer in (users, items):
        assert torch.equal(layer(torch.tensor([0]))[0, 0], layer.embeddings(layer.hashes[:1].long()).view(-1, 8).sum(0))
    assert net.user_vectors(torch.tensor([0])).abs().min() > 0
    twin = copy.deepcopy(net)
    assert torch.equal(twin(torch.tensor([0]), torch.tensor([0])), net(torch.tensor([0]), torch.tensor([0])))


def test_a_layer_serves_networks_with_and_without_padding():
    layer = BloomEmbedding(ITEMS, 8, compression_ratio=0.5)
    sequences = torch.tensor([[0, 0, 4, 2]])
    before = PoolNet(ITEMS, item_embedding_layer=layer)
    padded = before.user_representation(sequences)[0]
    BilinearNet(USERS, ITEMS, 8, item_embedding_layer=layer)
    assert layer.padding_idx is None
    assert torch.equal(before.user_representation(sequences)[0], padded)
    assert torch.equal(padded[:, :, :3], torch.zeros(1, 8, 3))


@pytest.mark.parametrize("cls", [ImplicitFactorizationModel, ExplicitFactorizationModel])
@pytest.mark.parametrize("bag", [False, True])
def test_fit_and_predict_with_bloom(cls, bag, tmp_path):
    def make():
        layers = (BloomEmbedding(size, 8, compression_ratio=0.5, bag=bag) for size in (USERS, ITEMS))
        return BilinearNet(USERS, ITEMS, 8, *layers)

    model = cls(loss=cls.LOSSES[-1], n_iter=5, batch_size=64, representation=make(), random_state=1)
    model.fit(data())
    assert model.history.losses[-1] < model.history.losses[0]
    every = np.arange(ITEMS)
    row = model.predict(0)
    assert row.shape == (ITEMS,)
    for same in (model.predict(0, every), model.predict(np.zeros(ITEMS, int), every), model.predict([0, 3])[0]):
        assert np.array_equal(same, row)
    users = np.arange(ITEMS) % USERS
    np.testing.assert_array_equal(model.predict(users, every), model.predict(np.arange(USERS))[users, every])
    if cls is ImplicitFactorizationModel:  # which predicts the scores themselves
        scores = model._net(torch.zeros(ITEMS, dtype=torch.int64), torch.from_numpy(every))
        np.testing.assert_allclose(row, scores.detach(), rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model")
    assert np.array_equal(cls.load(tmp_path / "model", representation=make()).predict(0), row)


@pytest.mark.parametrize("bag", [False, True])
def test_deferred_adam_with_bloom(bag):
    dense = BilinearNet(USERS, ITEMS, 8, item_embedding_layer=BloomEmbedding(ITEMS, 8, 0.5, bag=bag))
    sparse = copy.deepcopy(dense)
    sparse.item_embeddings.embeddings.sparse = True
    sparse.item_biases.sparse = True
    optimizers = torch.optim.Adam(dense.parameters(), lr=1e-2), DeferredAdam(sparse, lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        users, items = (torch.randint(size, (4,), generator=generator) for size in (USERS, ITEMS))
        for net, optimizer in zip((dense, sparse), optimizers, strict=True):
            optimizer.zero_grad()
            (1 - net(users, items)).square().mean().backward()
            optimizer.step()
    assert sparse.item_embeddings.embeddings.weight.grad.is_sparse
    optimizers[1].flush()
    for one, other in zip(dense.parameters(), sparse.parameters(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["user_embedding_layer", "item_embedding_layer"])
def test_layers_are_modules(name):
    with pytest.raises(TypeError, match=rf"^{name} must be a torch\.nn\.Module, got 3 of type int$"):
        BilinearNet(USERS, ITEMS, **{name: 3})


@pytest.mark.parametrize(
    ("layers", "lengths"),
    [
        ({"user_embedding_layer": nn.Embedding(USERS, 8)}, "8 and 32"),
        ({"item_embedding_layer": BloomEmbedding(ITEMS, 8)}, "32 and 8"),
        (
            {"user_embedding_layer": ScaledEmbedding(USERS, 8), "item_embedding_layer": ZeroEmbedding(ITEMS, 1)},
            "8 and 1",
        ),
    ],
)
def test_vectors_are_of_one_length(layers, lengths):
    message = f"^vectors of users and items must be of one length .*, got {lengths}$"
    with pytest.raises(ValueError, match=message):
        BilinearNet(USERS, ITEMS, **layers)


def test_the_length_of_vectors_is_not_known_of_every_layer():
    class Wide(nn.Embedding):
        def forward(self, ids):
            return super().forward(ids).repeat(1, 4)

    net = BilinearNet(USERS, ITEMS, user_embedding_layer=Wide(USERS, 8))
    assert net(torch.tensor([1]), torch.tensor([2])).shape == (1,)
