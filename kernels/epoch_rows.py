"""Rows of a table, with what the update rule keeps for them, as the kernels of an epoch read and write them.

Device functions only. `batch_size`, `count` and places are counted in samples.
"""

from typing import NamedTuple

from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.rows import load_rows, store_rows
from spotfast.kernels.specialisation import Specialisation
from spotfast.kernels.update_rules import catch_up_rows

OWING = ("adam", "adamw", "replayed_adam", "momentum")  # rules by which rows move without a gradient
KEPT = {"sgd": 0, "momentum": 1, "adagrad": 1, "rowwise_adagrad": 1}  # states of a table; 2 by all other rules
SPILLED = "for some targets, the assembler keeps a number or a few on the stack so that more programs run side by side"


@triton.jit
def batch_at(counter, place, batch_size):
    """The number of this step's batch in the chunk, and how many samples it has, both int64."""
    batch = tl.load(counter) - tl.load(place)
    return batch, tl.minimum(batch_size, tl.load(place + 1) - batch * batch_size)


@triton.jit
def read_rows(
    weights, first, second, last, row, reading, dim, schedule, counter, RULE: tl.constexpr, BLOCK_D: tl.constexpr
):
    """Rows of a table, int64 (ROWS,), after the steps that they owe: (weight, first, second), fp32 (ROWS, BLOCK_D).

    Zeros where nothing is read. A state that is None is not read and returned as the weight; without `last`, rows owe
    nothing. The sum of "rowwise_adagrad" is of shape (ROWS, 1).
    """
    weight = load_rows(weights, row, reading, dim, BLOCK_D)
    m = weight
    v = weight
    if first is not None:
        if RULE == "rowwise_adagrad":
            m = load_rows(first, row, reading, 1, 1)
        else:
            m = load_rows(first, row, reading, dim, BLOCK_D)
    if second is not None:
        v = load_rows(second, row, reading, dim, BLOCK_D)
    if last is not None:
        since = tl.load(last + row, mask=reading, other=-1)
        weight, m, v = catch_up_rows(weight, m, v, since, schedule, counter, RULE)
    return weight, m, v


@triton.jit
def store_states(first, second, row, m, v, writing, dim, RULE: tl.constexpr, BLOCK_D: tl.constexpr):
    """Write what the rule keeps for rows: what `read_rows` reads."""
    if first is not None:
        if RULE == "rowwise_adagrad":
            store_rows(first, row, m, writing, 1, 1)
        else:
            store_rows(first, row, m, writing, dim, BLOCK_D)
    if second is not None:
        store_rows(second, row, v, writing, dim, BLOCK_D)


class EpochTable(NamedTuple):
    """A table as kernels take it: N rows, contiguous, and what the update rule keeps for them, or None.

    Attributes:
        vectors: fp32 or bf16 (N, D).
        biases: fp32 (N, 1).
        first, second: fp32 (N, D); (N, 1) for "rowwise_adagrad".
        bias_first, bias_second: fp32 (N, 1).
        last: int32 (N,), see `owed_steps.py`; None for rules whose rows owe nothing.
    """

    vectors: Tensor
    biases: Tensor
    first: Tensor | None
    second: Tensor | None
    bias_first: Tensor | None
    bias_second: Tensor | None
    last: Tensor | None

    def weights(self) -> "EpochTable":
        """Return the same, without states unless rows owe steps that depend on them: what scoring reads."""
        return self if self.last is not None else EpochTable(self.vectors, self.biases, *[None] * 5)


def absent(rule: str) -> list[str]:
    """Return the fields of an `EpochTable` that are None, by the constant RULE."""
    states = [("first", "bias_first"), ("second", "bias_second")][KEPT.get(rule, 2) :]
    return [name for pair in states for name in pair] + ["last"] * (rule not in OWING)


SPECIALISATIONS: list[Specialisation] = []  # no kernels: what calls these functions lists its own
