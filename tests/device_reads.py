"""What the host would wait for if tensors were on a CUDA device, counted on the CPU: of several files of tests."""

from __future__ import annotations

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class DeviceReads:
    """`with DeviceReads() as reads:` counts numbers that are read from tensors, and results of unknown size.

    Attributes:
        count: how many there were.
    """

    def __init__(self):
        self.count = 0
        self._modes = _Lists(self), _Numbers(self)

    def __enter__(self):
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)


class _Lists(TorchFunctionMode):
    """On the CPU, these are not seen below."""

    def __init__(self, reads):
        super().__init__()
        self._reads = reads

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        self._reads.count += function is torch.Tensor.tolist
        return function(*arguments, **(keywords or {}))


class _Numbers(TorchDispatchMode):
    def __init__(self, reads):
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        self._reads.count += function.overloadpacket in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
        if function.overloadpacket is torch.ops.aten.index:
            self._reads.count += any(index is not None and index.dtype == torch.bool for index in arguments[1])
        return function(*arguments, **(keywords or {}))
