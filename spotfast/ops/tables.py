"""What an epoch of training works on, whatever the model: tables, their update rule, which epoch it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops.philox import check_stream


@dataclass(frozen=True)
class UpdateRule:
    """How rows move along their gradients, with the semantics of the torch optimizer of that name.

    Attributes:
        name: a key of `STATES`. "adam" is AdamW if `decoupled`; "sgd" has no momentum, "momentum" is SGD with it;
            "rowwise_adagrad" keeps one sum per row, of the means of its squared gradients.
        learning_rate: at least 0.
        betas, eps, weight_decay, decoupled: of Adam. `eps` is that of Adagrad, too; above 0.
        momentum: of "momentum".
        lr_decay: of Adagrad.
    """

    STATES: ClassVar[dict[str, tuple[str, ...]]] = {
        "adam": ("exp_avg", "exp_avg_sq"),
        "sparse_adam": ("exp_avg", "exp_avg_sq"),
        "sgd": (),
        "momentum": ("momentum_buffer",),
        "adagrad": ("sum",),
        "rowwise_adagrad": ("sum",),
    }

    name: str
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    momentum: float = 0.0
    lr_decay: float = 0.0

    @property
    def states(self) -> tuple[str, ...]:
        """The names of what the rule keeps, as torch's optimizers call it."""
        return self.STATES[self.name]


@dataclass(frozen=True)
class Table:
    """Rows of users or items, and what the update rule keeps for them: float32, contiguous, trained in place.

    Attributes:
        vectors: (N, D); bfloat16, too, where Triton kernels train them.
        biases: (N, 1).
        vector_states: in the order of the rule's names, (N, D); (N, 1) for "rowwise_adagrad".
        bias_states: likewise, (N, 1).
    """

    vectors: Tensor
    biases: Tensor
    vector_states: tuple[Tensor, ...] = ()
    bias_states: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class EpochRange:
    """Which epoch it is, and how it is cut.

    Attributes:
        seed: of the random stream.
        epoch: its number.
        batch_size: interactions per step.
        steps: that the update rule has taken before.
    """

    seed: int
    epoch: int
    batch_size: int
    steps: int


@dataclass(frozen=True)
class EpochResult:
    """What came of it.

    Attributes:
        loss: the mean of the losses of the batches.
        batches: how many steps were taken; fewer than the epoch has if it was stopped.
    """

    loss: float
    batches: int


# AdamW shrinks rows by 1 - lr * weight_decay per step; the engine keeps the product of up to a thousand such factors,
# which must not be zero in double precision.
MOST_DECAY = 0.2

MOST_COLUMNS_IN_KERNELS = 512  # Triton kernels hold whole rows in registers
VECTORS_IN_KERNELS = (torch.float32, torch.bfloat16)


def check_rule(rule: UpdateRule) -> None:
    """Raise for an update rule that does not exist, or has settings out of range."""
    validation.choice("rule.name", rule.name, tuple(UpdateRule.STATES))
    validation.real("rule.learning_rate", rule.learning_rate, 0.0)
    validation.real("rule.eps", rule.eps, 0.0, exclude_low=True)
    for name, beta in zip(("rule.betas[0]", "rule.betas[1]"), rule.betas, strict=True):
        validation.real(name, beta, 0.0, 1.0 - 1e-12)
    for name in ("weight_decay", "momentum", "lr_decay"):
        validation.real(f"rule.{name}", getattr(rule, name), 0.0)
    if rule.decoupled and rule.learning_rate * rule.weight_decay > MOST_DECAY:
        raise ValueError(
            f"rule.learning_rate * rule.weight_decay must be at most {MOST_DECAY} if decoupled, "
            f"got {rule.learning_rate * rule.weight_decay}"
        )


def check_range(at: EpochRange) -> None:
    """Raise for an epoch or a batch size out of range."""
    check_stream(at.seed, at.epoch)
    validation.integer("at.batch_size", at.batch_size, 1)
    validation.integer("at.steps", at.steps, 0)


def check_batches(at: EpochRange, count: int, candidates: int) -> None:
    """Raise for a batch size that makes a batch too large, or batches too many, to be counted in 32 bits.

    Args:
        at: whose batch size it is.
        count: positions of the epoch.
        candidates: items that are scored at a position.
    """
    rows = min(at.batch_size, count)
    scored, batches = rows * candidates, -(-count // rows)
    if scored >= 2**31 or batches >= 2**32 - 1:
        raise ValueError(
            f"at.batch_size must leave less than 2**31 candidates in a batch and 2**32 - 1 batches in an epoch, "
            f"got {at.batch_size} for {scored} candidates and {batches} batches"
        )


def check_table(
    name: str,
    table: Table,
    dim: int,
    rule: UpdateRule,
    kinds: tuple[torch.dtype, ...] = (torch.float32,),
) -> None:
    """Raise unless a table and its states are on one device, and of the shapes and the dtypes that they must have.

    Args:
        name: of the table.
        table: what is checked.
        dim: of its vectors.
        rule: whose states it has.
        kinds: what vectors may be; everything else is float32.
    """
    rows = len(table.vectors)
    state_dim = 1 if rule.name == "rowwise_adagrad" else dim
    expected = [
        ("vectors", table.vectors, dim),
        ("biases", table.biases, 1),
        *(("vector_states", state, state_dim) for state in table.vector_states),
        *(("bias_states", state, 1) for state in table.bias_states),
    ]
    for part, tensor, columns in expected:
        check_device(f"{name}.{part}", tensor, table.vectors.device)
        allowed = kinds if part == "vectors" else (torch.float32,)
        if tensor.shape != (rows, columns) or tensor.dtype not in allowed or not tensor.is_contiguous():
            names = " or ".join(str(dtype).removeprefix("torch.") for dtype in allowed)
            raise ValueError(
                f"{name}.{part} must be contiguous {names} of shape ({rows}, {columns}), "
                f"got {tensor.dtype} of shape {tuple(tensor.shape)}, strides {tensor.stride()}"
            )
    for part, states in (("vector_states", table.vector_states), ("bias_states", table.bias_states)):
        if len(states) != len(rule.states):
            raise ValueError(f"{name}.{part} must be {rule.states} for rule {rule.name!r}, got {len(states)} tensors")


def check_device(name: str, tensor: Tensor | None, device: torch.device) -> None:
    """Raise for a tensor on another device than the tables."""
    if tensor is not None and tensor.device != device:
        raise ValueError(f"{name} must be on {device}, as the vectors trained, got {tensor.device}")


def array(tensor: Tensor | None) -> Any:
    """Return the numpy array of a tensor on the CPU, on the same memory."""
    return None if tensor is None else tensor.detach().numpy()


def arrays(table: Table) -> tuple[Any, ...]:
    """Vectors, biases, two states of the vectors, two of the biases; None for those that the rule does not keep."""
    states = [(*own, None, None)[:2] for own in (table.vector_states, table.bias_states)]
    return tuple(array(tensor) for tensor in (table.vectors, table.biases, *states[0], *states[1]))


def native_rule(rule: UpdateRule, steps: int) -> Any:
    """Return an update rule that has taken some steps, for the C++ engine."""
    native = backends.native()
    return native.RuleSettings(
        learning_rate=rule.learning_rate,
        beta1=rule.betas[0],
        beta2=rule.betas[1],
        eps=rule.eps,
        weight_decay=rule.weight_decay,
        decoupled=rule.decoupled,
        momentum=rule.momentum,
        lr_decay=rule.lr_decay,
        steps=steps,
    )
