"""How a block of rows moves along its gradient, by each update rule (see `spotfast.reference.dense_steps`).

Device functions only, the same two for every rule: a kernel catches rows up as it reads them, and takes a step with
those that have a gradient. RULE is `Schedule.rule`: "adam", "adamw" or "replayed_adam", "sparse_adam", "sgd",
"momentum", "adagrad" or "rowwise_adagrad". Arguments are as in `owed_steps.py`; `first` and `second` are what the rule
keeps: the two moments of Adam; the momentum buffer; the sum of Adagrad, which is of shape (ROWS, 1) for
"rowwise_adagrad". Those that a rule lacks may be anything and are passed through.
"""

from spotfast.kernels.language import tl, triton
from spotfast.kernels.owed_steps import (
    NEGLIGIBLE,
    catch_up,
    field,
    geometric_sum,
    next_step,
    owing_since,
    power,
    step_adam,
)
from spotfast.kernels.philox import words
from spotfast.kernels.schedule import EPS, MOMENTUM, POWERS1, REST1, REST2, SIZE
from spotfast.kernels.specialisation import Specialisation

ROUNDING = tl.constexpr(3 << 16)  # the stream; its attempts are tables
MOST_COLUMNS = tl.constexpr(512)  # of a table that is rounded: the numbers of its draws depend on no other width


@triton.jit
def catch_up_rows(weight, first, second, last, schedule, counter, RULE: tl.constexpr):
    """Rows after the steps without a gradient that they owe: (weight, first, second)."""
    if (RULE == "adam" or RULE == "adamw") or RULE == "replayed_adam":  # noqa: PLR1714 - no `in`; 3.3: no chains
        weight, first, second = catch_up(weight, first, second, last, schedule, counter, RULE)
    elif RULE == "momentum":
        last, missed = owing_since(last, counter)
        size = geometric_sum(schedule, missed) * field(schedule, last + 1, SIZE)  # that of all missed steps
        weight -= size[:, None] * first
        first = first * power(schedule, missed, POWERS1)[:, None]
        first = tl.where(tl.abs(first) < NEGLIGIBLE, 0.0, first)
    return weight, first, second


@triton.jit
def step_rows(weight, first, second, gradient, dim, schedule, counter, RULE: tl.constexpr):
    """Rows after this step, which they take with a gradient: (weight, first, second). They owe nothing but it.

    gradient: fp32 (ROWS, COLUMNS), 0 in columns beyond `dim`, as weights and states there are.
    """
    size = field(schedule, next_step(counter), SIZE)
    eps = field(schedule, next_step(counter), EPS)
    if (RULE == "adam" or RULE == "adamw") or RULE == "replayed_adam":  # noqa: PLR1714 - no `in`; 3.3: no chains
        weight, first, second = step_adam(weight, first, second, gradient, schedule, counter, RULE)
    elif RULE == "sparse_adam":
        first += tl.load(schedule + REST1) * (gradient - first)
        second += tl.load(schedule + REST2) * (gradient * gradient - second)
        weight -= size * first / (tl.sqrt(second) + eps)
    elif RULE == "momentum":
        first = tl.load(schedule + MOMENTUM) * first + gradient
        weight -= size * first
    elif RULE == "sgd":
        weight -= size * gradient
    else:
        if RULE == "adagrad":
            first += gradient * gradient
        else:
            tl.static_assert(RULE == "rowwise_adagrad", "RULE must be an update rule")
            first += tl.sum(gradient * gradient, axis=1, keep_dims=True) / dim.to(tl.float32)
        weight -= size * gradient / (tl.sqrt(first) + eps)
    return weight, first, second


@triton.jit
def round_to_bfloat16(value, word):
    """fp32 to one of its two neighbours in bf16, by the upper 16 of random bits: right on average.

    The 16 bits that go are added to as many random ones; a carry moves the number away from zero. A NaN stays one.
    """
    bits = value.to(tl.uint32, bitcast=True)
    upper = (bits >> 16) + (((bits & 0xFFFF) + (word >> 16)) >> 16)
    upper = tl.where(tl.abs(value) >= 0, upper, 0x7FC0)
    return upper.to(tl.uint16).to(tl.bfloat16, bitcast=True)


@triton.jit
def store_weight(weights, row, value, writing, dim, seed, step, table, BLOCK_D: tl.constexpr):
    """Write `value`, fp32 (ROWS, BLOCK_D), to rows of a contiguous table with `dim` columns, where `writing` (ROWS,).

    weights -> (N, dim): fp32, exact; or bf16, rounded by draws of the stream that belong to the step, the row and the
    column. row: int64 (ROWS,). seed: 64 bits. step: from the start of training, modulo 2**32. table: in [0, 2**16),
    which table of those with the same seed.
    """
    column = tl.arange(0, BLOCK_D)
    if weights.dtype.element_ty == tl.bfloat16:
        block = row[:, None] * (MOST_COLUMNS // 4) + tl.arange(0, BLOCK_D // 4)[None, :]
        w0, w1, w2, w3 = words(seed, step, tl.cast(table, tl.uint32) | ROUNDING, block)
        value = round_to_bfloat16(value, tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3)))
    place = row[:, None] * dim + column[None, :]
    tl.store(weights + place, value, mask=writing[:, None] & (column < dim)[None, :])


SPECIALISATIONS: list[Specialisation] = []  # no kernels: what calls these functions lists its own
