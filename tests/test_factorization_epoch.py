"""An epoch of training in C++ against the same with dense gradients and torch's optimizers: every loss, every rule."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from device_reads import DeviceReads
from factorization_problems import (
    ITEMS,
    RULES,
    USERS,
    assert_agree,
    assert_same_bits,
    but,
    covering_array,
    distance,
    problem,
)

import spotfast
from spotfast import backends
from spotfast.ops.factorization_epoch import LOSSES
from spotfast.positives import Positives

pytestmark = pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension")


@pytest.fixture
def threads():
    yield spotfast.set_num_threads
    spotfast.set_num_threads(None)


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


WIDE = covering_array(
    {"dim": (129, 255, 256, 257, 511, 512), "rule": tuple(RULES), "loss": LOSSES, "steps": (7, 600), "slots": (1, 5)}
)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", WIDE, ids=lambda case: "-".join(map(str, case.values())))
def test_wide_rows(case):
    """Not from the start, where of so many gradients some are as small as Adam's eps, and rounding decides."""
    assert_agree(problem(**case))


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


class TestIds:
    """They are read once, however many epochs there are, and again where they may have changed."""

    @pytest.mark.parametrize(("sampler", "reads"), [("uniform", 1), ("unseen", 2), ("popularity", 2)])
    def test_once(self, sampler, reads):
        case = problem(sampler=sampler)
        with DeviceReads() as counted:
            for epoch in range(3):
                replace(case, at=replace(case.at, epoch=epoch)).train("native")
        assert counted.count == reads

    def test_what_counts_as_a_read(self):
        numbers, mask = torch.arange(3), torch.tensor([True, False, True])
        with DeviceReads() as counted:
            bool(mask.any()), int(numbers[1]), numbers.sum().item(), numbers.tolist(), numbers[mask], mask.nonzero()
            numbers[numbers].diff()
        assert counted.count == 6

    def test_changed_since(self):
        case = problem(sampler="uniform")
        case.train("native")
        case.interactions.pairs[7, 1] = ITEMS
        before = copy.deepcopy(case)
        with pytest.raises(ValueError, match=r"pairs\[:, 1\] must be in \[0, 100\), .* got \d+ .. 100"):
            case.train("native")
        assert_same_bits(case, before)

    def test_other_tables(self):
        case = problem(sampler="uniform")
        case.train("native")
        smaller = problem(sampler="uniform", sizes=(USERS // 2, ITEMS))
        with (
            DeviceReads() as counted,
            pytest.raises(ValueError, match=r"pairs\[:, 0\] must be in \[0, 20\), the rows of users, got 0 .. 39"),
        ):
            replace(case, users=smaller.users).train("native")
        assert counted.count == 0

    def test_tensors_without_a_version(self):
        """Whether those have changed, torch does not tell."""
        with torch.inference_mode():
            case = problem(sampler="uniform")
            with DeviceReads() as counted:
                for _ in range(2):
                    case.train("native")
        assert counted.count == 2

    def test_a_full_user_does_not_hinder_others(self):
        case = problem(sampler="unseen", sizes=(USERS + 1, ITEMS))
        case.interactions.pairs[:, 0].clamp_(max=USERS - 1)
        case.sampling.positives.indptr[-1] = case.sampling.positives.indptr[-2] + ITEMS
        case.train("native")


PAIRS = torch.zeros(64, 2, dtype=torch.int32)
POSITIVES = Positives(torch.arange(USERS + 1), torch.zeros(USERS, dtype=torch.int32), ITEMS)
FULL = Positives(ITEMS * torch.arange(USERS + 1), torch.arange(ITEMS, dtype=torch.int32).repeat(USERS), ITEMS)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda case: replace(case, loss="warp"), "loss must be one of"),
        (but("rule", name="lion"), "rule.name must be one of"),
        (but("rule", learning_rate=-0.1), "rule.learning_rate must be .* got -0.1"),
        (but("rule", eps=0.0), "rule.eps must be .* got 0"),
        (but("rule", decoupled=True, weight_decay=21.0), r"learning_rate \* rule.weight_decay must be at most 0.2"),
        (but("at", seed=-1), "seed"),
        (but("at", epoch=2**32), "epoch"),
        (but("at", batch_size=0), "at.batch_size must be .* got 0"),
        (but("at", steps=-1), "at.steps must be .* got -1"),
        (but("users", vectors=torch.zeros(USERS, 8).double()), r"users.vectors must be .* got torch.float64"),
        (but("items", vectors=torch.zeros(ITEMS, 9)), r"items.vectors must be .*\(100, 8\), got .*\(100, 9\)"),
        (but("items", vectors=torch.zeros(8, ITEMS).T), r"items.vectors must be contiguous .* strides \(1, 100\)"),
        (but("users", biases=torch.zeros(USERS)), r"users.biases must be .* got .*\(40,\)"),
        (but("users", vector_states=()), "users.vector_states must be .* got 0 tensors"),
        (but("items", bias_states=(torch.zeros(ITEMS, 1),)), "items.bias_states must be .* got 1 tensors"),
        (but("items", bias_states=2 * (torch.zeros(ITEMS, 2),)), r"items.bias_states must be .* got .*\(100, 2\)"),
        (but("interactions", ratings=torch.zeros(64)), "loss 'bpr' needs sampling and no ratings"),
        (lambda case: replace(case, sampling=None), "loss 'bpr' needs sampling and no ratings"),
        (lambda case: replace(case, loss="poisson"), "loss 'poisson' needs ratings and no sampling"),
        (but("sampling", num_items=101), "sampling.num_items must be at most 100, as items, got 101"),
        (but("sampling", slots=2), "sampling.slots must be 1 for loss 'bpr', got 2"),
        (but("sampling", sampler="seen"), "sampling.sampler must be one of .* got 'seen'"),
        (but("sampling", first=-1), "sampling.first must be .* got -1"),
        (but("sampling", first=ITEMS), "sampling.num_items must be an integer of at least 101, got 100"),
        (but("sampling", positives=None), "sampling.positives must be of 100 items for sampler 'unseen', got None"),
        (but("sampling", positives=replace(POSITIVES, num_items=99)), "of 100 items .* got those of 99"),
        (but("sampling", positives=replace(POSITIVES, indptr=torch.arange(USERS - 1))), "up to 39, got 38 rows"),
        (but("sampling", positives=POSITIVES.to("meta")), "sampling.positives.indptr must be on cpu, .* got meta"),
        (but("sampling", positives=FULL), "every one of the 100 items is a positive of user [0-9]+: nothing is left"),
        (but("sampling", sampler="popularity"), r"sampling.thresholds must be of shape \(99,\), .* got None"),
        (but("interactions", pairs=PAIRS.long()), "interactions.pairs must be int32 .* got torch.int64"),
        (but("interactions", pairs=PAIRS[:0]), r"interactions.pairs must be .* n >= 1, got .*\(0, 2\)"),
        (but("interactions", pairs=PAIRS.T.contiguous().T), "interactions.pairs must be contiguous"),
        (but("interactions", weights=torch.ones(63)), r"interactions.weights must be .*\(64,\), got .*\(63,\)"),
        (but("interactions", weights=torch.ones(64).double()), "interactions.weights must be .* got torch.float64"),
        (but("interactions", weights=torch.ones(128)[::2]), r"interactions.weights must be .* strides \(2,\)"),
        (but("interactions", pairs=PAIRS - 1), r"pairs\[:, 0\] must be in \[0, 40\), .* got -1 .. -1"),
        (but("interactions", pairs=PAIRS + 40), r"pairs\[:, 0\] must be in \[0, 40\), .* got 40 .. 40"),
        (
            but("interactions", pairs=PAIRS + torch.tensor([0, 100], dtype=torch.int32)),
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
