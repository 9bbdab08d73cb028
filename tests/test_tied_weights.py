"""DeferredAdam where a table is read past its layer, too: as the output of a softmax that shares its weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from spotfast.optim import DeferredAdam

pytestmark = pytest.mark.exhaustive

ITEMS, DIM = 80, 6


class Tied(nn.Module):
    """Scores items for the item before; the table is looked up for both, or multiplied as a whole."""

    def __init__(self, kind, sparse):
        super().__init__()
        self.items = kind(ITEMS, DIM, sparse=sparse)
        self.inner = nn.Linear(DIM, DIM)

    def look_up(self, ids):
        return self.items(ids) if isinstance(self.items, nn.Embedding) else self.items(ids.reshape(-1, 1))

    def sampled_loss(self, ids, candidates):
        hidden = self.inner(self.look_up(ids)).unsqueeze(1)
        vectors = self.look_up(candidates).reshape(*candidates.shape, DIM)
        return F.cross_entropy((hidden * vectors).sum(2), torch.zeros(len(ids), dtype=torch.int64))

    def full_loss(self, ids, targets):
        return F.cross_entropy(self.inner(self.look_up(ids)) @ self.items.weight.T, targets)


@pytest.fixture(params=["native", "reference"])
def twins(request, monkeypatch):
    """`twins(kind)`: two equal networks, the first with sparse gradients, and their optimizers."""
    monkeypatch.setenv("SPOTFAST_BACKEND", "auto" if request.param == "native" else "reference")

    def made(kind=nn.Embedding):
        torch.manual_seed(0)
        sparse, dense = Tied(kind, sparse=True), Tied(kind, sparse=False)
        dense.load_state_dict(sparse.state_dict())
        return (sparse, dense), (DeferredAdam(sparse, lr=1e-2), torch.optim.Adam(dense.parameters(), lr=1e-2))

    return made


def train(nets, optimizers, steps, *, full_every=0, flush=True, seed=1):
    """Return the losses (steps, networks): of a few popular items; of the whole catalogue, now and then."""
    generator = torch.Generator().manual_seed(seed)
    losses = torch.zeros(steps, len(nets))
    for step in range(steps):
        ids, *candidates = (ITEMS * torch.rand(5, 4, generator=generator) ** 4).long()
        is_full = full_every > 0 and step % full_every == full_every - 1
        for column, (net, optimizer) in enumerate(zip(nets, optimizers, strict=True)):
            optimizer.zero_grad()
            if is_full and flush and isinstance(optimizer, DeferredAdam):
                optimizer.flush()
            loss = net.full_loss(ids, candidates[0]) if is_full else net.sampled_loss(ids, torch.stack(candidates, 1))
            loss.backward()
            optimizer.step()
            losses[step, column] = loss.item()
    return losses


def assert_same(net, other):
    torch.testing.assert_close(list(net.parameters()), list(other.parameters()), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
@pytest.mark.parametrize("full_every", [1, 2, 17])
def test_flushed_before_every_softmax(twins, kind, full_every):
    """A gradient is dense where the table is multiplied as a whole, although it was looked up, too."""
    nets, optimizers = twins(kind)
    start = nets[1].items.weight.detach().clone()
    losses = train(nets, optimizers, 170, full_every=full_every)
    optimizers[0].flush()
    assert (nets[1].items.weight - start).abs().max() > 0.1
    torch.testing.assert_close(losses[:, 0], losses[:, 1], rtol=1e-4, atol=1e-5)
    assert_same(*nets)


def test_without_a_flush_rows_are_behind_that_were_not_looked_up(twins):
    nets, optimizers = twins()
    losses = train(nets, optimizers, 17, full_every=17, flush=False)
    torch.testing.assert_close(losses[:16, 0], losses[:16, 1], rtol=1e-4, atol=1e-5)
    assert (losses[16, 0] - losses[16, 1]).abs() > 1e-3


def test_a_flush_between_softmax_and_backward_is_noticed(twins):
    """Autograd must not use weights that have changed."""
    (net, _), (optimizer, _) = twins()
    train((net,), (optimizer,), 5)
    loss = net.full_loss(torch.tensor([1]), torch.tensor([2]))
    optimizer.flush()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_copies_of_the_network(twins, kind):
    """Of a network that was flushed; what is copied trains on with an optimizer of its own."""
    nets, optimizers = twins(kind)
    train(nets, optimizers, 40, full_every=17)
    optimizers[0].flush()
    copied = copy.deepcopy(nets[0])
    loaded = Tied(kind, sparse=True)
    loaded.load_state_dict(nets[0].state_dict())
    for twin in (copied, loaded):
        assert_same(twin, nets[1])
        dense = copy.deepcopy(nets[1])
        own, other = DeferredAdam(twin, lr=1e-2), torch.optim.Adam(dense.parameters(), lr=1e-2)
        for optimizer, before in zip((own, other), optimizers, strict=True):
            optimizer.load_state_dict(copy.deepcopy(before.state_dict()))  # it would share tensors
        train((twin, dense), (own, other), 40, full_every=17, seed=2)
        own.flush()
        assert_same(twin, dense)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_adam_goes_on_and_deferred_adam_after_it(twins, kind):
    """`optimizer.state_dict()` flushes: the network may be read after it."""
    nets, optimizers = twins(kind)
    train(nets, optimizers, 40, full_every=17)
    state = copy.deepcopy(optimizers[0].state_dict())
    net = Tied(kind, sparse=False)
    net.load_state_dict(nets[0].state_dict())
    adam = torch.optim.Adam(net.parameters(), lr=1e-2)
    adam.load_state_dict(state)
    train((net, nets[1]), (adam, optimizers[1]), 40, full_every=17, seed=2)
    assert_same(net, nets[1])
    net.items.sparse = True
    back = DeferredAdam(net, lr=1e-2)
    back.load_state_dict(copy.deepcopy(adam.state_dict()))
    train((net, nets[1]), (back, optimizers[1]), 40, full_every=17, seed=3)
    back.flush()
    assert_same(net, nets[1])
