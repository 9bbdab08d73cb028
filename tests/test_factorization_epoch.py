"""An epoch of training in C++ against the same with dense gradients and torch's optimizers: every loss, every rule."""

from __future__ import annotations

import copy
import importlib
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest
import torch

import spotfast
from spotfast import backends
from spotfast.ops.factorization_epoch import (
    LOSSES,
    LOSSES_OF_RATINGS,
    NegativeSampling,
    TrainingInteractions,
    factorization_epoch,
)
from spotfast.ops.negatives import popularity_thresholds
from spotfast.ops.tables import EpochRange, Table, UpdateRule
from spotfast.positives import Positives
from spotfast.reference import factorization_epoch as reference

USERS, ITEMS, SEED = 40, 100, 0x0123456789ABCDEF
RULES = {
    "adam": UpdateRule("adam", 1e-2),
    "adam with weight decay": UpdateRule("adam", 1e-2, weight_decay=1e-2),
    "adamw": UpdateRule("adam", 1e-2, weight_decay=0.1, decoupled=True),
    "sparse_adam": UpdateRule("sparse_adam", 1e-2),
    "sgd": UpdateRule("sgd", 0.1),
    "momentum": UpdateRule("momentum", 0.01, momentum=0.9),
    "adagrad": UpdateRule("adagrad", 0.1, eps=1e-10, lr_decay=1e-2),
    "rowwise_adagrad": UpdateRule("rowwise_adagrad", 0.1, eps=1e-10),
}
WITHOUT_L2 = [name for name in RULES if name != "adam with weight decay"]
SMOOTH = [loss for loss in LOSSES if "hinge" not in loss]

pytestmark = pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension")


@pytest.fixture(params=["_native", "_native_avx2"], ids=["baseline", "avx2"])
def isa(request, monkeypatch):
    """Runs the test with each build of the extension."""
    if request.param == "_native_avx2" and not backends.native().cpu_has_avx2_fma():
        pytest.skip("this CPU has no AVX2")
    module = importlib.import_module(f"spotfast.{request.param}")
    monkeypatch.setattr(backends, "native", lambda: module)


@pytest.fixture
def threads():
    yield spotfast.set_num_threads
    spotfast.set_num_threads(None)


@dataclass
class Problem:
    """Tables, and what to train them on."""

    users: Table
    items: Table
    interactions: TrainingInteractions
    sampling: NegativeSampling | None
    loss: str
    rule: UpdateRule
    at: EpochRange

    def train(self, backend, **options):
        arguments = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return factorization_epoch(**arguments, **options, backend=backend)

    def trained(self, backend="native", **options):
        """A copy after the epoch, and the loss."""
        twin = copy.deepcopy(self)
        return twin, twin.train(backend, **options).loss

    @property
    def tensors(self):
        tables = (self.users, self.items)
        return [part for t in tables for part in (t.vectors, t.biases, *t.vector_states, *t.bias_states)]

    @property
    def measured(self):
        """The same in units of weights and gradients: roots of what sums their squares."""
        squares = [name in ("exp_avg_sq", "sum") for name in self.rule.states]
        roots = 2 * [False, False, *squares, *squares]
        return [part.sqrt() if root else part for part, root in zip(self.tensors, roots, strict=True)]


def problem(
    loss="bpr",
    rule="adam",
    dim=8,
    count=64,
    batch_size=64,
    steps=0,
    epoch=0,
    ids="zipf",
    slots=3,
    sampler="unseen",
    weighted=False,
    sizes=(USERS, ITEMS),
    seed=0,
):
    rng = np.random.default_rng(seed)
    pairs, sizes = _pairs(rng, ids, count, sizes)
    ratings = torch.from_numpy(rng.uniform(0, 1.5, count).astype(np.float32)) if loss in LOSSES_OF_RATINGS else None
    weights = torch.from_numpy(rng.uniform(0, 2, count).astype(np.float32)) if weighted else None
    rule = RULES[rule]
    users, items = (_table(rng, size, dim, rule, steps) for size in sizes)
    sampling = None if ratings is not None else _sampling(pairs, sizes, sampler, slots if "adaptive" in loss else 1)
    interactions = TrainingInteractions(torch.from_numpy(pairs), ratings, weights)
    return Problem(users, items, interactions, sampling, loss, rule, EpochRange(SEED, epoch, batch_size, steps))


def _pairs(rng, ids, count, sizes):
    if ids == "same":
        return np.full((count, 2), 3, np.int32), sizes
    if ids == "distinct":
        sizes = tuple(max(size, count + 1) for size in sizes)
        return np.stack([rng.permutation(size)[:count] for size in sizes], axis=1).astype(np.int32), sizes
    columns = [rng.permutation(size)[(size * rng.random(count) ** 3).astype(int)] for size in sizes]
    return np.stack(columns, axis=1).astype(np.int32), sizes


def _table(rng, size, dim, rule, steps):
    """Scores are of a size of 1. What the rule keeps is zero before the first step, and something after it."""

    def normal(columns, scale):
        return torch.from_numpy((scale * rng.standard_normal((size, columns))).astype(np.float32))

    def state(name, columns):
        if steps == 0:
            return torch.zeros(size, columns)
        return normal(columns, 1e-2) if name in ("exp_avg", "momentum_buffer") else normal(columns, 0.1).square() + 1e-5

    vectors, biases = normal(dim, dim**-0.25), normal(1, 0.3)
    columns = 1 if rule.name == "rowwise_adagrad" else dim
    return Table(vectors, biases, *(tuple(state(name, width) for name in rule.states) for width in (columns, 1)))


def _sampling(pairs, sizes, sampler, slots):
    if sampler == "uniform":
        return NegativeSampling("uniform", slots, sizes[1], first=1)
    positives = Positives.from_interactions(pairs[:, 0], pairs[:, 1], *sizes)
    counts = np.bincount(pairs[:, 1], minlength=sizes[1])
    thresholds = popularity_thresholds(counts) if sampler == "popularity" else None
    return NegativeSampling(sampler, slots, sizes[1], positives=positives, thresholds=thresholds)


def assert_within_rounding(actual, expected):
    for own, other in zip(actual.measured, expected.measured, strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())


def assert_same_bits(actual, expected):
    for own, other in zip(actual.tensors, expected.tensors, strict=True):
        assert torch.equal(own.view(torch.int32), other.view(torch.int32))


def assert_agree(case):
    (native, loss), (plain, expected) = case.trained("native"), case.trained("reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    assert_within_rounding(native, plain)
    return plain


def distance(actual, expected):
    """The largest relative norm of the differences of weights."""
    return max(
        ((own - other).norm() / other.norm()).item()
        for table in ("users", "items")
        for part in ("vectors", "biases")
        for own, other in [(getattr(getattr(p, table), part).double() for p in (actual, expected))]
    )


@pytest.mark.usefixtures("isa")
class TestSteps:
    @pytest.mark.parametrize("loss", LOSSES)
    @pytest.mark.parametrize("rule", RULES)
    def test_every_loss_and_rule(self, loss, rule):
        """At the first step, with the early steps of Adam, and later, with its closed form."""
        for steps, weighted in ((0, False), (7, True), (600, False), (601, True)):
            assert_agree(problem(loss, rule, steps=steps, weighted=weighted, seed=steps))

    def test_kinks_are_torchs(self):
        """A hinge that is exactly zero has a gradient; of equal negatives, the first one has it."""
        for loss in ("hinge", "adaptive_hinge"):
            case = problem(loss, "sgd", dim=2, slots=6, sizes=(4, 9), sampler="uniform")
            for table in (case.users, case.items):
                table.vectors.copy_(torch.arange(table.vectors.numel()).view_as(table.vectors) % 2)
                table.biases.zero_()
            assert_agree(case)

    @pytest.mark.parametrize("loss", LOSSES)
    def test_nothing_hides_a_nan(self, loss):
        case = problem(loss, slots=6, sampler="uniform")
        case.items.vectors[17] = float("nan")
        native, plain = case.trained("native")[0], case.trained("reference")[0]
        assert torch.isnan(plain.users.vectors).any()
        for own, other in zip(native.tensors, plain.tensors, strict=True):
            assert torch.equal(own.isnan(), other.isnan())


@pytest.mark.parametrize(
    ("loss", "rule"),
    [
        ("bpr", "adam"),
        ("adaptive_hinge", "adam"),
        ("hinge", "adam with weight decay"),
        ("logistic", "adamw"),
        ("pointwise", "sparse_adam"),
        ("poisson", "momentum"),
        ("regression", "adagrad"),
        ("adaptive_hinge", "rowwise_adagrad"),
    ],
)
def test_200_steps_each_from_the_state_of_the_reference(loss, rule):
    case = problem(loss, rule)
    for step in range(200):
        drawn = problem(loss, rule, seed=1000 + step)
        at = EpochRange(SEED, step, 64, step)
        case = replace(case, interactions=drawn.interactions, sampling=drawn.sampling, at=at)
        case = assert_agree(case)


def covering_array(factors):
    """Cases such that any two values of any two factors occur together in one of them."""
    names = list(factors)
    missing = {
        ((a, x), (b, y)): None for a, b in combinations(names, 2) for x in factors[a] for y in factors[b]
    }  # a set in a fixed order

    def covered(case, name, value):
        pairs = (sorted(((name, value), other), key=lambda entry: names.index(entry[0])) for other in case.items())
        return sum(tuple(pair) in missing for pair in pairs)

    cases = []
    while missing:
        case = dict(next(iter(missing)))
        for name in names:
            if name not in case:
                case[name] = max(factors[name], key=lambda value, case=case, name=name: covered(case, name, value))
        for pair in combinations([(name, case[name]) for name in names], 2):
            missing.pop(pair, None)
        cases.append(case)
    return cases


CASES = covering_array(
    {
        "dim": (1, 3, 31, 32, 33, 64, 127, 128),
        "rule": tuple(RULES),
        "loss": LOSSES,
        "batch_size": (1, 2, 255, 256, 257),
        "last_batch": ("one row", "whole", "beyond the end"),
        "ids": ("same", "distinct", "zipf"),
        "sampler": ("uniform", "unseen", "popularity"),
        "slots": (1, 10),
        "weighted": (False, True),
        "threads": (1, 2, 3),
    }
)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_pairs_of_settings(case, threads):
    """A few batches at most: from then on, kinked losses part by rounding alone."""
    settings = {**case, "steps": 600, "epoch": 3}
    threads(settings.pop("threads"))
    batch_size, last_batch = case["batch_size"], settings.pop("last_batch")
    count = {"one row": 2 * batch_size + 1, "whole": 2 * batch_size, "beyond the end": max(1, batch_size - 100)}
    assert_agree(problem(**settings, count=count[last_batch]))


def cast(case, dtype):
    """A copy with tables of another dtype."""

    def table(of):
        states = (tuple(state.to(dtype) for state in states) for states in (of.vector_states, of.bias_states))
        return Table(of.vectors.to(dtype), of.biases.to(dtype), *states)

    return replace(case, users=table(case.users), items=table(case.items))


def in_double(case):
    """A copy after the epoch that the reference trains in double precision, and the loss."""
    exact = cast(case, torch.float64)

    def draw(start, stop, users):
        return case.sampling.draw(SEED, case.at.epoch, start, stop, users)

    draws = None if case.sampling is None else draw
    losses = reference.factorization_epoch(
        exact.users, exact.items, case.interactions, draws, case.loss, case.rule, case.at, lambda positions: True
    )
    return exact, np.mean(losses)


def assert_epochs_agree(loss, rule, epochs):
    """Rows are owed up to hundreds of steps: early ones, that Adam replays, and from the 512th on its closed form.

    The reference computes in double precision: in single, that of AdamW is off by nearly what is allowed.
    """
    case = problem(loss, rule, count=2880, batch_size=4, sizes=(300, 200), seed=1)
    for epoch in range(epochs):
        case = replace(case, at=EpochRange(SEED, epoch, 4, 720 * epoch))
        native, mean = case.trained("native")
        exact, expected = in_double(case)
        assert mean == pytest.approx(expected, rel=1e-5)
        assert distance(exact, case) > 1e-2
        assert distance(native, exact) < 1e-5
        case = cast(exact, torch.float32)


@pytest.mark.parametrize(
    ("loss", "rule"),
    [("bpr", "adam"), ("bpr", "adamw"), ("bpr", "momentum"), ("pointwise", "adam"), ("poisson", "adam")],
)
def test_a_free_running_epoch(loss, rule):
    assert_epochs_agree(loss, rule, epochs=1)


@pytest.mark.slow
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("rule", WITHOUT_L2)
def test_free_running_epochs_of_every_loss_and_rule(loss, rule):
    assert_epochs_agree(loss, rule, epochs=2)


@pytest.mark.usefixtures("isa")
class TestDeterminism:
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.parametrize("batch_size", [63, 64, 100, 257])
    def test_threads_leave_no_trace(self, rule, batch_size, threads):
        case = problem("adaptive_hinge", rule, dim=33, count=5000, batch_size=batch_size, sizes=(700, 300))
        expected = None
        for count in (1, 2, 3, 2):
            threads(count)
            trained, loss = case.trained()
            expected = expected or (trained, loss)
            assert_same_bits(trained, expected[0])
            assert loss == expected[1]

    @pytest.mark.parametrize("loss", LOSSES)
    def test_for_every_loss(self, loss, threads):
        case = problem(loss, weighted=True, count=5000, batch_size=128, sizes=(700, 300))
        threads(1)
        expected, expected_loss = case.trained()
        threads(3)
        trained, loss = case.trained()
        assert_same_bits(trained, expected)
        assert loss == expected_loss


@pytest.mark.slow
def test_decoupled_decay_that_leaves_nothing_of_a_row(monkeypatch):
    """The product of all factors is zero even in double precision: rows must be brought up to date before."""
    monkeypatch.setitem(RULES, "adamw", UpdateRule("adam", 1e-2, weight_decay=20.0, decoupled=True))
    case = problem("regression", "adamw", count=4200, batch_size=1, sizes=(300, 200))
    for table in (case.users, case.items):
        table.vectors.zero_()  # where they are nothing, rounding alone would choose their signs
    (native, loss), (plain, expected) = case.trained("native"), case.trained("reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    for own, other in ((native.users, plain.users), (native.items, plain.items)):
        assert (own.biases - other.biases).norm() < 1e-5 * other.biases.norm()


class TestReport:
    """The engine reports at most every 50 ms: the epoch must be longer than that."""

    @staticmethod
    def long_epoch():
        return problem(dim=32, count=2_000_000, batch_size=1024, sizes=(2000, 500), sampler="uniform")

    def test_called_with_positions_until_it_says_stop(self):
        case, reported = self.long_epoch(), []

        def report(positions):
            reported.append(positions)
            return len(reported) < 2

        result = case.train("native", report=report)
        assert len(reported) == 2
        assert 0 < reported[0] < reported[1] < 2_000_000
        assert [positions % 1024 for positions in reported] == [0, 0]
        assert result.batches == reported[1] // 1024
        expected = self.long_epoch()
        assert expected.train("reference", report=lambda positions: positions < reported[1]).batches == result.batches
        assert distance(case, expected) < 1e-5

    @pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
    def test_what_it_raises_arrives_when_all_rows_are_up_to_date(self, error):
        case, reported = self.long_epoch(), []

        def report(positions):
            reported.append(positions)
            raise error("on purpose")

        with pytest.raises(error, match="on purpose"):
            case.train("native", report=report)
        assert len(reported) == 1
        expected = self.long_epoch()
        expected.train("reference", report=lambda positions: positions < reported[0])
        assert distance(case, expected) < 1e-5


def _with(part, **changes):
    return lambda case: replace(case, **{part: replace(getattr(case, part), **changes)})


PAIRS = torch.zeros(64, 2, dtype=torch.int32)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda case: replace(case, loss="warp"), "loss must be one of"),
        (_with("rule", name="lion"), "rule.name must be one of"),
        (_with("rule", learning_rate=-0.1), "rule.learning_rate must be .* got -0.1"),
        (_with("rule", eps=0.0), "rule.eps must be .* got 0"),
        (_with("rule", decoupled=True, weight_decay=21.0), r"learning_rate \* rule.weight_decay must be at most 0.2"),
        (_with("at", seed=-1), "seed"),
        (_with("at", epoch=2**32), "epoch"),
        (_with("at", batch_size=0), "at.batch_size must be .* got 0"),
        (_with("at", steps=-1), "at.steps must be .* got -1"),
        (_with("users", vectors=torch.zeros(USERS, 8).double()), r"users.vectors must be .* got torch.float64"),
        (_with("items", vectors=torch.zeros(ITEMS, 9)), r"items.vectors must be .*\(100, 8\), got .*\(100, 9\)"),
        (_with("items", vectors=torch.zeros(8, ITEMS).T), r"items.vectors must be contiguous .* strides \(1, 100\)"),
        (_with("users", biases=torch.zeros(USERS)), r"users.biases must be .* got .*\(40,\)"),
        (_with("users", vector_states=()), "users.vector_states must be .* got 0 tensors"),
        (_with("items", bias_states=(torch.zeros(ITEMS, 1),)), "items.bias_states must be .* got 1 tensors"),
        (_with("items", bias_states=2 * (torch.zeros(ITEMS, 2),)), r"items.bias_states must be .* got .*\(100, 2\)"),
        (_with("interactions", ratings=torch.zeros(64)), "loss 'bpr' needs sampling and no ratings"),
        (lambda case: replace(case, sampling=None), "loss 'bpr' needs sampling and no ratings"),
        (lambda case: replace(case, loss="poisson"), "loss 'poisson' needs ratings and no sampling"),
        (_with("sampling", num_items=101), "sampling.num_items must be at most 100, as items, got 101"),
        (_with("sampling", slots=2), "sampling.slots must be 1 for loss 'bpr', got 2"),
        (_with("interactions", pairs=PAIRS.long()), "interactions.pairs must be int32 .* got torch.int64"),
        (_with("interactions", pairs=PAIRS[:0]), r"interactions.pairs must be .* n >= 1, got .*\(0, 2\)"),
        (_with("interactions", pairs=PAIRS.T.contiguous().T), "interactions.pairs must be contiguous"),
        (_with("interactions", weights=torch.ones(63)), r"interactions.weights must be .*\(64,\), got .*\(63,\)"),
        (_with("interactions", weights=torch.ones(64).double()), "interactions.weights must be .* got torch.float64"),
        (_with("interactions", weights=torch.ones(128)[::2]), r"interactions.weights must be .* strides \(2,\)"),
        (_with("interactions", pairs=PAIRS - 1), r"pairs\[:, 0\] must be in \[0, 40\), .* got -1 .. -1"),
        (_with("interactions", pairs=PAIRS + 40), r"pairs\[:, 0\] must be in \[0, 40\), .* got 40 .. 40"),
        (
            _with("interactions", pairs=PAIRS + torch.tensor([0, 100], dtype=torch.int32)),
            r"pairs\[:, 1\] must be in \[0, 100\), the rows of items, got 100 .. 100",
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(change, message, backend):
    case = problem()
    bad = change(case)
    before = copy.deepcopy(case)
    with pytest.raises(ValueError, match=message):
        bad.train(backend)
    assert_same_bits(case, before)
