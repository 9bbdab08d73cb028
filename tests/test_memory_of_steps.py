"""Memory that runs out in the first step of an optimizer, where it allocates what it keeps: nothing has moved."""

from __future__ import annotations

import pytest
import torch
from models_to_train import ITEMS, OPTIMIZERS, USERS, data, made, weights_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from spotfast.device_memory import DeviceMemoryError
from spotfast.optim import DeferredAdam, RowwiseAdagrad

ALLOCATING = {torch.ops.aten.zeros_like, torch.ops.aten.zeros, torch.ops.aten.full, torch.ops.aten.clone}


def in_two_groups(make, **options):
    """Two groups: one has moved when the other allocates."""

    def made(parameters):
        parameters = list(parameters)
        return make([{"params": parameters[:1]}, {"params": parameters[1:]}], **options)

    return {"optimizer_func": made}


KEEPING = {
    **{name: OPTIMIZERS[name] for name in ("the default", "the default for sparse", "SparseAdam", "SGD with momentum")},
    "Adam in two groups": in_two_groups(torch.optim.Adam, lr=1e-2),
    "AdamW in two groups": in_two_groups(torch.optim.AdamW, lr=1e-2, amsgrad=True),
}


class MemoryRunsOut(TorchDispatchMode):
    """There is none left for one of the tensors of these shapes that are made of nothing, or copied.

    Args:
        shapes: of what is counted.
        number: which of them, from 0, there is no memory for.
    """

    def __init__(self, shapes, number):
        super().__init__()
        self._shapes, self._left = set(shapes), number

    @property
    def has_happened(self):
        return self._left < 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if function.overloadpacket in ALLOCATING and tuple(result.shape) in self._shapes:
            self._left -= 1
            if self.has_happened:
                out_of_memory()
        return result


def out_of_memory(*arguments):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of")


@pytest.mark.parametrize("optimizer", KEEPING)
def test_models(optimizer, autograd):
    """At any of the tensors that the optimizer keeps: the model is as before, and trains when there is memory."""

    def untrained():
        model = made(n_iter=1, batch_size=1000, **KEEPING[optimizer])
        model._initialize(USERS, ITEMS)
        return model

    with autograd():
        twin = untrained()
        twin.fit(data())
        for number in range(4 if optimizer == "SGD with momentum" else 8):
            model = untrained()
            before = [parameter.detach().clone() for parameter in model._net.parameters()]
            memory = MemoryRunsOut([tuple(parameter.shape) for parameter in before], number)
            with pytest.raises(DeviceMemoryError), memory:
                model.fit(data())
            assert all(map(torch.equal, model._net.parameters(), before))
            model.fit(data())
            assert torch.equal(weights_of(model), weights_of(twin))
            assert model.history == twin.history


class TestOurOptimizers:
    @staticmethod
    def stepped(make, number=None):
        """Three tables after a step, before which memory ran out as table `number` of what is kept was made."""
        net = nn.ModuleList(nn.Embedding(30, 4, sparse=True) for _ in range(3))
        with torch.no_grad():
            for value, layer in enumerate(net):
                layer.weight.fill_(value)
        optimizer = make(net)
        sum(layer(torch.tensor([1, 2, 2])).square().sum() for layer in net).backward()
        if number is not None:
            before = [layer.weight.detach().clone() for layer in net]
            with pytest.raises(torch.cuda.OutOfMemoryError), MemoryRunsOut([(30, 4), (30,)], number):
                optimizer.step()
            assert all(torch.equal(layer.weight, weight) for layer, weight in zip(net, before, strict=True))
            optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step()
        return [layer.weight.detach() for layer in net]

    @pytest.mark.parametrize("number", range(6))
    def test_deferred_adam(self, number):
        assert all(map(torch.equal, self.stepped(DeferredAdam, number), self.stepped(DeferredAdam)))

    @pytest.mark.parametrize("sparse", [False, True])
    def test_rowwise_adagrad(self, sparse, monkeypatch):
        """What it keeps is there from the start; sums do not move without their rows."""
        layer = nn.Embedding(30, 4, sparse=sparse)
        optimizer = RowwiseAdagrad(layer.parameters())
        layer(torch.tensor([1, 2, 2])).sum().backward()
        monkeypatch.setattr(torch.Tensor, "sqrt", out_of_memory)
        with pytest.raises(torch.cuda.OutOfMemoryError):
            optimizer.step()
        assert not optimizer.state[layer.weight]["sum"].any()
