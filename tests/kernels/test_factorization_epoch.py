"""An epoch in Triton against the reference, step by step: every loss, every rule, batches of any size."""

from __future__ import annotations

import copy
from dataclasses import replace

import factorization_problems as cpu
import numpy as np
import pytest
import torch
from device_reads import DeviceReads

from spotfast import backends
from spotfast.device_memory import DeviceMemoryError
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.kernels import epoch_updates, factorization_epoch, factorization_step, schedule
from spotfast.kernels.epoch_entries import BatchRuns, Chunk
from spotfast.ops.factorization_epoch import LOSSES
from spotfast.ops.tables import EpochRange

pytestmark = pytest.mark.interpreter


SIZES = (9, 14)


def problem(*arguments, sizes=SIZES, **settings):
    return cpu.problem(*arguments, sizes=sizes, **settings)


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """Memory that nothing was written to holds NaN, or numbers that are no index."""
    empty = torch.empty

    def poisoned(*arguments, **keywords):
        made = empty(*arguments, **keywords)
        return made.fill_(float("nan") if made.is_floating_point() else 2**30)

    monkeypatch.setattr(torch, "empty", poisoned)


@pytest.fixture
def large_blocks(monkeypatch):
    """One program for all rows that a kernel works on here: the interpreter takes as long for any number of rows."""
    for name in ("SCORED", "UPDATED", "SETTLED"):
        monkeypatch.setattr(factorization_step, name, 64 * 64)


def assert_agree(case):
    (own, loss), (plain, expected) = case.trained("triton"), case.trained("reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    cpu.assert_within_rounding(own, plain)


OTHERS = {
    "dim": (1, 3, 32, 33),
    "batch_size": (1, 2, 33),
    "last_batch": ("whole", "one row", "beyond the end"),
    "ids": ("same", "distinct", "zipf"),
    "sampler": ("uniform", "unseen", "popularity"),
    "slots": (1, 3),
    "weighted": (False, True),
    "steps": (0, 600),
}
# Of the rules whose rows owe nothing, scores are the same.
OWING = ("adam", "adam with weight decay", "adamw", "momentum", "sgd")
CASES = [
    *cpu.covering_array({"rule": OWING, "loss": LOSSES, **OTHERS}),
    *cpu.covering_array({"rule": ("sparse_adam", "adagrad", "rowwise_adagrad"), "loss": ("adaptive_hinge",), **OTHERS}),
]


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_pairs_of_settings(case):
    """A step or two, from the state of the reference."""
    settings = {**case, "epoch": 3}
    batch_size, last_batch = case["batch_size"], settings.pop("last_batch")
    count = {"one row": batch_size + 1, "whole": batch_size, "beyond the end": max(1, batch_size - 1)}
    assert_agree(problem(**settings, count=count[last_batch]))


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_a_row_with_many_entries_is_summed_in_pieces(loss):
    """Of blocks as they are on a GPU: several programs per kernel, and rows with more than a piece of entries."""
    assert_agree(problem(loss, "adam", dim=33, count=70, batch_size=70, slots=2, weighted=True, steps=600))


@pytest.mark.usefixtures("large_blocks")
def test_kinks_are_torchs():
    """A hinge that is exactly zero has a gradient; of equal negatives, the first one has it."""
    for loss in ("hinge", "adaptive_hinge"):
        case = problem(loss, "sgd", dim=2, slots=6, count=30, batch_size=30, sizes=(4, 9), sampler="uniform")
        for table in (case.users, case.items):
            table.vectors.copy_(torch.arange(table.vectors.numel()).view_as(table.vectors) % 2)
            table.biases.zero_()
        assert_agree(case)


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_nothing_hides_a_nan(loss):
    case = problem(loss, slots=6, count=30, batch_size=30, sampler="uniform")
    case.items.vectors[5] = float("nan")
    own, plain = case.trained("triton")[0], case.trained("reference")[0]
    assert torch.isnan(plain.users.vectors).any()
    for tensor, other in zip(own.tensors, plain.tensors, strict=True):
        assert torch.equal(tensor.isnan(), other.isnan())


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("rule", ["adam", "momentum"])
def test_a_free_running_epoch(rule):
    """Rows owe up to 12 steps, from before the 512th step on, and those that are never read owe all."""
    case = problem("bpr", rule, dim=3, count=24, batch_size=2, sizes=(40, 30), steps=508)
    own, mean = case.trained("triton")
    exact, expected = cpu.in_double(case)
    assert mean == pytest.approx(expected, rel=1e-5)
    assert cpu.distance(exact, case) > 1e-3
    assert cpu.distance(own, exact) < 1e-5


def small_epoch(rule="adam"):
    """Five batches, the last of one row, after which rows owe steps."""
    return problem("bpr", rule, dim=3, count=21, batch_size=5, steps=600, sizes=(30, 25))


@pytest.mark.usefixtures("large_blocks")
class TestDeterminism:
    """The same bits, however the epoch is cut and launched."""

    def assert_same(self, case, monkeypatch=None, **changes):
        expected, loss = case.trained("triton")
        for name, value in changes.items():
            monkeypatch.setattr(factorization_epoch, name, value)
        trained, other = case.trained("triton")
        cpu.assert_same_bits(trained, expected)
        assert loss == other

    def test_run_twice(self):
        self.assert_same(small_epoch())

    @pytest.mark.parametrize("most_entries", [1, 31])
    def test_in_chunks(self, monkeypatch, most_entries):
        """Of one and of three batches, with a report after at most two of them."""
        self.assert_same(small_epoch(), monkeypatch, MOST_ENTRIES=most_entries, GROUP=2)

    def test_graphs_replayed(self, monkeypatch):
        """A replay launches again what was captured, with the arguments of then: what differs is on the device."""
        launch, replays = factorization_step.launch, []

        class Graph:
            def __init__(self, step):
                self.launches = []
                with monkeypatch.context() as patch:
                    for file in (factorization_step, schedule):
                        patch.setattr(
                            file, "launch", lambda *given, **constants: self.launches.append((given, constants))
                        )
                    for _ in range(factorization_epoch.GROUP):
                        step.launch()

            def replay(self):
                replays.append(self)
                for given, constants in self.launches:
                    launch(*given, **constants)

        def is_replayed(epoch, steps):
            return epoch.batches > 0 and steps == 2

        monkeypatch.setattr(factorization_epoch, "_captured", Graph)
        monkeypatch.setattr(factorization_epoch.Epoch, "_is_replayed", is_replayed)
        self.assert_same(small_epoch(), monkeypatch, MOST_ENTRIES=20, GROUP=2)
        assert len(replays) == 1
        assert len(replays[0].launches) == 2 * 4

    def test_rows_settled_in_between(self, monkeypatch):
        """As often as the schedule is full: to within rounding, as what is owed is paid in two parts."""
        case = small_epoch()
        expected, _ = case.trained("triton")
        monkeypatch.setattr(factorization_epoch, "GROUP", 2)
        monkeypatch.setattr(schedule.Schedule, "room", lambda self: 3 - self.taken)
        trained, _ = case.trained("triton")
        cpu.assert_within_rounding(trained, expected)


def test_a_settled_table_owes_nothing():
    case = small_epoch()
    draw = case.sampling.draw
    epoch = factorization_epoch._prepared(
        case.users,
        case.items,
        case.interactions,
        lambda start, stop, users: draw(cpu.SEED, 0, start, stop, users, backend="triton"),
        1,
        case.loss,
        case.rule,
        case.at,
    )
    epoch.run(lambda positions: True)
    step = epoch._step
    assert int(step.schedule.counter[0]) == epoch.batches == 5
    assert (step.items.last < 5).any()
    epoch.settle()
    assert int(step.schedule.counter[0]) == 0
    assert not step.users.last.any() and not step.items.last.any()
    settled = copy.deepcopy(case)
    epoch.settle()
    cpu.assert_same_bits(case, settled)


@pytest.mark.usefixtures("large_blocks")
@pytest.mark.parametrize("sampler", ["unseen", "popularity"])
def test_an_epoch_reads_nothing_but_its_loss(sampler, monkeypatch):
    """Not for its chunks, either, but before the first epoch of these interactions."""
    monkeypatch.setattr(factorization_epoch, "MOST_ENTRIES", 20)  # two batches
    case = problem("bpr", "adam", dim=3, count=21, batch_size=5, sampler=sampler)
    case.train("triton")
    with DeviceReads() as reads:
        assert replace(case, at=replace(case.at, epoch=1, steps=5)).train("triton").batches == 5
    assert reads.count == 1 + 1  # and a number of the schedule's head, which is made on the CPU


@pytest.mark.usefixtures("large_blocks")
class TestReport:
    @pytest.mark.parametrize("stop", [10, 20])
    def test_called_with_positions_until_it_says_stop(self, monkeypatch, stop):
        monkeypatch.setattr(factorization_epoch, "GROUP", 2)
        monkeypatch.setattr(factorization_epoch, "MOST_ENTRIES", 20)  # two batches
        case, reported = small_epoch(), []

        def report(positions):
            reported.append(positions)
            return positions < stop

        result = case.train("triton", report=report)
        assert reported == list(range(10, stop + 1, 10))
        assert result.batches == stop // 5
        expected = small_epoch()
        assert expected.train("reference", report=lambda positions: positions < stop).loss == pytest.approx(result.loss)
        cpu.assert_within_rounding(case, expected)

    def test_what_it_raises_arrives_when_all_rows_are_up_to_date(self, monkeypatch):
        monkeypatch.setattr(factorization_epoch, "GROUP", 2)
        case, expected = small_epoch(), small_epoch()

        def report(positions):
            raise KeyboardInterrupt("on purpose")

        with pytest.raises(KeyboardInterrupt, match="on purpose"):
            case.train("triton", report=report)
        expected.train("reference", report=lambda positions: positions < 10)
        cpu.assert_within_rounding(case, expected)


@pytest.mark.usefixtures("large_blocks")
class TestBfloat16:
    @staticmethod
    def cast(case):
        tables = (replace(table, vectors=table.vectors.bfloat16()) for table in (case.users, case.items))
        return replace(case, **dict(zip(("users", "items"), tables, strict=True)))

    @pytest.mark.parametrize(("loss", "rule"), [("bpr", "adam"), ("adaptive_hinge", "sgd")])
    def test_a_step_is_that_of_float32_but_for_the_rounding_of_stores(self, loss, rule):
        case = self.cast(problem(loss, rule, dim=33, count=33, batch_size=33, steps=600))
        exact = copy.deepcopy(case)
        for name in ("users", "items"):
            table = getattr(exact, name)
            exact = replace(exact, **{name: replace(table, vectors=table.vectors.float())})
        (own, loss), (expected, other) = case.trained("triton"), exact.trained("reference")
        assert loss == pytest.approx(other, rel=1e-5)
        errors = []
        for name in ("users", "items"):
            rounded, value = getattr(own, name).vectors.double(), getattr(expected, name).vectors.double()
            spacing = 2.0 ** (value.abs().log2().floor() - 7)
            errors.append(((rounded - value) / spacing).flatten())
            for part in ("biases", *(["vector_states", "bias_states"] if case.rule.states else [])):
                for tensor, close in zip(_tuple(own, name, part), _tuple(expected, name, part), strict=True):
                    torch.testing.assert_close(tensor, close, rtol=1e-5, atol=1e-7)
        errors = torch.cat(errors)
        assert errors.abs().max() < 1.01
        moved = errors[errors.abs() > 0.02]
        assert len(moved) > 300
        assert abs(moved.mean()) < 4 * moved.std() / len(moved) ** 0.5

    def test_run_twice(self):
        case = self.cast(small_epoch())
        (first, loss), (second, other) = case.trained("triton"), case.trained("triton")
        assert loss == other
        for tensor, twin in zip(first.tensors, second.tensors, strict=True):
            assert torch.equal(tensor, twin)
        assert not torch.equal(first.users.vectors, case.users.vectors)


@pytest.mark.usefixtures("large_blocks")
class TestErrors:
    """In the middle of an epoch: all rows are up to date with the steps that are reported, and these are counted."""

    @staticmethod
    def failing(monkeypatch, file, name, call):
        """From then on, call number `call` of a function finds no memory."""
        function, calls = getattr(file, name), []

        def failing(*arguments, **keywords):
            calls.append(arguments[0])
            if len(calls) == call:
                raise torch.cuda.OutOfMemoryError("on purpose")
            return function(*arguments, **keywords)

        monkeypatch.setattr(file, name, failing)

    @staticmethod
    def reported(case, error):
        """The number of positions that an epoch which ends in an error reports at last."""
        reported = []
        with pytest.raises(error, match="on purpose"):
            case.train("triton", report=lambda positions: reported.append(positions) or True)
        assert len(reported) == len(set(reported))
        return reported[-1]

    def test_between_two_chunks(self, monkeypatch):
        monkeypatch.setattr(factorization_epoch, "MOST_ENTRIES", 31)  # three batches
        case, expected = small_epoch(), small_epoch()
        assert expected.train("triton", report=lambda positions: positions < 15).batches == 3
        self.failing(monkeypatch, Chunk, "fill", 2)
        assert self.reported(case, torch.cuda.OutOfMemoryError) == 15
        cpu.assert_same_bits(case, expected)

    @pytest.mark.parametrize("rule", ["adam", "sgd"])
    def test_between_two_reports(self, monkeypatch, rule):
        case, expected = small_epoch(rule), small_epoch(rule)
        with monkeypatch.context() as patch:
            patch.setattr(factorization_epoch, "GROUP", 2)
            expected.train("triton", report=lambda positions: positions < 10)
        self.failing(monkeypatch, factorization_step.Step, "launch", 4)  # of which the first is the rehearsal
        assert self.reported(case, torch.cuda.OutOfMemoryError) == 10
        cpu.assert_same_bits(case, expected)

    def test_within_a_step(self, monkeypatch):
        """It counts: rows that it did not reach move as those without a gradient do."""
        case, before, after = small_epoch(), small_epoch(), small_epoch()
        with monkeypatch.context() as patch:
            patch.setattr(factorization_epoch, "GROUP", 1)
            before.train("triton", report=lambda positions: positions < 10)
            after.train("triton", report=lambda positions: positions < 15)
        launches = 4 + 2  # a rehearsal, of a step and of what settles two tables
        self.failing(monkeypatch, factorization_step, "launch", launches - 1 + 2 * 3 + 3)  # of items, in the third step
        assert self.reported(case, torch.cuda.OutOfMemoryError) == 15
        for name in ("vectors", "biases", "vector_states", "bias_states"):
            for own, done in zip(_tuple(case, "users", name), _tuple(after, "users", name), strict=True):
                assert torch.equal(own, done)
        undone = _tuple(before, "items", "vector_states")[0] * case.rule.betas[0]  # as without a gradient
        torch.testing.assert_close(_tuple(case, "items", "vector_states")[0], undone, rtol=1e-6, atol=1e-19)


def _tuple(case, name, part):
    value = getattr(getattr(case, name), part)
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.usefixtures("large_blocks")
class TestTooLittleMemory:
    @staticmethod
    def limit(monkeypatch, batches):
        """Room for as many batches at once, no more."""
        asked, empty = [], Chunk.empty

        def limited(count, batch_size, candidates, rated, device):
            if device.type != "meta":
                asked.append(count)
                if count > batches:
                    raise torch.cuda.OutOfMemoryError("on purpose")
            return empty(count, batch_size, candidates, rated, device)

        monkeypatch.setattr(Chunk, "empty", limited)
        return asked

    def test_smaller_chunks(self, monkeypatch):
        case = small_epoch()
        expected, _ = case.trained("triton")
        asked = self.limit(monkeypatch, 3)
        cpu.assert_same_bits(case.trained("triton")[0], expected)
        assert asked == [5, 2]

    @pytest.mark.parametrize(("rows", "key"), [(14, 4), (2**31 - 1, 8)])
    def test_what_sorting_takes_is_counted(self, monkeypatch, rows, key):
        """All that `find` allocates, and torch's own scratch for a sort: keys and order once more."""
        runs, allocated = BatchRuns.empty(33, 3, torch.device("cpu")), 0

        def counting(function):
            def counted(*arguments, **keywords):
                nonlocal allocated
                result = function(*arguments, **keywords)
                allocated += sum(tensor.nbytes for tensor in (result if isinstance(result, tuple) else (result,)))
                return result

            return counted

        for owner, name in ((torch, "empty"), (torch, "zeros"), (torch, "sort"), (torch.Tensor, "__ne__")):
            monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
        runs.find(torch.arange(33, dtype=torch.int32) % 14, 11, rows)
        counted = BatchRuns.sorting_bytes(33, 11, rows)
        assert counted == pytest.approx(allocated + 33 * (key + 8), abs=1)  # one comparison fewer than entries

    def test_not_even_for_a_batch(self, monkeypatch):
        case = small_epoch()
        before = copy.deepcopy(case)
        assert self.limit(monkeypatch, 0) == []
        with pytest.raises(DeviceMemoryError, match=r"a batch of 5 interactions .*, sorting it .*A smaller batch_size"):
            case.train("triton")
        cpu.assert_same_bits(case, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cpu.but("users", vectors=torch.zeros(9, 3).double()), "users.vectors must be .* float32 or bfloat16"),
        (cpu.but("users", biases=torch.zeros(9, 1).bfloat16()), "users.biases must be contiguous float32 of"),
        (cpu.but("items", biases=torch.zeros(14, 1, device="meta")), "items.biases must be on cpu, .* got meta"),
        (cpu.but("interactions", weights=torch.zeros(5, device="meta")), "interactions.weights must be on cpu"),
        (
            lambda case: problem("bpr", "sgd", dim=513, count=5, batch_size=5),
            "at most 512 columns",
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(change, message):
    case = change(problem(count=5, batch_size=5, dim=3))
    with pytest.raises(ValueError, match=message):
        case.train("triton")


class TestModels:
    """Trained by the kernels, as on a GPU: an engine recognises them and keeps the optimizer's state."""

    @pytest.fixture(autouse=True)
    def in_triton(self, monkeypatch, large_blocks):
        monkeypatch.setitem(backends.OPERATIONS["factorization_epoch"], "cpu", ("triton",))

    @staticmethod
    def interactions():
        rng = np.random.default_rng(1)
        ids = (rng.integers(0, size, 33).astype(np.int32) for size in SIZES)
        return Interactions(*ids, num_users=SIZES[0], num_items=SIZES[1])

    @classmethod
    def fitted(cls, times, epochs, **arguments):
        model = ImplicitFactorizationModel(
            n_iter=epochs, batch_size=16, embedding_dim=3, random_state=5, loss="bpr", **arguments
        )
        for _ in range(times):
            model.fit(cls.interactions())
        return model

    @pytest.mark.filterwarnings("error:training runs through autograd")
    def test_two_fits_are_one(self):
        once, twice = self.fitted(1, 2), self.fitted(2, 1)
        assert once.history == twice.history
        for parameter, other in zip(once._net.parameters(), twice._net.parameters(), strict=True):
            assert torch.equal(parameter, other)
        assert once._optimizer.state[once._net.item_biases.weight]["step"] == 6

    @pytest.mark.parametrize("sparse", [False, True])
    def test_steps_before_an_error_are_counted(self, monkeypatch, sparse):
        model = self.fitted(1, 1, sparse=sparse)
        interactions = self.interactions()
        with monkeypatch.context() as patch:
            TestErrors.failing(patch, factorization_step.Step, "launch", 4)
            with pytest.raises(DeviceMemoryError, match="on purpose"):
                model.fit(interactions)
        state = model._optimizer.state[model._net.item_biases.weight]
        assert (len(model.history), state["step"]) == (1, 3 + 2)
        model.fit(interactions)
        assert model._optimizer.state[model._net.item_biases.weight]["step"] == 5 + 3

    @pytest.mark.filterwarnings("error:training runs through autograd")
    @pytest.mark.parametrize("sparse", [False, True])
    def test_as_in_cpp(self, monkeypatch, sparse):
        model = self.fitted(1, 1, sparse=sparse)
        monkeypatch.setitem(backends.OPERATIONS["factorization_epoch"], "cpu", ("native",))
        twin = self.fitted(1, 1, sparse=sparse)
        np.testing.assert_allclose(model.history.losses, twin.history.losses, rtol=1e-5)
        for parameter, other in zip(model._net.parameters(), twin._net.parameters(), strict=True):
            torch.testing.assert_close(parameter, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [300, 512])
def test_widths_of_up_to_512_columns(dim):
    """Their programs have more warps, which is all the same to the interpreter, and blocks of one row."""
    assert epoch_updates.update_warps(512) == 4
    assert epoch_updates.sum_warps(512) == 8
    assert_agree(problem("bpr", "adam", dim=dim, count=3, batch_size=3, steps=600, sizes=(3, 4)))


def test_the_epoch_is_part_of_the_stream():
    """Another epoch, another order, and other negatives."""
    case = problem("bpr", "sgd", dim=3, count=5, batch_size=5)
    trained = [replace(case, at=EpochRange(cpu.SEED, epoch, 5, 0)).trained("triton")[1] for epoch in (0, 1)]
    assert trained[0] != trained[1]
