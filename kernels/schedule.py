"""What all rows share in a step, in device memory: the *schedule* that update rules read.

A tiny kernel writes it after each step, from the number of the step and the learning rate, which are on the device as
well: a CUDA graph of many steps can be replayed, whatever the learning rate is by then.

The schedule is one array of float32: settings, tables, and a record per step since all rows were last up to date. A
record holds what step t moves a row by, `size * m / (sqrt(v) + eps)`, with the bias corrections in both; the factor by
which decoupled weight decay shrinks a row at that step, and at all steps so far; and what is owed by a row that was
last updated at step t, which is `owed_size` and `owed_eps` in the place of `size` and `eps`
(see `spotfast.reference.row_update`). Sums over steps are float64.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch
from spotfast.kernels.specialisation import Specialisation

if TYPE_CHECKING:
    from spotfast.ops.tables import UpdateRule

WINDOW = tl.constexpr(256)  # steps after which what a row owes no longer changes
MOST = tl.constexpr(1 << 16)  # steps that can be owed: then all rows must be caught up
MOST_SHRUNK = 1e-30  # likewise, for what decoupled weight decay may shrink rows to
SETTLED = 1e-11  # what is left of a step's size after WINDOW steps, at most, for the closed form
GONE = 5e-8  # what is left of a step's size when a replay ends
TINY = 1e-38  # what is left of a first moment when it is nothing

# Settings in the schedule. `rest` is 1 - beta, rounded once; REPLAYED: how many missed steps move a row; ONE: 1, which
# the compiler does not know, or it would unroll loops over steps and use up the registers.
BETA1, BETA2, REST1, REST2 = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
PENALTY, MOMENTUM, REPLAYED, ONE = tl.constexpr(4), tl.constexpr(5), tl.constexpr(6), tl.constexpr(7)
# Tables: r^j and b2^(-j/2) for j in [0, WINDOW]; powers of beta1 (or the momentum) and of beta2, and sums of the powers
# of the first, all for exponents 0, 1, .., LOW - 1 and then 0, LOW, 2 LOW, .., MOST.
EARLY_SIZES, EARLY_EPS = tl.constexpr(16), tl.constexpr(512)
LOW = tl.constexpr(256)
POWERS1, POWERS2, SERIES = tl.constexpr(1024), tl.constexpr(2048), tl.constexpr(3072)
RECORDS = tl.constexpr(4096)
RECORD = tl.constexpr(8)  # numbers per record: a sector of memory
SIZE, EPS, SHRINK, SHRUNK = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2), tl.constexpr(3)
OWED_SIZE, OWED_EPS = tl.constexpr(4), tl.constexpr(5)

# What the kernels here go on from, float64 each.
RATE, RATE_DECAY, DECOUPLED = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)
RATIO1, RATIO2, PLAIN_EPS, CORRECTED = tl.constexpr(3), tl.constexpr(4), tl.constexpr(5), tl.constexpr(6)
POWER1, POWER2, PRODUCT = tl.constexpr(7), tl.constexpr(8), tl.constexpr(9)


@triton.jit
def corrected(going, step):
    """Bias corrections and learning rate of step number `step`, counted from the start of training: fp64."""
    correction1 = 1.0 - tl.load(going + POWER1) * tl.load(going + RATIO1)
    correction2 = 1.0 - tl.load(going + POWER2) * tl.load(going + RATIO2)
    rate = tl.load(going + RATE) / (1.0 + (step - 1).to(tl.float64) * tl.load(going + RATE_DECAY))
    return correction1, correction2, rate


@triton.jit
def write_step(schedule, going, counter, taken):
    """Write what step `taken + 1` moves rows by."""
    correction1, correction2, rate = corrected(going, tl.load(counter + 1) + taken + 1)
    root = tl.sqrt(correction2)
    eps = tl.load(going + PLAIN_EPS)
    record = schedule + RECORDS + (taken + 1) * RECORD
    tl.store(record + SIZE, (rate * root / correction1).to(tl.float32))
    tl.store(record + EPS, tl.where(tl.load(going + CORRECTED) != 0, eps * root, eps).to(tl.float32))
    tl.store(record + SHRINK, (1.0 - rate * tl.load(going + DECOUPLED)).to(tl.float32))


@triton.jit
def add_step(schedule, sums, ages, going, counter, taken):
    """Add step `taken + 1` to what is owed by the rows last updated at the WINDOW steps before. Returns the product.

    With decoupled weight decay, what a step owes shrinks at all later ones: a sum is kept as if rows had not shrunk
    since their last update, and is multiplied by what they have shrunk by when it is paid.
    """
    correction1, correction2, rate = corrected(going, tl.load(counter + 1) + taken + 1)
    product = tl.load(going + PRODUCT) * (1.0 - rate * tl.load(going + DECOUPLED))
    age = tl.arange(0, WINDOW)
    step = taken - age
    inside = step >= 0
    record = schedule + RECORDS + step * RECORD
    rate = rate / correction1 * (tl.load(record + SHRUNK, mask=inside, other=0.0).to(tl.float64) / product)
    a = tl.load(sums + 2 * step, mask=inside, other=0.0)
    b = tl.load(sums + 2 * step + 1, mask=inside, other=0.0)
    a += rate * tl.sqrt(correction2) * tl.load(ages + age)
    b += rate * correction2 * tl.load(ages + WINDOW + age)
    tl.store(sums + 2 * step, a, mask=inside)
    tl.store(sums + 2 * step + 1, b, mask=inside)
    share = tl.where(a > 0, b / tl.where(a > 0, a, 1.0), 1.0)  # a is zero where the learning rate was
    tl.store(record + OWED_SIZE, a.to(tl.float32), mask=inside)
    tl.store(record + OWED_EPS, (tl.load(going + PLAIN_EPS) * share).to(tl.float32), mask=inside)
    return product


@triton.jit
def take_kernel(schedule, sums, ages, going, counter):
    """Record that the step which `prepare_kernel` or this kernel prepared was taken, and prepare the next.

    schedule -> (RECORDS + RECORD * (MOST + 2),) fp32. sums -> (MOST + 1, 2) fp64, A and B of the closed form. ages ->
    (2, WINDOW) fp64, r^(1 + i) and q^(1 + i). going -> (10,) fp64. counter -> (2,) int64: steps taken since all rows
    were last up to date, and before. One program owns all.
    """
    taken = tl.load(counter).to(tl.int32)
    product = add_step(schedule, sums, ages, going, counter, taken)
    power1 = tl.load(going + POWER1) * tl.load(going + RATIO1)
    power2 = tl.load(going + POWER2) * tl.load(going + RATIO2)
    taken += 1
    tl.debug_barrier()  # every thread has read what is written now
    tl.store(going + POWER1, power1)
    tl.store(going + POWER2, power2)
    tl.store(going + PRODUCT, product)
    tl.store(sums + 2 * taken, 0.0)
    tl.store(sums + 2 * taken + 1, 0.0)
    record = schedule + RECORDS + taken * RECORD
    tl.store(record + SHRUNK, product.to(tl.float32))
    tl.store(record + OWED_SIZE, 0.0)
    tl.store(record + OWED_EPS, tl.load(going + PLAIN_EPS).to(tl.float32))
    tl.store(counter, taken.to(tl.int64))
    tl.debug_barrier()
    write_step(schedule, going, counter, taken)


@triton.jit
def prepare_kernel(schedule, going, counter):
    """Prepare the next step with the learning rate that is now in `going`. Arguments as for `take_kernel`."""
    write_step(schedule, going, counter, tl.load(counter).to(tl.int32))


class Schedule:
    """The schedule of an update rule, and how it is written. After `plan`, it is ready for the next step.

    Each step: kernels catch rows up (`update_rules.catch_up_rows`) and update those with a gradient
    (`update_rules.step_rows`), then `take`. Tables that take the same steps share a schedule.

    Args:
        rule: the update rule.
        steps: that it has taken before; every row is up to date.
        device: of the tables.

    Attributes:
        rule: the constant RULE of the device functions.
        array, counter: what these read as `schedule` and `counter`.
        taken: steps taken since all rows were last up to date.
    """

    def __init__(self, rule: "UpdateRule", steps: int, device: torch.device) -> None:
        adam = rule.name == "adam"
        beta1, beta2 = rule.betas if rule.name in ("adam", "sparse_adam") else (0.0, 0.0)
        penalty = rule.weight_decay if adam and not rule.decoupled else 0.0
        self._decay = rule.weight_decay if adam and rule.decoupled else 0.0
        r, q = (beta1 / max(x, 1e-300) for x in (math.sqrt(beta2), beta2))
        closed = adam and penalty == 0 and max(r, q) < SETTLED ** (1 / WINDOW.value)
        self.rule = rule.name
        if adam:
            self.rule = "replayed_adam" if not closed else "adamw" if self._decay else "adam"
        replayed = MOST.value if penalty else _steps_until(GONE, r) if r < 0.999 else _steps_until(TINY, beta1)
        settings = [beta1, beta2, 1 - beta1, 1 - beta2, penalty, rule.momentum, replayed, 1]
        ratio1 = rule.momentum if rule.name == "momentum" else beta1
        head = _head(settings, ratio1, beta2, r if closed else 0.0, rule.eps)
        self.array = torch.zeros(RECORDS.value + RECORD.value * (MOST.value + 2), device=device)
        self.array[: len(head)] = head.to(device)
        self.counter = torch.tensor([0, steps], device=device)
        rate_decay = rule.lr_decay if rule.name == "adagrad" else 0.0
        going = [0.0, rate_decay, self._decay, beta1, beta2, rule.eps, float(adam), beta1**steps, beta2**steps, 1.0]
        self._going = torch.tensor(going, dtype=torch.float64, device=device)
        ages = torch.arange(1, WINDOW.value + 1, dtype=torch.float64)
        self._ages = torch.stack([r**ages, q**ages] if closed else [0 * ages, 0 * ages]).to(device)
        self._sums = torch.zeros(MOST.value + 1, 2, dtype=torch.float64, device=device)
        self._first_record = self._record(0).clone()
        self._rate: float | None = None
        self._log_shrunk = 0.0
        self.taken = 0

    def plan(self, learning_rate: float) -> None:
        """Set the learning rate of the next step and of those after it.

        Raises:
            RuntimeError: for another learning rate than that of steps with momentum which rows still owe.
        """
        if learning_rate == self._rate:
            return
        if self.rule == "momentum" and self.taken:
            raise RuntimeError(f"learning_rate must stay {self._rate} while rows owe steps, got {learning_rate}")
        self._rate = learning_rate
        self._going[RATE.value].fill_(learning_rate)
        launch(prepare_kernel, (1,), self.array, self._going, self.counter, num_warps=1)

    def take(self) -> None:
        """Record, on the device, that the step was taken."""
        self.launch_take()
        self.advance(1)

    def launch_take(self) -> None:
        """Record a step on the device only: for a CUDA graph, whose replays must be counted by `advance`."""
        launch(take_kernel, (1,), self.array, self._sums, self._ages, self._going, self.counter)

    def advance(self, steps: int) -> None:
        """Count steps that were taken on the device."""
        self.taken += steps
        if self._decay:
            assert self._rate is not None
            self._log_shrunk += steps * math.log1p(-self._rate * self._decay)

    def room(self) -> int:
        """Return how many more steps can be taken with the learning rate planned before all rows must be caught up."""
        left = MOST.value - self.taken
        if self._decay and self._rate:
            shrinking = math.log(MOST_SHRUNK) - self._log_shrunk
            left = min(left, int(shrinking / math.log1p(-self._rate * self._decay)))
        return max(left, 0)

    def total(self) -> int:
        """Return how many steps were taken since the start of training, when the device is done with them."""
        return int(self.counter.sum())

    def restart(self) -> None:
        """Take note that all rows are up to date. `plan` must come before the next step."""
        self.counter[1] += self.counter[0]
        self.counter[0] = 0
        self._sums[0] = 0.0
        self._going[PRODUCT.value] = 1.0
        self._record(0).copy_(self._first_record)
        self.taken, self._log_shrunk, self._rate = 0, 0.0, None

    def _record(self, step: int) -> Tensor:
        return self.array[RECORDS.value + RECORD.value * step :][: RECORD.value]


def _steps_until(limit: float, ratio: float) -> int:
    """How often `ratio` must be multiplied with itself to fall below `limit`, at most MOST."""
    if ratio >= 1:
        return MOST.value
    return min(max(math.ceil(math.log(limit) / math.log(max(ratio, 1e-9))), 1), MOST.value)


def _head(settings: list[float], ratio1: float, ratio2: float, r: float, eps: float) -> Tensor:
    """Return settings, tables and the first record of a schedule without steps."""
    head = torch.zeros(RECORDS.value + RECORD.value, dtype=torch.float64)
    head[: len(settings)] = torch.tensor(settings, dtype=torch.float64)
    if r:
        age = torch.arange(WINDOW.value + 1, dtype=torch.float64)
        head[EARLY_SIZES.value :][: len(age)] = r**age
        head[EARLY_EPS.value :][: len(age)] = ratio2 ** (-0.5 * age)
    low = torch.arange(LOW.value, dtype=torch.float64)
    high = torch.arange(MOST.value // LOW.value + 1, dtype=torch.float64) * LOW.value
    for table, ratio in ((POWERS1.value, ratio1), (POWERS2.value, ratio2)):
        head[table:][: len(low) + len(high)] = torch.cat([ratio**low, ratio**high])
    sums = torch.cat([low[:1] * 0, (ratio1 ** (low + 1)).cumsum(0)])  # of the first 0, 1, .., LOW powers
    block, decayed = float(sums[-1]), ratio1**LOW.value
    far = [0.0]
    for _ in high[1:]:
        far.append(block + decayed * far[-1])
    head[SERIES.value :][: len(low) + len(high)] = torch.cat([sums[:-1], torch.tensor(far, dtype=torch.float64)])
    first = head[RECORDS.value :]
    first[EPS.value] = first[OWED_EPS.value] = eps
    first[SHRUNK.value] = 1.0
    return head.float()


SPECIALISATIONS = [
    Specialisation(
        take_kernel, {"schedule": "*fp32", "sums": "*fp64", "ages": "*fp64", "going": "*fp64", "counter": "*i64"}, {}
    ),
    Specialisation(prepare_kernel, {"schedule": "*fp32", "going": "*fp64", "counter": "*i64"}, {}, num_warps=1),
]
