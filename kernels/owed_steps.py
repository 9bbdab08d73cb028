"""Deferred Adam: how a block of rows takes the steps that it owes (see `spotfast.reference.row_update`).

Device functions only. They read what rows share from a `spotfast.kernels.schedule.Schedule`: `schedule` and `counter`
are its arrays, as they are before this step's `take`. Blocks of rows are float32, (ROWS, COLUMNS); `last`, int32
(ROWS,), is the step up to which a row is done, as `next_step` counts: -1 for a row that owes nothing because it was
never updated. Rows to be ignored may hold anything, with a `last` of -1.
"""

from spotfast.kernels.language import tl, triton
from spotfast.kernels.schedule import (
    BETA1,
    BETA2,
    EARLY_EPS,
    EARLY_SIZES,
    EPS,
    LOW,
    ONE,
    OWED_EPS,
    OWED_SIZE,
    PENALTY,
    POWERS1,
    POWERS2,
    RECORD,
    RECORDS,
    REPLAYED,
    REST1,
    REST2,
    SERIES,
    SHRINK,
    SHRUNK,
    SIZE,
)
from spotfast.kernels.specialisation import Specialisation

EARLY = tl.constexpr(512)  # rows last updated before this step are replayed
NEGLIGIBLE = tl.constexpr(1e-20)  # smaller first moments are set to zero
VANISHED = tl.constexpr(1e-36)  # and so are smaller second moments, whose roots would be


@triton.jit
def next_step(counter):
    """The number of this step, int32, since all rows were last up to date: the `last` of rows that it updates."""
    return tl.load(counter).to(tl.int32) + 1


@triton.jit
def field(schedule, step, FIELD: tl.constexpr):
    """A number of the records of steps, int32 of any shape: fp32."""
    return tl.load(schedule + (RECORDS + FIELD) + step * RECORD)


@triton.jit
def power(schedule, exponent, TABLE: tl.constexpr):
    """A ratio to the power of integers in [0, MOST], int32 (ROWS,): fp32. TABLE: POWERS1 or POWERS2."""
    low = tl.load(schedule + TABLE + exponent % LOW)
    return low * tl.load(schedule + (TABLE + LOW) + exponent // LOW)


@triton.jit
def geometric_sum(schedule, count):
    """The sum of the ratio of POWERS1 to the powers 1 .. count, int32 (ROWS,) in [0, MOST]: fp32."""
    near = tl.load(schedule + SERIES + count % LOW)
    far = tl.load(schedule + (SERIES + LOW) + count // LOW)
    return near + tl.load(schedule + POWERS1 + count % LOW) * far


@triton.jit
def owing_since(last, counter):
    """Up to which step rows are done, and how many steps they missed since: 0 if they owe nothing."""
    taken = next_step(counter) - 1
    missed = tl.where(last >= 0, tl.maximum(taken - last, 0), 0)
    return taken - missed, missed


@triton.jit
def decay(m, v, missed, schedule):
    """The moments after steps without a gradient."""
    m = m * power(schedule, missed, POWERS1)[:, None]
    v = v * power(schedule, missed, POWERS2)[:, None]
    return tl.where(tl.abs(m) < NEGLIGIBLE, 0.0, m), tl.where(v < VANISHED, 0.0, v)


@triton.jit
def move_early(weight, m, v, last, missed, schedule):
    """The weights after steps that are replayed, without weight decay. The moments are those at `last`.

    sqrt(v b2^j) is sqrt(v) times a number that is the same for all, so that a step costs a division.
    """
    count = tl.minimum(missed, tl.load(schedule + REPLAYED).to(tl.int32))
    most = tl.max(count)
    root = tl.sqrt(v)
    owed = tl.zeros_like(v)
    one = tl.load(schedule + ONE).to(tl.int32)
    j = one
    while j <= most:
        step = last + tl.minimum(j, count)
        size = tl.where(j <= count, field(schedule, step, SIZE) * tl.load(schedule + EARLY_SIZES + j), 0.0)
        eps = field(schedule, step, EPS) * tl.load(schedule + EARLY_EPS + j)
        owed += size[:, None] / (root + eps[:, None])
        j += one
    return weight - m * owed


@triton.jit
def replay(weight, m, v, last, missed, schedule):
    """Rows after steps that are replayed, with any settings: (weight, m, v)."""
    beta1 = tl.load(schedule + BETA1)
    beta2 = tl.load(schedule + BETA2)
    rest1 = tl.load(schedule + REST1)
    rest2 = tl.load(schedule + REST2)
    penalty = tl.load(schedule + PENALTY)
    count = tl.minimum(missed, tl.load(schedule + REPLAYED).to(tl.int32))
    most = tl.max(count)
    end = last + count
    one = tl.load(schedule + ONE).to(tl.int32)
    j = one
    while j <= most:
        step = tl.minimum(last + j, end)
        size = field(schedule, step, SIZE)[:, None]
        eps = field(schedule, step, EPS)[:, None]
        shrink = field(schedule, step, SHRINK)[:, None]
        active = (last + j <= end)[:, None]
        gradient = penalty * weight
        m = tl.where(active, beta1 * m + rest1 * gradient, m)
        v = tl.where(active, beta2 * v + rest2 * gradient * gradient, v)
        weight = tl.where(active, weight * shrink - size * m / (tl.sqrt(v) + eps), weight)
        j += one
    shrink = field(schedule, last + missed, SHRUNK) / field(schedule, end, SHRUNK)
    m, v = decay(m, v, last + missed - end, schedule)
    return weight * shrink[:, None], m, v


@triton.jit
def catch_up(weight, m, v, last, schedule, counter, RULE: tl.constexpr):
    """Rows after the steps that they owe: (weight, m, v).

    RULE: "adam", in closed form but for early steps; "adamw", likewise with decoupled weight decay; "replayed_adam",
    one by one, for what has no closed form.
    """
    last, missed = owing_since(last, counter)
    if RULE == "replayed_adam":
        weight, m, v = replay(weight, m, v, last, missed, schedule)
    else:
        step = tl.load(counter + 1) + last  # from the start of training, where moments are zero and nothing is owed
        early = (step > 0) & (step < EARLY)
        replayed = tl.where(early, missed, 0)
        if RULE == "adamw":
            weight, m, v = replay(weight, m, v, last, replayed, schedule)
            last += replayed
            missed -= replayed
            shrink = field(schedule, last + missed, SHRUNK) / field(schedule, last, SHRUNK)
            size = field(schedule, last, OWED_SIZE) * shrink
            weight = weight * shrink[:, None]
        else:
            tl.static_assert(RULE == "adam", "RULE must be a kind of Adam")
            weight = move_early(weight, m, v, last, replayed, schedule)
            size = field(schedule, last, OWED_SIZE)
        size = tl.where(early, 0.0, size)
        weight -= size[:, None] * m / (tl.sqrt(v) + field(schedule, last, OWED_EPS)[:, None])
        m, v = decay(m, v, missed, schedule)
    return weight, m, v


@triton.jit
def step_adam(weight, m, v, gradient, schedule, counter, RULE: tl.constexpr):
    """Rows after this step, which they take with a gradient: (weight, m, v). They owe nothing but it."""
    step = next_step(counter)
    if RULE == "replayed_adam":
        gradient += tl.load(schedule + PENALTY) * weight
    m = tl.load(schedule + BETA1) * m + tl.load(schedule + REST1) * gradient
    v = tl.load(schedule + BETA2) * v + tl.load(schedule + REST2) * gradient * gradient
    if RULE != "adam":
        weight = weight * field(schedule, step, SHRINK)
    weight -= field(schedule, step, SIZE) * m / (tl.sqrt(v) + field(schedule, step, EPS))
    return weight, tl.where(tl.abs(m) < NEGLIGIBLE, 0.0, m), v


SPECIALISATIONS: list[Specialisation] = []  # no kernels: what calls these functions lists its own
