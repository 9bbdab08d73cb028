"""Dense Adam at the cost of the rows touched, for one embedding table.

With dense gradients, Adam moves every row at every step. Here, a row without a gradient takes its steps when it is
next read. What it owes then has a closed form: `spotfast.reference.row_update` has the formula.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops.tables import UpdateRule
from spotfast.reference import row_update as reference

MOST_ROWS = 2**31 - 1  # of the C++ engine
MOST_ENTRIES = 2**31 - 1  # likewise, in one call
MOST_COLUMNS = 512  # of the kernels
Table = tuple[Tensor, Tensor, Tensor]


class DeferredRows:
    """Up to which step each row of a table is done, and how it gets further.

    The table is handed to each method: `weight`, `exp_avg` and `exp_avg_sq` of shape (N, D), as in
    `torch.optim.Adam`, always the same three. They are changed in place. Results do not depend on the number of
    threads.

    Args:
        weight: of the table; of a floating-point dtype, on any device. float32 in contiguous memory of the CPU is
            worked on in C++; float32 and bfloat16 in contiguous memory of a CUDA device, with at most 512 columns, in
            Triton. There, moments and arithmetic are float32, and bfloat16 weights are rounded stochastically: up or
            down, right on average.
        betas: decay rates of the two moments, in [0, 1).
        eps: added to the denominator, above 0.
        weight_decay: L2 penalty, at least 0, not decoupled.
        steps: how many steps have been taken; every row is up to date. After 0 steps, moments must be zero.
        number: of the table, at least 0 and below 2**16: tables of different numbers are rounded by different draws.
        backend: "auto", "native", "triton" or "reference".

    Attributes:
        settings: betas, eps and weight decay.
        owing: whether a step was taken since all rows were last up to date.

    Raises:
        ValueError: for an unknown backend, a weight that is not of two dimensions, or a number out of range.
        RuntimeError: for a backend that is named where it cannot run.

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
        number: int = 0,
        backend: str = "auto",
    ) -> None:
        if weight.ndim != 2:
            raise ValueError(f"weight must be of shape (N, D), got {tuple(weight.shape)}")
        self.settings = (betas, eps, weight_decay)
        self.owing = False
        chosen = backends.choose("row_update", weight.device, backend)
        unfit = _UNFIT[chosen](weight) if chosen in _UNFIT else None
        if unfit is not None and backend == chosen:
            raise RuntimeError(f"backend {backend!r} cannot run row_update: {unfit}")
        validation.integer("number", number, 0, 2**16 - 1)
        make = reference.DeferredRows if unfit is not None else _ENGINES[chosen]
        self._start = (len(weight), weight.device, betas, eps, weight_decay, steps)
        self._engine: _Engine = _TritonRows(*self._start, number) if make is _TritonRows else make(*self._start)
        self._backend = backend
        self._started = False

    def catch_up(self, table: Table, ids: Tensor) -> None:
        """Bring the rows `ids` up to date.

        Args:
            table: `weight`, `exp_avg`, `exp_avg_sq`.
            ids: int64 or int32 tensor of any shape, values in [0, N); they may repeat.

        Raises:
            IndexError: for an id out of range; on a CUDA device, where it is left out, at the next flush.
        """
        if self.owing:
            self._engine.catch_up(table, ids.reshape(-1).long())

    def update(self, table: Table, ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """Take one step, with a sparse gradient.

        Args:
            table: `weight`, `exp_avg`, `exp_avg_sq`.
            ids: int64 tensor of shape (E,), values in [0, N). They may repeat: gradients of a row are summed, in the
                order of the entries on the CPU; in C++ and Triton the same in each run.
            gradient: tensor of shape (E, D), of the weight's dtype.
            learning_rate: at least 0; another one at each step, if you like.

        Raises:
            ValueError: for other shapes; in C++, for 2**31 entries and more.
            IndexError: for an id out of range; on a CUDA device, where it is left out, at the next flush.
        """
        if ids.ndim != 1 or gradient.shape != (len(ids), table[0].shape[1]):
            raise ValueError(
                f"gradient must be of shape ({len(ids)}, {table[0].shape[1]}) for ids of shape {tuple(ids.shape)}, "
                f"got {tuple(gradient.shape)}"
            )
        if not self._started:
            self._engine = self._found(table)
            self._started = True
        self._engine.update(table, ids, gradient, learning_rate)
        self.owing = True

    def flush(self, table: Table) -> None:
        """Bring all rows up to date.

        Args:
            table: `weight`, `exp_avg`, `exp_avg_sq`.

        Raises:
            IndexError: for an id out of range since the last flush, on a CUDA device; all rows are up to date.
        """
        if self.owing:
            self._engine.flush(table)
            self.owing = False

    def _found(self, table: Table) -> _Engine:
        """Return what takes the steps: kernels may be missing for just this table, which shows before the first one."""
        if isinstance(self._engine, _TritonRows):
            # The reference rounds bfloat16 to nearest, by which small steps are lost: that would be another result.
            same = table[0].dtype == torch.float32
            with backends.FallingBack("row_update", self._backend if same else "triton"):
                self._engine.rehearse(table)
                return self._engine
            return reference.DeferredRows(*self._start)
        return self._engine


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
        arrays, moved = self._memory(table), False
        for some in ids.split(MOST_ENTRIES):
            moved |= self._rows.catch_up(*arrays, some.contiguous().numpy(), backends.num_threads())
        if moved:
            torch.autograd.graph.increment_version(table[0])

    def update(self, table: Table, ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        if len(ids) > MOST_ENTRIES:
            raise ValueError(f"ids must be at most {MOST_ENTRIES} in a step, got {len(ids)}")
        ids, gradient = ids.contiguous(), gradient.detach().contiguous()
        arrays = *self._memory(table), ids.numpy(), gradient.numpy()
        self._rows.update(*arrays, learning_rate, backends.num_threads())
        torch.autograd.graph.increment_version(table[0])

    def flush(self, table: Table) -> None:
        arrays = self._memory(table)
        torch.autograd.graph.increment_version(table[0])  # before: an interrupt is raised as soon as rows have moved
        self._rows.flush(*arrays, backends.num_threads())

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


class _TritonRows:
    """The same in Triton, on CUDA devices. The host never waits for the device but to report ids out of range."""

    def __init__(
        self,
        count: int,
        device: torch.device,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        steps: int,
        number: int,
    ) -> None:
        self._number = number
        self._kernels = importlib.import_module("spotfast.kernels.row_update")
        rule = UpdateRule("adam", 0.0, betas, eps, weight_decay)
        self._schedule = self._kernels.Schedule(rule, steps, device)
        untouched = steps == 0 and weight_decay == 0  # moments of zero: nothing is owed until there is a gradient
        self._last = torch.full((count,), -1 if untouched else 0, dtype=torch.int32, device=device)
        self._outside = torch.zeros(1, dtype=torch.int64, device=device)  # 0: no id was out of range

    @torch.no_grad()
    def rehearse(self, table: Table) -> None:
        """Find all kernels for a table, while no step was taken; nothing changes."""
        from spotfast.kernels.launch import rehearsal

        ids = torch.zeros(1, dtype=torch.int64, device=self._last.device)
        with rehearsal():
            self.update(table, ids, torch.zeros_like(table[0][:1]), 0.0)
            self.catch_up(table, ids)
            self._kernels.flush(table, self._last, self._schedule, self._number)

    @torch.no_grad()
    def catch_up(self, table: Table, ids: Tensor) -> None:
        self._check(table)
        self._kernels.catch_up(table, self._last, self._outside, ids.contiguous(), self._schedule, self._number)
        torch.autograd.graph.increment_version(table[0])

    @torch.no_grad()
    def update(self, table: Table, ids: Tensor, gradient: Tensor, learning_rate: float) -> None:
        self._check(table)
        if self._schedule.room() == 0:
            self._kernels.flush(table, self._last, self._schedule, self._number)
        self._schedule.plan(learning_rate)
        ids, gradient = ids.contiguous(), gradient.contiguous()
        self._kernels.update(table, self._last, self._outside, ids, gradient, self._schedule, self._number)
        torch.autograd.graph.increment_version(table[0])

    @torch.no_grad()
    def flush(self, table: Table) -> None:
        self._check(table)
        self._kernels.flush(table, self._last, self._schedule, self._number)
        torch.autograd.graph.increment_version(table[0])
        outside = int(self._outside)
        if outside:
            self._outside.zero_()
            raise IndexError(f"ids must be in [0, {len(self._last)}), got {outside}: it was left out")

    def _check(self, table: Table) -> None:
        for name, tensor in zip(("weight", "exp_avg", "exp_avg_sq"), table, strict=True):
            unfit = _unfit_for_triton(tensor)
            if unfit is None and name != "weight" and tensor.dtype != torch.float32:
                unfit = f"it is {tensor.dtype}"
            if unfit is None and (tensor.device != self._last.device or tensor.shape != table[0].shape):
                unfit = f"it is of shape {tuple(tensor.shape)} on {tensor.device}"
            if unfit is None and len(tensor) != len(self._last):
                unfit = f"it has {len(tensor)} rows"
            if unfit is not None:
                kinds = "float32 or bfloat16" if name == "weight" else "float32"
                raise ValueError(
                    f"{name} must be contiguous {kinds} of {len(self._last)} rows on {self._last.device}, but {unfit}"
                )


def _unfit(tensor: Tensor) -> str | None:
    """Return why C++ cannot work on a tensor, or None if it can."""
    if tensor.device.type != "cpu" or tensor.dtype != torch.float32 or not tensor.is_contiguous():
        return f"it is {tensor.dtype} on {tensor.device} with strides {tensor.stride()}"
    if len(tensor) > MOST_ROWS:
        return f"it has more than {MOST_ROWS} rows: {len(tensor)}"
    return None


def _unfit_for_triton(tensor: Tensor) -> str | None:
    """Return why kernels cannot work on a tensor, or None if they can."""
    if tensor.dtype not in (torch.float32, torch.bfloat16) or not tensor.is_contiguous():
        return f"it is {tensor.dtype} with strides {tensor.stride()}"
    if tensor.numel() == 0 or tensor.shape[1] > MOST_COLUMNS:
        return f"it is not of 1 to {MOST_COLUMNS} columns and at least one row: {tuple(tensor.shape)}"
    return None


_ENGINES: dict[str, Callable[..., _Engine]] = {
    "native": _NativeRows,
    "triton": _TritonRows,
    "reference": reference.DeferredRows,
}
_UNFIT = {"native": _unfit, "triton": _unfit_for_triton}
