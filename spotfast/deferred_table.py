"""An embedding table beside its Adam state, and the hook that brings rows up to date before they are looked up."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from spotfast.ops.row_update import DeferredRows, Table

Settings = tuple[tuple[float, float], float, float]  # betas, eps, weight decay


def catch_up(layer: nn.Module, ids: Tensor) -> None:
    """Bring rows up to date about to be read past their layer, whose only hooks are those of `DeferredAdam`."""
    for hook in layer._forward_pre_hooks.values():
        hook(layer, (ids,), {})


class DeferredTable:
    """A table whose rows take steps without a gradient when they are next read.

    Args:
        weight: of shape (N, D).
        number: which table of the optimizer it is, from 0.
    """

    def __init__(self, weight: Tensor, number: int) -> None:
        self._weight = weight
        self._number = number
        self._state: dict[str, Any] = {}
        self._rows: DeferredRows | None = None  # None: all are up to date with the state

    def before_lookup(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Bring the rows up to date that the layer is about to look up: a forward pre-hook."""
        if self._rows is not None and self._rows.owing:
            ids = args[0] if args else kwargs.get("input")
            if isinstance(ids, Tensor):  # of anything else, the layer complains itself
                self._rows.catch_up(self._table, ids)

    def begin(self, state: dict[str, Any], settings: Settings) -> None:
        """Be ready for a step, which allocates nothing then that is kept.

        Args:
            state: as `torch.optim.Adam` keeps it.
            settings: of this step; those that were missed had the settings of their time.
        """
        if self._rows is not None and self._rows.settings != settings:
            self.settle()
        self._state = state
        if self._rows is None:
            self._rows = DeferredRows(self._weight, *settings, int(state["step"]), number=self._number)

    def step(self, gradient: Tensor, learning_rate: float) -> None:
        """Take a step with a sparse gradient, coalesced or not, and count it in the state: after `begin`.

        Args:
            gradient: of shape (N, D).
            learning_rate: of this step.
        """
        assert self._rows is not None
        self._rows.update(self._table, gradient._indices()[0], gradient._values(), learning_rate)
        self._state["step"] += 1

    def flush(self) -> None:
        """Bring all rows up to date."""
        if self._rows is not None:
            self._rows.flush(self._table)

    def settle(self) -> None:
        """Bring all rows up to date, and be ready for steps that are taken, and a state that is loaded, elsewhere."""
        self.flush()
        self._rows = None

    def forget(self) -> None:
        """Take note that all rows are up to date, whatever was owed."""
        self._rows = None

    @property
    def _table(self) -> Table:
        return self._weight, self._state["exp_avg"], self._state["exp_avg_sq"]

    @staticmethod
    def owns(hook: Any) -> bool:
        """Tell whether a hook is `before_lookup`, as `DeferredAdam` registers it."""
        return getattr(getattr(hook, "func", None), "__func__", None) is DeferredTable.before_lookup

    def __reduce__(self) -> tuple[Any, ...]:
        self.flush()
        return DeferredTable, (self._weight, self._number)
