"""The operations that training through autograd uses, on the device against the reference on the CPU."""

from __future__ import annotations

import pytest
import torch

from spotfast.ops.bilinear import bilinear
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.sequence_loss import LOSSES, sequence_loss

CPU = torch.device("cpu")


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ids(high, *shape, seed=0):
    return torch.randint(0, high, shape, generator=torch.Generator().manual_seed(seed))


def gradients(function, leaves, device, **keywords):
    """The result, and the gradients of its sum with fixed weights, on the CPU."""
    leaves = [leaf.to(device, copy=True).requires_grad_() for leaf in leaves]
    result = function(*leaves, **keywords)
    weights = normal(*result.shape, seed=9).to(device)
    result.backward(weights)
    found = [leaf.grad.to_dense() for leaf in leaves]
    return [tensor.detach().cpu() for tensor in (result, *found)]


def close(own, expected):
    for ours, theirs in zip(own, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dim", [1, 32, 33, 128, 300])
def test_bilinear(device, dim, sparse):
    tables = [normal(20, dim), normal(20, 1, seed=1), normal(30, dim, seed=2), normal(30, 1, seed=3)]
    user_ids, item_ids = ids(20, 57), ids(30, 57, 2)

    def scores(*leaves, backend):
        place = leaves[0].device
        return bilinear(*leaves, user_ids.to(place), item_ids.to(place), sparse=sparse, backend=backend)

    own = gradients(scores, tables, device, backend="triton")
    close(own, gradients(scores, tables, CPU, backend="reference"))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("dim", "length"), [(32, 50), (33, 7), (128, 1)])
def test_sequence_loss(device, loss, dim, length):
    slots = 4 if loss == "adaptive_hinge" else 1
    leaves = [normal(5, dim, length) / dim**0.5, normal(40, dim, seed=1), normal(40, 1, seed=2)]
    inputs = ids(40, 5, length), ids(40, slots, 5, length, seed=1), ids(2, 5, length, seed=2)
    inputs[2][0, 0] = 1

    def mean(*leaves, backend):
        place = leaves[0].device
        return sequence_loss(*leaves, *(tensor.to(place) for tensor in inputs), loss, backend=backend)

    own = gradients(mean, leaves, device, backend="triton")
    close(own, gradients(mean, leaves, CPU, backend="reference"))


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("dim", [1, 64, 200])
def test_row_update(device, samples, dim, weight_decay):
    """A few steps: rows are read in between, most of them owing steps."""
    entries = min(samples, 40)
    finals = []
    for place, backend in ((device, "triton"), (CPU, "reference")):
        table = tuple(tensor.to(place) for tensor in (normal(50, dim), torch.zeros(50, dim), torch.zeros(50, dim)))
        rows = DeferredRows(table[0], (0.9, 0.999), 1e-8, weight_decay, backend=backend)
        for step in range(6):
            touched = ids(20 + 6 * step, entries, seed=step).to(place)
            rows.catch_up(table, touched)
            rows.update(table, touched, normal(entries, dim, seed=step).to(place), learning_rate=1e-2)
        rows.flush(table)
        finals.append([table[0].cpu(), table[1].cpu(), table[2].sqrt().cpu()])
    close(*finals)


@pytest.mark.device_only
def test_the_same_bits_twice(device):
    tables = [normal(200, 64), normal(200, 1, seed=1), normal(300, 64, seed=2), normal(300, 1, seed=3)]
    user_ids, item_ids = ids(200, 5000).to(device), ids(300, 5000, 2).to(device)
    results = [gradients(lambda *leaves: bilinear(*leaves, user_ids, item_ids), tables, device) for _ in range(2)]
    for first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
