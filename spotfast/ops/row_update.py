"""Dense Adam at the cost of the rows touched, for one embedding table.

With dense gradients, Adam moves every row at every step. Here, a row without a gradient takes its steps when it is
next read. What it owes then has a closed form: `spotfast.reference.row_update` has the formula.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends
from spotfast.reference import row_update as reference

MOST_ROWS = 2**31 - 1  # of the C++ engine
Table = tuple[Tensor, Tensor, Tensor]


class DeferredRows:
    """Up to which step each row of a table is done, and how it gets further.

    The table is handed to each method: `weight`, `exp_avg` and `exp_avg_sq` of shape (N, D), as in
    `torch.optim.Adam`, always the same three. They are changed in place. Results do not depend on the number of
    threads.

    Args:
        weight: of the table; of a floating-point dtype, on any device. float32 in contiguous memory of the CPU is
            worked on in C++.
        betas: decay rates of the two moments, in [0, 1).
        eps: added to the denominator, above 0.
        weight_decay: L2 penalty, at least 0, not decoupled.
        steps: how many steps have been taken; every row is up to date. After 0 steps, moments must be zero.
        backend: "auto", "native" or "reference".

    Attributes:
        settings: betas, eps and weight decay.
        owing: whether a step was taken since all rows were last up to date.

    Raises:
        ValueError: for an unknown backend or a weight that is not of two dimensions.
        RuntimeError: for backend "native" where it cannot run.

    Example:
        >>> weight, exp_avg, exp_avg_sq = torch.zeros(3, 3, 2)
        >>> rows = DeferredRows(weight, (0.9, 0.999), 1e-8, 0.0)
        >>> rows.update((weight, exp_avg, exp_avg_sq), torch.tensor([2, 2]), torch.ones(2, 2), learning_rate=0.5)
        >>> weight[2]
        tensor([-0.5000, -0.5000])
    """

    def __init__(
        self,
        weight: Tensor,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        steps: int = 0,
        *,
        backend: str = "auto",
    ) -> None:
        if weight.ndim != 2:
            raise ValueError(f"weight must be of shape (N, D), got {tuple(weight.shape)}")
        self.settings = (betas, eps, weight_decay)
        self.owing = False
        unfit = _unfit(weight)
        if unfit is None:
            backend = backends.choose("row_update", weight.device, backend)
        elif backend == "native":
            raise RuntimeError(f"backend 'native' cannot run row_update: {unfit}")
        else:
            backend = "reference"
        make = _NativeRows if backend == "native" else reference.DeferredRows
        self._engine: _Engine = make(len(weight), weight.device, betas, eps, weight_decay, steps)

    def catch_up(self, table: Table, ids: Tensor) -> None:
        """Bring the rows `ids` up to date.

        Args:
            table: `weight`, `exp_avg`, `exp_avg_sq`.
            ids: int64 or int32 tensor of any shape, values in [0, N); they may repeat.

        Raises:
            IndexError: for an id out of range.
        """
        if self.owing:
            self._engine.catch_up(table, ids.reshape(-1).long())

    def update(self, table: Table, ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Take one step, with a sparse gradient.

        Args:
            table: `weight`, `exp_avg`, `exp_avg_sq`.
            ids: int64 tensor of shape (E,), values in [0, N). They may repeat: gradients of a row are summed, in the
                order of the entries on the CPU.
            gradient: tensor of shape (E, D), of the weight's dtype.
            learning_rate: at least 0; another one at each step, if you like.

        Raises:
            ValueError: for other shapes.
            IndexError: for an id out of range.
        """
        if ids.ndim != 1 or gradient.shape != (len(ids), table[0].shape[1]):
            raise ValueError(
                f"gradient must be of shape ({len(ids)}, {table[0].shape[1]}) for ids of shape {tuple(ids.shape)}, "
                f"got {tuple(gradient.shape)}"
            )
        self._engine.update(table, ids, gradient, learning_rate)
        self.owing = True

    def flush(self, table: Table) -> None:
        """Bring all rows up to date.

        Args:
            table: `weight`, `exp_avg`, `exp_avg_sq`.
        """
        if self.owing:
            self._engine.flush(table)
            self.owing = False


class _Engine(Protocol):
    def catch_up(self, table: Table, ids: Tensor) -> None: ...

    def update(self, table: Table, ids: Tensor, gradient: Tensor, learning_rate: float) -> None: ...

    def flush(self, table: Table) -> None: ...


class _NativeRows:
    """The same in C++, which works on the memory of the tensors."""

    def __init__(
        self,
        count: int,
        device: torch.device,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        steps: int,
    ) -> None:
        self._rows = backends.native().DeferredRows(
            rows=count, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay, steps=steps
        )
        self._count = count
        self._addresses: list[int] = []
        self._arrays: list[NDArray[Any]] = []

    def catch_up(self, table: Table, ids: Tensor) -> None:
        if self._rows.catch_up(*self._memory(table), ids.contiguous().numpy(), backends.num_threads()):
            torch.autograd.graph.increment_version(table[0])

    def update(self, table: Table, ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        ids, gradient = ids.contiguous(), gradient.detach().contiguous()
        arrays = *self._memory(table), ids.numpy(), gradient.numpy()
        self._rows.update(*arrays, learning_rate, backends.num_threads())
        torch.autograd.graph.increment_version(table[0])

    def flush(self, table: Table) -> None:
        self._rows.flush(*self._memory(table), backends.num_threads())
        torch.autograd.graph.increment_version(table[0])

    def _memory(self, table: Table) -> list[NDArray[Any]]:
        """Return the tensors as arrays: kept, for making them takes longer than a small step, until one moves."""
        addresses = [tensor.data_ptr() for tensor in table]
        if addresses != self._addresses:
            for name, tensor in zip(("weight", "exp_avg", "exp_avg_sq"), table, strict=True):
                unfit = _unfit(tensor)
                if unfit is None and tensor.shape != (self._count, table[0].shape[1]):
                    unfit = f"it is of shape {tuple(tensor.shape)}"
                if unfit is not None:
                    raise ValueError(f"{name} must be contiguous float32 of {self._count} rows on the CPU, but {unfit}")
            self._addresses, self._arrays = addresses, [tensor.detach().numpy() for tensor in table]
        return self._arrays


def _unfit(tensor: Tensor) -> str | None:
    """Return why C++ cannot work on a tensor, or None if it can."""
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or not tensor.is_contiguous():
        return f"it is {tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
    if len(tensor) > MOST_ROWS:
        return f"it has more than {MOST_ROWS} rows: {len(tensor)}"
    return None
