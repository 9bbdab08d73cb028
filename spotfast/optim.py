"""Optimizers for embedding tables."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.utils.hooks import RemovableHandle

from spotfast import validation
from spotfast.deferred_table import DeferredTable, Settings


class DeferredAdam(torch.optim.Optimizer):
    """`torch.optim.Adam` at the cost of the rows touched.

    Dense Adam moves every row of every embedding table at every step. For tables with sparse gradients this optimizer
    takes a row's zero-gradient steps only when the row is next read: a hook on the layer catches up the ids that are
    about to be looked up. The results are those of dense Adam (`spotfast.reference.row_update` has the formula).
    Steps with dense gradients are taken by torch's fused Adam, for tables, too.

    Moments of tables in bfloat16 or float16 are float32, and so is the arithmetic; weights are rounded as they are
    stored: by kernels to one of their neighbours at random, right on average, else to the nearest.

    float32 tables on the CPU are worked on in C++, with the same bits for any number of threads; float32 and bfloat16
    tables on CUDA devices by Triton kernels, where an id out of range is reported at the next `flush()`; others in
    PyTorch.

    Anything that reads a table's `weight` past its layer (a tied output layer, `copy.deepcopy`, `net.state_dict()`)
    needs `flush()` first. `state_dict()` flushes by itself, and loads into `torch.optim.Adam` over the same parameters.
    When the optimizer is gone, so are its hooks, and the tables are up to date.

    Args:
        module: the network; its `nn.Embedding` and `nn.EmbeddingBag` layers are deferred where they have sparse
            gradients (`sparse=True`).
        lr: learning rate, at least 0. May be changed between steps, by a scheduler for example.
        betas: decay rates of the two moments, in [0, 1).
        eps: added to the denominator, above 0.
        weight_decay: L2 penalty, as in `torch.optim.Adam` (not decoupled). With it there is no closed form: missed
            steps are replayed, as they are early in training and for unusual betas.

    Raises:
        ValueError, TypeError: for a value out of range.

    Example:
        >>> layer = nn.Embedding(1000, 4, sparse=True)
        >>> optimizer = DeferredAdam(layer, lr=0.1)
        >>> layer(torch.tensor([3, 5])).sum().backward()
        >>> optimizer.step()
        >>> optimizer.flush()
    """

    def __init__(
        self,
        module: nn.Module,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"module must be a torch.nn.Module, whose layers get hooks, got {type(module).__name__}. A model "
                "trains with it by sparse=True; for other settings pass the network as representation, and as "
                "optimizer_func lambda parameters: DeferredAdam(network, ...)"
            )
        validation.real("lr", lr, 0.0)
        if not isinstance(betas, tuple | list):
            raise TypeError(f"betas must be two decay rates in [0, 1), got {betas!r}")
        if len(betas) != 2:
            raise ValueError(f"betas must be two decay rates in [0, 1), got {betas!r}")
        for name, beta in zip(("betas[0]", "betas[1]"), betas, strict=True):
            validation.real(name, beta, 0.0, 1.0 - 1e-12)
        validation.real("eps", eps, 0.0, exclude_low=True)
        validation.real("weight_decay", weight_decay, 0.0)
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(module.parameters(), defaults)
        self._tables: dict[Tensor, DeferredTable] = {}
        hooks = []
        for layer in module.modules():
            if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
                table = self._tables.setdefault(layer.weight, DeferredTable(layer.weight, len(self._tables)))
                hooks.append(layer.register_forward_pre_hook(partial(table.before_lookup), with_kwargs=True))
        # A hook holds its table, not this optimizer, which can so go before its module does.
        weakref.finalize(self, _retire, list(self._tables.values()), hooks).atexit = False

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one optimization step.

        Args:
            closure: computes the loss and its gradients again, as in torch's optimizers.
        """
        loss = _loss_of(closure)
        for group in self.param_groups:  # first, so that memory that runs out does before anything has moved
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._begin(parameter, parameter.grad, group)
        for group in self.param_groups:
            dense = []
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._tables[parameter].step(parameter.grad, float(group["lr"]))
                elif parameter.grad is not None:
                    dense.append(parameter)
            self._step_dense(dense, group)
        return loss

    def _begin(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        """Be ready for a step with a gradient: allocate what is kept."""
        state, table = self._state_of(parameter), self._tables.get(parameter)
        if gradient.is_sparse:
            if table is None:
                raise ValueError(f"sparse gradients must be of layers' tables, got one of {parameter.shape}")
            table.begin(state, _settings(group))
        elif table is not None:
            table.settle()

    def flush(self) -> None:
        """Bring every row of every table up to date, as dense Adam would have it."""
        for table in self._tables.values():
            table.flush()

    def state_dict(self) -> dict[str, Any]:
        """Return the state in the format of `torch.optim.Adam`, after a `flush`."""
        self.flush()
        return super().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class or of `torch.optim.Adam` over the same parameters.

        Raises:
            ValueError: for a state with `amsgrad`, `maximize` or `decoupled_weight_decay`.
        """
        for option in ("amsgrad", "maximize", "decoupled_weight_decay"):
            if any(group.get(option) for group in state_dict["param_groups"]):
                raise ValueError(f"{option} must be False: DeferredAdam has no such option, got a state with it")
        super().load_state_dict(state_dict)
        for parameter, state in self.state.items():
            state["step"] = torch.as_tensor(state["step"], device=_counting_device(parameter))
        self._restore_moments(state_dict)
        self.resume()

    def _restore_moments(self, state_dict: dict[str, Any]) -> None:
        """Load those of tables as they were saved: torch has cast them to the type of the weights."""
        keys, parameters = (
            [each for group in groups for each in group["params"]]
            for groups in (state_dict["param_groups"], self.param_groups)
        )
        for key, parameter in zip(keys, parameters, strict=True):
            dtype, saved = self._moment_type(parameter), state_dict["state"].get(key, {})
            for name in ("exp_avg", "exp_avg_sq"):
                if name in saved and dtype != parameter.dtype:
                    self.state[parameter][name] = saved[name].to(parameter.device, dtype)

    def resume(self) -> None:
        """Take note that every row of every table is up to date, after the number of steps that the state says."""
        for table in self._tables.values():
            table.forget()

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return {**super().__getstate__(), "_tables": self._tables}

    def _step_dense(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        if not parameters:
            return
        states = [self._state_of(parameter) for parameter in parameters]
        wide = [each.to(state["exp_avg"].dtype) for each, state in zip(parameters, states, strict=True)]
        adam(
            wide,
            [each.grad.to(copy.dtype) for each, copy in zip(parameters, wide, strict=True)],  # type: ignore[union-attr]
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=all(_is_fusible(parameter) for parameter in parameters),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
        for parameter, copy in zip(parameters, wide, strict=True):
            if copy is not parameter:  # of the same type, it is the parameter itself
                parameter.copy_(copy)

    def _moment_type(self, parameter: Tensor) -> torch.dtype:
        """Return the type of the moments: at least float32 for tables; for others as in torch."""
        return torch.promote_types(parameter.dtype, torch.float32) if parameter in self._tables else parameter.dtype

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        state: dict[str, Any] | None = self.state.get(parameter)
        if not state:
            dtype = self._moment_type(parameter)
            moments = {name: torch.zeros_like(parameter, dtype=dtype) for name in ("exp_avg", "exp_avg_sq")}
            state = self.state[parameter] = {"step": torch.zeros((), device=_counting_device(parameter)), **moments}
        return state


def _settings(group: dict[str, Any]) -> Settings:
    return (float(group["betas"][0]), float(group["betas"][1])), float(group["eps"]), float(group["weight_decay"])


def _is_fusible(parameter: Tensor) -> bool:
    """Whether torch has a fused Adam for such parameters."""
    return parameter.is_floating_point() and parameter.device.type in ("cpu", "cuda")


def _counting_device(parameter: Tensor) -> torch.device:
    """Where steps are counted: torch's fused Adam does it on the parameter's device."""
    return parameter.device if _is_fusible(parameter) else torch.device("cpu")


def _retire(tables: Iterable[DeferredTable], hooks: Iterable[RemovableHandle]) -> None:
    """Leave a module as it would be without the hooks of an optimizer."""
    for table in tables:
        table.flush()
    for hook in hooks:
        hook.remove()


def _loss_of(closure: Callable[[], Any] | None) -> Any:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class RowwiseAdagrad(torch.optim.Optimizer):
    """Adagrad with one sum per row: a fraction of the memory, and about as good for embeddings.

    For a parameter of shape (N, D) with gradient g, in every row with a gradient:

        sum += mean(g ** 2);   p -= lr * g / (sqrt(sum) + eps)

    As in FBGEMM's exact row-wise Adagrad. The factorization models train with it at full speed.

    Args:
        params: parameters with two dimensions; gradients may be dense or sparse.
        lr: learning rate, at least 0.
        eps: added to the denominator, above 0.

    Raises:
        ValueError, TypeError: for a value out of range or a parameter of another shape.

    Example:
        >>> layer = nn.Embedding(1000, 4, sparse=True)
        >>> optimizer = RowwiseAdagrad(layer.parameters(), lr=0.1)
        >>> layer(torch.tensor([3, 5])).sum().backward()
        >>> optimizer.step()
        >>> optimizer.state[layer.weight]["sum"].shape
        torch.Size([1000, 1])
    """

    def __init__(self, params: Any, lr: float = 1e-2, eps: float = 1e-10) -> None:
        validation.real("lr", lr, 0.0)
        validation.real("eps", eps, 0.0, exclude_low=True)
        super().__init__(params, {"lr": lr, "eps": eps})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.dim() != 2:
                    raise ValueError(f"params must have two dimensions, got one of shape {tuple(parameter.shape)}")
                self.state[parameter]["sum"] = parameter.new_zeros(len(parameter), 1)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one optimization step.

        Args:
            closure: computes the loss and its gradients again, as in torch's optimizers.
        """
        loss = _loss_of(closure)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step_rows(parameter, float(group["lr"]), group["eps"])
        return loss

    def _step_rows(self, parameter: Tensor, lr: float, eps: float) -> None:
        gradient, sums = parameter.grad, self.state[parameter]["sum"]
        assert gradient is not None
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            rows, values = gradient.indices()[0], gradient.values()
        else:
            rows, values = torch.arange(len(parameter), device=parameter.device), gradient
        summed = sums[rows] + values.square().mean(dim=1, keepdim=True)
        moved = parameter[rows] - lr * values / (summed.sqrt() + eps)
        sums[rows], parameter[rows] = summed, moved  # at last, when there was memory for both
