"""An epoch in Triton that ends in an error, that has too little memory, or that is given bad input."""

from __future__ import annotations

import copy

import factorization_problems as cpu
import pytest
import torch
from kernel_epochs import failing, parts, problem, small_epoch

from spotfast.device_memory import DeviceMemoryError
from spotfast.kernels import factorization_epoch, factorization_step
from spotfast.kernels.epoch_entries import BatchRuns, Chunk

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_memory")]


@pytest.mark.usefixtures("large_blocks")
class TestErrors:
    """In the middle of an epoch: all rows are up to date with the steps that are reported, and these are counted."""

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
        failing(monkeypatch, Chunk, "fill", 2)
        assert self.reported(case, torch.cuda.OutOfMemoryError) == 15
        cpu.assert_same_bits(case, expected)

    @pytest.mark.parametrize("rule", ["adam", "sgd"])
    def test_between_two_reports(self, monkeypatch, rule):
        case, expected = small_epoch(rule), small_epoch(rule)
        with monkeypatch.context() as patch:
            patch.setattr(factorization_epoch, "GROUP", 2)
            expected.train("triton", report=lambda positions: positions < 10)
        failing(monkeypatch, factorization_step.Step, "launch", 4)  # of which the first is the rehearsal
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
        failing(monkeypatch, factorization_step, "launch", launches - 1 + 2 * 3 + 3)  # of items, in the third step
        assert self.reported(case, torch.cuda.OutOfMemoryError) == 15
        for name in ("vectors", "biases", "vector_states", "bias_states"):
            for own, done in zip(parts(case, "users", name), parts(after, "users", name), strict=True):
                assert torch.equal(own, done)
        undone = parts(before, "items", "vector_states")[0] * case.rule.betas[0]  # as without a gradient
        torch.testing.assert_close(parts(case, "items", "vector_states")[0], undone, rtol=1e-6, atol=1e-19)


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
