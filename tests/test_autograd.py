"""The engine of any network and any optimizer: what it asks of them at a step."""

from __future__ import annotations

import pytest
import torch
from models_to_train import DIM, ITEMS, USERS, data, fitted
from torch import nn

STEPS = 8
one_epoch = {"n_iter": 1, "batch_size": 125, "random_state": 5}


class ByTurns(nn.Module):
    """Reads one table of items at even calls, the other one at odd calls."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(USERS, DIM)
        self.items = nn.ModuleList(nn.Embedding(ITEMS, DIM) for _ in range(2))
        self.calls = 0

    def forward(self, user_ids, item_ids):
        items = self.items[self.calls // 2 % 2]  # two calls at a step: positives, negatives
        self.calls += 1
        return (self.users(user_ids) * items(item_ids)).sum(1)


def of_a_class(cleared):
    class Clearing(torch.optim.SGD):
        def zero_grad(self, set_to_none=True):
            cleared.append(set_to_none)
            super().zero_grad(set_to_none)

    return lambda parameters: Clearing(parameters, lr=0.1)


def of_an_object(cleared):
    def make(parameters):
        optimizer = torch.optim.SGD(parameters, lr=0.1, nesterov=True, momentum=0.9)
        plain = optimizer.zero_grad
        optimizer.zero_grad = lambda: cleared.append(True) or plain()
        return optimizer

    return make


@pytest.mark.filterwarnings("ignore:training runs through autograd")
@pytest.mark.parametrize("make", [of_a_class, of_an_object])
def test_a_zero_grad_of_ones_own_is_called(make):
    cleared = []
    fitted(interactions=data(125 * STEPS), optimizer_func=make(cleared), **one_epoch)
    assert cleared == [True] * STEPS


@pytest.mark.filterwarnings("ignore:training runs through autograd")
def test_what_a_step_did_not_read_has_no_gradient():
    """As with torch's `zero_grad`: None, not zeros, with which Adam would move a table."""
    seen = []

    class Looking(torch.optim.SGD):
        def step(self):
            seen.append([parameter.grad is None for parameter in self.param_groups[0]["params"]])
            return super().step()

    net = ByTurns()
    fitted(
        interactions=data(125 * STEPS),
        representation=net,
        optimizer_func=lambda parameters: Looking(parameters, lr=0.1),
        **one_epoch,
    )
    assert net.calls == 2 * STEPS
    assert seen == [[False, False, True], [False, True, False]] * (STEPS // 2)
