"""RowwiseAdagrad: its formula, for dense and for sparse gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spotfast.optim import RowwiseAdagrad

ROWS, DIM = 20, 5


def steps(count=30):
    """Ids and the gradients of what is looked up, with ids that occur twice."""
    rng = np.random.default_rng(0)
    return [
        (torch.from_numpy(rng.integers(0, ROWS // 2, 4)), torch.from_numpy(rng.normal(size=(4, DIM))))
        for _ in range(count)
    ]


def trained(sparse, rate=lambda step: 0.1, eps=1e-3):
    torch.manual_seed(0)
    layer = nn.Embedding(ROWS, DIM, sparse=sparse, dtype=torch.float64)
    start = layer.weight.detach().clone()
    optimizer = RowwiseAdagrad(layer.parameters(), lr=0.1, eps=eps)
    for step, (ids, gradients) in enumerate(steps()):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        (layer(ids) * gradients).sum().backward()
        optimizer.step()
    return start, layer.weight.detach(), optimizer.state[layer.weight]["sum"]


@pytest.mark.parametrize("sparse", [False, True])
def test_formula(sparse):
    def rate(step):
        return 0.1 / (1 + step)

    expected, weight, sums = trained(sparse, rate)
    expected_sums = np.zeros(ROWS)
    expected = expected.numpy().copy()
    for step, (ids, gradients) in enumerate(steps()):
        gradient = np.zeros((ROWS, DIM))
        np.add.at(gradient, ids.numpy(), gradients.numpy())
        expected_sums += (gradient**2).mean(axis=1)
        expected -= rate(step) * gradient / (np.sqrt(expected_sums) + 1e-3)[:, np.newaxis]
    np.testing.assert_allclose(weight, expected, rtol=1e-12)
    np.testing.assert_allclose(sums[:, 0], expected_sums, rtol=1e-12)


def test_rows_without_a_gradient_stay():
    for sparse in (False, True):
        start, weight, sums = trained(sparse)
        moved = (weight != start).any(dim=1)
        assert moved.tolist() == [True] * (ROWS // 2) + [False] * (ROWS // 2)
        assert torch.equal(sums[:, 0] > 0, moved)


def test_sparse_gradients_are_those_of_dense_ones():
    for dense, sparse in zip(trained(False), trained(True), strict=True):
        torch.testing.assert_close(dense, sparse, rtol=1e-12, atol=1e-12)


def test_a_closure_and_a_state_that_is_loaded():
    torch.manual_seed(0)
    layer = nn.Embedding(ROWS, DIM)
    optimizer = RowwiseAdagrad(layer.parameters())

    def closure():
        optimizer.zero_grad()
        loss = layer.weight.square().sum()
        loss.backward()
        return loss

    losses = [optimizer.step(closure).item() for _ in range(3)]
    assert losses[2] < losses[1] < losses[0]
    other = RowwiseAdagrad(layer.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.state[layer.weight]["sum"], optimizer.state[layer.weight]["sum"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"lr": -0.1}, "lr must be .* got -0.1"), ({"eps": 0.0}, "eps must be .* got 0")],
)
def test_values_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        RowwiseAdagrad(nn.Embedding(2, 2).parameters(), **arguments)


def test_parameters_of_another_shape():
    with pytest.raises(ValueError, match=r"two dimensions, got one of shape \(3,\)"):
        RowwiseAdagrad([nn.Parameter(torch.zeros(3))])
