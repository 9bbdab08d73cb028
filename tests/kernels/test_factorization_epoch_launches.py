"""An epoch in Triton is the same however it is cut, launched and stopped; what it reads and reports."""

from __future__ import annotations

import copy
from dataclasses import replace

import factorization_problems as cpu
import pytest
from device_reads import DeviceReads
from kernel_epochs import problem, small_epoch

from spotfast.kernels import factorization_epoch, factorization_step, schedule

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_memory")]


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
