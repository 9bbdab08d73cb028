"""An epoch in Triton against the reference, step by step: every loss, every rule, batches of any size."""

from __future__ import annotations

import copy
from dataclasses import replace

import factorization_problems as cpu
import pytest
import torch
from kernel_epochs import assert_agree, parts, problem, small_epoch

from spotfast.kernels import epoch_updates
from spotfast.ops.factorization_epoch import LOSSES
from spotfast.ops.tables import EpochRange

pytestmark = [pytest.mark.interpreter, pytest.mark.usefixtures("poisoned_memory")]

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
                for tensor, close in zip(parts(own, name, part), parts(expected, name, part), strict=True):
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
