"""Slices of ids, masks, gradients and vectors may begin anywhere; kernels get them at a multiple of 16 bytes.

A kernel that was compiled ahead of time takes that for granted, so with SPOTFAST_AOT=require a slice would be an error.
Launches are replaced: they note where their tensors begin, and do next to nothing.
"""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest
import torch

import spotfast.kernels
from spotfast import backends
from spotfast.cuda.choice import ALIGNMENT
from spotfast.ops import bilinear, negatives, sequence_loss
from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.row_update import DeferredRows
from spotfast.ops.topk import vector_topk
from spotfast.positives import Positives
from spotfast.rows import Rows

COUNT, DIM, ITEMS = 9, 4, 12
LOOKED_UP = {"sequence_loss_kernel": (1, 2)}  # arguments that are ids, which torch looks up


@pytest.fixture
def begun(monkeypatch):
    """What was launched, by name, and how many bytes beyond a multiple of 16 each of its tensors begins."""
    begun = {}

    def launch(kernel, grid, *arguments, **constants):
        tensors = [each for each in arguments if isinstance(each, torch.Tensor)]
        begun.setdefault(kernel.fn.__name__, []).extend(tensor.data_ptr() % ALIGNMENT for tensor in tensors)
        for place in LOOKED_UP.get(kernel.fn.__name__, ()):
            arguments[place].zero_()

    for info in pkgutil.iter_modules(spotfast.kernels.__path__):
        file = importlib.import_module(f"spotfast.kernels.{info.name}")
        if hasattr(file, "launch") and info.name != "launch":
            monkeypatch.setattr(file, "launch", launch)
    monkeypatch.setattr(backends, "choose", lambda operation, device, backend="auto": "triton")
    return begun


def odd(tensor):
    """The same numbers, contiguous as far as the tensor is, from one number behind a multiple of 16 bytes on."""
    memory = torch.zeros(tensor.numel() + 1 + ALIGNMENT, dtype=tensor.dtype)
    first = -memory.data_ptr() % ALIGNMENT // tensor.element_size() + 1
    moved = memory[first : first + tensor.numel()].view(tensor.shape).copy_(tensor)
    assert moved.data_ptr() % ALIGNMENT
    assert moved.is_contiguous()
    return moved


def ids(*shape):
    return odd(torch.randint(0, ITEMS, shape, generator=torch.Generator().manual_seed(0)))


def positives():
    return Positives(odd(torch.arange(ITEMS + 1)), odd(torch.arange(ITEMS, dtype=torch.int32)), ITEMS)


def scores():
    tables = [torch.randn(ITEMS, width).requires_grad_() for width in (DIM, 1, DIM, 1)]
    found = bilinear.bilinear(*tables, ids(COUNT), ids(COUNT, 1))
    found.backward(odd(torch.ones(COUNT, 1)))


def loss_of_sequences():
    states = odd(torch.randn(3, 5, DIM)).transpose(1, 2).requires_grad_()
    tables = [torch.randn(ITEMS, width).requires_grad_() for width in (DIM, 1)]
    loss = sequence_loss.sequence_loss(states, *tables, ids(3, 5), ids(1, 3, 5), odd(torch.ones(3, 5) > 0), "bpr")
    loss.backward(odd(torch.ones(1))[0])


def step():
    table = tuple(torch.zeros(ITEMS, DIM) for _ in range(3))
    rows = DeferredRows(table[0], (0.9, 0.999), 1e-8, 0.0)
    for _ in range(2):
        rows.catch_up(table, ids(COUNT))
        rows.update(table, ids(COUNT), odd(torch.ones(COUNT, DIM)), 1e-2)


def vectors():
    return [odd(torch.randn(shape)) for shape in ((COUNT, 3), (COUNT,), (ITEMS, 3), (ITEMS,))]


def ranks():
    vector_rank_counts(*vectors(), Rows(np.arange(COUNT + 1), np.arange(COUNT)), Rows.empty(COUNT))


CALLS = {
    "vector_ranks": (ranks, ("pair_scores_kernel", "rank_counts_kernel")),
    "vector_topk": (lambda: vector_topk(*vectors(), 2), ("group_maxima_kernel", "candidate_keys_kernel")),
    "bilinear": (scores, ("scores_kernel", "row_gradients_kernel")),
    "sequence_loss": (loss_of_sequences, ("sequence_loss_kernel", "sequence_gradient_kernel")),
    "row_update": (step, ("claim_kernel", "catch_up_kernel", "sum_pieces_kernel", "update_kernel")),
    "unseen": (lambda: negatives.unseen(1, 2, 0, COUNT, 1, positives(), ids(COUNT)), ("unseen_kernel",)),
    "popularity": (
        lambda: negatives.popularity(1, 2, 0, COUNT, 1, odd(torch.arange(ITEMS - 1)), positives(), ids(COUNT)),
        ("popularity_kernel",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("operation", CALLS)
def test_every_tensor_begins_where_a_cubin_wants_it(begun, operation):
    call, kernels = CALLS[operation]
    call()
    assert begun.keys() >= set(kernels)
    assert {name: set(places) for name, places in begun.items()} == {name: {0} for name in begun}
