"""Update rules on blocks of rows in Triton, against torch's optimizers in float64 on whole tables."""

from __future__ import annotations

import functools
import math

import pytest
import torch

from spotfast.kernels import schedule as schedules
from spotfast.kernels.language import tl, triton
from spotfast.kernels.owed_steps import next_step
from spotfast.kernels.schedule import RECORD, RECORDS, SIZE, Schedule
from spotfast.kernels.update_rules import catch_up_rows, step_rows, store_weight
from spotfast.ops.tables import UpdateRule
from spotfast.reference import dense_steps
from spotfast.reference import row_update as reference
from spotfast.reference.philox import draws_at

pytestmark = pytest.mark.interpreter

DEVICE = torch.device("cpu")
ROUNDING = 3  # the stream
ADAM = {"eps": 1e-8, "betas": (0.9, 0.999)}
RULES = {
    "adam": UpdateRule("adam", 1e-2, **ADAM),
    "adamw": UpdateRule("adam", 1e-2, **ADAM, weight_decay=0.3, decoupled=True),
    "quick_adam": UpdateRule("adam", 1e-2, betas=(0.5, 0.999)),
    "l2": UpdateRule("adam", 1e-2, **ADAM, weight_decay=0.1),
    "unsettled": UpdateRule("adam", 1e-2, betas=(0.99, 0.98)),
    "unsettled_decoupled": UpdateRule("adam", 1e-2, betas=(0.95, 0.9), weight_decay=0.3, decoupled=True),
    "sparse_adam": UpdateRule("sparse_adam", 1e-2, **ADAM),
    "sgd": UpdateRule("sgd", 1e-1),
    "momentum": UpdateRule("momentum", 1e-2, momentum=0.9),
    "slow_momentum": UpdateRule("momentum", 1e-3, momentum=0.999),
    "adagrad": UpdateRule("adagrad", 1e-1, eps=1e-10, lr_decay=0.3),
    "rowwise_adagrad": UpdateRule("rowwise_adagrad", 1e-1, eps=1e-10),
}


@triton.jit
def rows_kernel(
    weights, first, second, last, gradients, touched, schedule, counter, count, dim, state_dim,
    RULE: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Catch all rows up and store them, those that are `touched` after a step with a gradient."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    mask = (row < count)[:, None] & (column < dim)[None, :]
    place = row[:, None] * dim + column[None, :]
    if RULE == "rowwise_adagrad":
        state_mask = (row < count)[:, None]
        state_place = row[:, None]
    else:
        state_mask = mask
        state_place = place
    since = tl.load(last + row, mask=row < count, other=-1)
    weight = tl.load(weights + place, mask=mask, other=0.0)
    m = tl.load(first + state_place, mask=state_mask, other=0.0)
    v = tl.load(second + state_place, mask=state_mask, other=0.0)
    weight, m, v = catch_up_rows(weight, m, v, since, schedule, counter, RULE)
    gradient = tl.load(gradients + place, mask=mask, other=0.0)
    moved, new_m, new_v = step_rows(weight, m, v, gradient, dim, schedule, counter, RULE)
    step = tl.load(touched + row, mask=row < count, other=0) != 0
    tl.store(weights + place, tl.where(step[:, None], moved, weight), mask=mask)
    tl.store(first + state_place, tl.where(step[:, None], new_m, m), mask=state_mask)
    tl.store(second + state_place, tl.where(step[:, None], new_v, v), mask=state_mask)
    done = next_step(counter) - 1
    tl.store(last + row, tl.where(step, done + 1, tl.where(since < 0, since, done)), mask=row < count)


@triton.jit
def round_kernel(out, values, first_row, count, dim, seed, step, table, ROWS: tl.constexpr, BLOCK_D: tl.constexpr):
    """Store a block of float32 in a table of bfloat16, as the rows from `first_row` on."""
    row = tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK_D)
    mask = (row < count)[:, None] & (column < dim)[None, :]
    value = tl.load(values + row[:, None] * dim + column[None, :], mask=mask, other=0.0)
    store_weight(
        out - first_row * dim, first_row + row.to(tl.int64), value, row < count, dim, seed, step, table, BLOCK_D
    )


class Rows:
    """A table of float32 with what a rule keeps: `first` and `second`, or whichever of them it has."""

    def __init__(self, rule, weight, states, steps=0, last=0):
        self.rule = rule
        self.schedule = Schedule(rule, steps, DEVICE)
        self.weight = weight.float()
        self.states = [*(state.float() for state in states)]
        spare = torch.full_like(self.weight, torch.nan)  # what the rule lacks
        self.first, self.second = (self.states + [spare, spare.clone()])[:2]
        self.last = torch.as_tensor(last, dtype=torch.int32).expand(len(weight)).clone()

    def run(self, gradient=None, touched=()):
        """Catch up, and take a step with the rows that are touched. `take` is left to the caller."""
        count, dim = self.weight.shape
        flags = torch.zeros(count, dtype=torch.int32)
        flags[list(touched)] = 1
        gradient = torch.zeros_like(self.weight) if gradient is None else gradient.float()
        rows_kernel[(1,)](
            self.weight, self.first, self.second, self.last, gradient, flags, self.schedule.array,
            self.schedule.counter, count, dim, self.first.shape[1],
            RULE=self.schedule.rule, ROWS=triton.next_power_of_2(count), BLOCK_D=max(4, triton.next_power_of_2(dim)),
        )  # fmt: skip


def problem(rule, rows, dim, seed=0):
    """Weights and states of zero, float64."""
    weight = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).float().double()
    width = 1 if rule.name == "rowwise_adagrad" else dim
    return weight, [torch.zeros(rows, width, dtype=torch.float64) for _ in rule.states]


def assert_near(rows, weight, states, rtol):
    for name, ours, truth in zip(
        ("weight", *rows.rule.states), (rows.weight, *rows.states), (weight, *states), strict=True
    ):
        error = (ours - truth).abs().max() / truth.abs().max()
        assert error < rtol, f"{name}: {error}"


@pytest.mark.parametrize(
    ("name", "dim"), [(name, dim) for place, name in enumerate(RULES) for dim in ((1, 32), (3, 33))[place % 2]]
)
def test_steps(name, dim):
    """With rows that are touched now and then, as the torch optimizer of that name moves the whole table."""
    rule = RULES[name]
    weight, states = problem(rule, 5, dim)
    rows = Rows(rule, weight, states)
    leaf = weight.requires_grad_()
    step = dense_steps.stepper(rule, [leaf], [tuple(states)], 0)
    generator = torch.Generator().manual_seed(dim)
    for touched in ([0, 1], [1, 3], [1], [0, 3, 4], []):
        gradient = torch.zeros(5, dim, dtype=torch.float64)
        gradient[touched] = torch.randn(len(touched), dim, generator=generator, dtype=torch.float64)
        step([gradient], [torch.tensor(touched, dtype=torch.int64)])
        rows.schedule.plan(rule.learning_rate)
        if touched:
            rows.run(gradient, touched)
        rows.schedule.take()
    rows.run()
    assert_near(rows, leaf.detach(), states, 1e-6)


def optimizer_of(rule, leaf):
    lr = rule.learning_rate
    if rule.name == "momentum":
        return torch.optim.SGD([leaf], lr, rule.momentum)
    make = torch.optim.AdamW if rule.decoupled else torch.optim.Adam
    return make([leaf], lr, rule.betas, rule.eps, rule.weight_decay)


@functools.cache
def planned(name, steps, rates):
    """A schedule of steps that were taken with these learning rates, which tests share: it takes the longest."""
    schedule = Schedule(RULES[name], steps, DEVICE)
    for rate in rates:
        schedule.plan(rate)
        schedule.take()
    return schedule


def owing_rows(name, steps, rates, scale=1e-1):
    """A row per step, last updated then, with moments of that scale."""
    rule, count = RULES[name], len(rates)
    weight, states = problem(rule, count, 2)
    generator = torch.Generator().manual_seed(1)
    for state, power in zip(states, (1, 2)[: len(states)], strict=True):
        state.copy_((torch.randn(count, 2, generator=generator).abs() * scale) ** power)
    rows = Rows(rule, weight, states, last=torch.arange(count))
    rows.schedule = planned(name, steps, rates)
    return rows, weight, states


def dense(name, steps, rates, weight, states):
    """Let torch's optimizer take the steps that `owing_rows` owe."""
    rule, last = RULES[name], torch.arange(len(rates))
    leaf = weight.clone().requires_grad_()
    optimizer = optimizer_of(rule, leaf)
    optimizer.state[leaf] = {"step": torch.tensor(float(steps)), **dict(zip(rule.states, states, strict=True))}
    start = [tensor.detach().clone() for tensor in (leaf, *states)]
    leaf.grad = torch.zeros_like(leaf)
    for step, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        with torch.no_grad():  # rows that were updated at a later step go on from there
            for tensor, before in zip((leaf, *states), start, strict=True):
                tensor[last > step] = before[last > step]
    return leaf.detach()


COSINE = tuple(1e-2 * (0.55 + 0.45 * math.cos(step / 10)) for step in range(32))


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("adam", 1),  # replayed one by one
        ("quick_adam", 1),  # and not to the end, for some
        ("adam", 496),  # half of the rows
        ("adam", 600),  # in closed form
        ("adamw", 1),
        ("adamw", 496),
        ("adamw", 600),
        ("l2", 100),
        ("unsettled", 7),
        ("unsettled_decoupled", 7),
    ],
)
def test_owed_steps_with_a_schedule(name, steps):
    rows, weight, states = owing_rows(name, steps, COSINE)
    truth = dense(name, steps, COSINE, weight, states)
    assert (truth - weight).abs().max() > 0.01
    rows.run()
    assert_near(rows, truth, states, 1e-6)
    assert (rows.last == len(COSINE)).all()


def test_beyond_the_window(monkeypatch):
    """What a row owes must not change any more by then: with a short window, for a moment that is soon gone."""
    monkeypatch.setattr(schedules, "WINDOW", tl.constexpr(16))
    monkeypatch.setitem(RULES, "short", UpdateRule("adam", 1e-2, betas=(0.2, 0.999)))
    rows, weight, states = owing_rows("short", 600, COSINE)
    assert rows.schedule.rule == "adam"
    rows.run()
    assert_near(rows, dense("short", 600, COSINE, weight, states), states, 1e-6)


@pytest.mark.parametrize("name", ["momentum", "slow_momentum"])
def test_owed_steps_of_momentum(name):
    """In a single launch for up to 300 steps: with one learning rate, only their number counts."""
    rule, rate = RULES[name], RULES[name].learning_rate
    weight, states = problem(rule, 300, 2)
    states[0].normal_(generator=torch.Generator().manual_seed(2))
    rows = Rows(rule, weight, states, last=torch.arange(300))
    rows.schedule.plan(rate)
    rows.schedule.counter[0] = 300
    rows.schedule.array[RECORDS.value + SIZE.value :: RECORD.value][:301] = rate
    rows.run()
    assert_near(rows, dense(name, 3, (rate,) * 300, weight, states), states, 1e-6)


@pytest.mark.parametrize("scale", [1e-5, 1e-7, 1e-9])
def test_small_gradients(scale):
    """Where eps is not small beside the root of v, of which the closed form is of first order in both engines."""
    rows, weight, states = owing_rows("adam", 600, COSINE, scale)
    owed = reference.OwedSteps(*ADAM["betas"], 600)
    for rate in COSINE:
        owed.take(rate)
    every = torch.arange(len(COSINE))
    reference.catch_up(weight, *states, 600 + every, every, owed, ADAM["eps"], 0.0)
    rows.run()
    assert_near(rows, weight, states, 1e-6)


def test_rates_of_zero():
    rows, weight, states = owing_rows("adam", 600, (0.0,) * 3)
    rows.run()
    assert torch.equal(rows.weight, weight.float())
    assert_near(rows, weight, [0.9 ** torch.arange(3, 0, -1).unsqueeze(1) * states[0], states[1]], 3e-3)


@pytest.mark.parametrize("name", ["adam", "adamw", "momentum"])
def test_going_on_after_a_restart(name):
    """When all rows are up to date, steps are counted anew: the same as without, within rounding."""
    results = []
    rule = RULES[name]
    gradient = torch.ones(3, 2)
    for restarts in (False, True):
        rows = Rows(rule, *problem(rule, 3, 2))
        for step in range(12):
            rows.schedule.plan(rule.learning_rate)
            rows.run(gradient, [step % 3])
            rows.schedule.take()
            if restarts and step % 4 == 3:
                rows.run()
                rows.schedule.restart()
                rows.last.zero_()
        rows.run()
        results.append(torch.cat([rows.weight, *rows.states]))
    torch.testing.assert_close(*results, rtol=2e-6, atol=1e-7)
    assert rows.schedule.counter.tolist() == [0, 12]


def test_rows_never_updated_owe_nothing():
    rule = RULES["l2"]
    weight, _ = problem(rule, 3, 2)
    rows = Rows(rule, weight, [torch.ones(3, 2), torch.ones(3, 2)], last=[0, -1, 0])
    rows.schedule.plan(0.1)
    rows.schedule.take()
    rows.run()
    assert torch.equal(rows.weight[1], weight[1].float())
    assert not torch.equal(rows.weight[0], weight[0].float())
    assert rows.last.tolist() == [1, -1, 1]


def test_negligible_moments_are_zero():
    rule = RULES["adam"]
    weight, _ = problem(rule, 2, 2)
    rows = Rows(rule, weight, [torch.full((2, 2), 1.05e-20), torch.full((2, 2), 1e-36)], steps=600)
    rows.schedule.plan(0.1)
    rows.schedule.take()
    rows.run()
    assert (rows.first == 0).all()
    assert (rows.second == 0).all()


def test_a_schedule_knows_when_it_is_full(monkeypatch):
    monkeypatch.setattr(schedules, "MOST", tl.constexpr(100))
    assert Schedule(RULES["adam"], 0, DEVICE).room() == 100
    monkeypatch.undo()
    decoupled = Schedule(RULES["adamw"], 0, DEVICE)
    assert decoupled.room() == schedules.MOST.value
    decoupled.plan(0.5)  # rows shrink to 0.85 at each step
    room = decoupled.room()
    assert 0.85**room >= schedules.MOST_SHRUNK > 0.85 ** (room + 1)
    decoupled.launch_take()
    decoupled.advance(1)
    assert decoupled.taken == 1
    assert decoupled.room() == room - 1
    decoupled.restart()
    decoupled.plan(0.5)
    assert decoupled.room() == room


def test_momentum_with_another_rate():
    schedule = Schedule(RULES["momentum"], 0, DEVICE)
    schedule.plan(0.1)
    schedule.plan(0.2)
    schedule.take()
    with pytest.raises(RuntimeError, match=r"learning_rate must stay 0\.2 while rows owe steps, got 0\.1"):
        schedule.plan(0.1)
    schedule.restart()
    schedule.plan(0.1)


class TestStochasticRounding:
    SEED, STEP, TABLE = 2**63 + 11, 2**32 - 3, 7

    def rounded(self, values, first_row=0, step=STEP):
        count, dim = values.shape
        out = torch.full((count + 2, dim), torch.nan, dtype=torch.bfloat16)
        round_kernel[(1,)](
            out[1:], values, first_row, count, dim, self.SEED, step, self.TABLE,
            ROWS=triton.next_power_of_2(count), BLOCK_D=max(16, triton.next_power_of_2(dim)),
        )  # fmt: skip
        assert out[[0, -1]].isnan().all()
        return out[1:-1]

    @pytest.mark.parametrize("dim", [1, 3, 32, 33])
    @pytest.mark.parametrize("first_row", [0, 2**33 + 1])
    def test_by_the_draws_of_step_row_and_column(self, dim, first_row):
        values = torch.randn(5, dim, generator=torch.Generator().manual_seed(dim))
        number = (first_row + torch.arange(5)).unsqueeze(1) * 512 + torch.arange(dim)
        words = draws_at(self.SEED, self.STEP, ROUNDING, number, self.TABLE)
        bits = values.view(torch.int32).long() + (words >> 16)
        expected = (bits >> 16 << 16).to(torch.int32).view(torch.float32)
        assert torch.equal(self.rounded(values, first_row).float(), expected)

    def test_right_on_average(self):
        """A quarter of the way from one number of bfloat16 to the next."""
        for sign in (1, -1):
            value = sign * (1 + 2**-7 / 4)
            out = self.rounded(torch.full((64, 128), value)).float()
            assert out.abs().unique().tolist() == [1.0, 1 + 2**-7]
            up = (out.abs() > 1).double().mean()
            assert abs(up - 0.25) < 4 * math.sqrt(0.25 * 0.75 / out.numel())

    def test_steps_differ(self):
        values = torch.full((8, 32), 1 + 2**-8)
        assert torch.equal(self.rounded(values), self.rounded(values))
        assert not torch.equal(self.rounded(values), self.rounded(values, step=self.STEP - 1))

    def test_what_bfloat16_holds_stays(self):
        values = torch.tensor([[0.0, -0.0, 1.5, -3.0, torch.inf, -torch.inf, 2.0**-130, torch.nan]])
        out = self.rounded(values).float()
        assert torch.equal(out[:, :-1], values[:, :-1])
        assert out[0, -1].isnan()
