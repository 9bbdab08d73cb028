"""An epoch of training by kernels on the device against the reference on the CPU."""

from __future__ import annotations

import pytest
import torch

from spotfast.ops.factorization_epoch import (
    LOSSES,
    TrainingInteractions,
    factorization_epoch,
)
from spotfast.ops.negative_sampling import NegativeSampling
from spotfast.ops.tables import EpochRange, Table, UpdateRule

GIB = 2**30
RULES = (
    *("adam", "adam with weight decay", "adamw", "sparse_adam"),
    *("sgd", "momentum", "adagrad", "rowwise_adagrad"),
)
SAMPLERS = ("uniform", "unseen", "popularity")
DIMS = (32, 1, 64, 33, 128, 3, 200, 512)
# Each loss with each rule; of the rest, something else each time. A rehearsal runs a third, in which each of them is.
CASES = [
    pytest.param(loss, rule, number, marks=[] if number % 3 == 2 else [pytest.mark.device_only])
    for number, (loss, rule) in enumerate((x, y) for x in LOSSES for y in RULES)
]


def agree(case, device):
    (own, loss), (plain, expected) = case.trained(device, "triton"), case.trained(torch.device("cpu"), "reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(own.measured, plain.measured, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.abs().max().item())


def same_bits(own, other):
    for ours, theirs in zip(own.tensors, other.tensors, strict=True):
        assert torch.equal(ours.view(torch.int16), theirs.view(torch.int16))


class TestOracle:
    @pytest.mark.parametrize(("loss", "rule", "number"), CASES, ids=str)
    def test_a_step_of_every_loss_and_rule(self, problem, device, samples, loss, rule, number):
        turn = number + number // len(RULES)  # or a rule would always have the same
        dim, sampler, steps = DIMS[turn % len(DIMS)], SAMPLERS[turn % 3], (0, 7, 600)[turn // 3 % 3]
        if rule == "adam with weight decay":
            steps = steps or 7  # the first step is g / |g|: all rounding, where the penalty cancels the gradient
        agree(
            problem(loss, rule, dim, samples, 256, steps, sampler=sampler, weighted=turn % 2 == 1, seed=number),
            device,
        )

    @pytest.mark.device_only
    @pytest.mark.parametrize("count", [1, 2, 33, 255, 257])
    def test_batches_of_every_size(self, problem, device, count):
        agree(problem(count=count, batch_size=count), device)

    @pytest.mark.device_only
    @pytest.mark.parametrize("rule", RULES)
    def test_popular_rows(self, problem, device, rule):
        """Rows with thousands of entries in a batch, which are summed in pieces."""
        agree(problem("bpr", rule, 64, 20_000, 20_000, 600, sizes=(300, 200), sampler="uniform"), device)

    @pytest.mark.device_only
    @pytest.mark.parametrize("rule", ["adam", "adamw", "sgd", "adagrad"])
    def test_an_epoch_by_graphs(self, problem, device, rule):
        """200 steps and a shorter one: most are replayed from a graph."""
        case = problem("pointwise", rule, 32, 200 * 64 + 5, 64, sizes=(2000, 1000))
        (own, loss), (plain, expected) = case.trained(device, "triton"), case.trained(torch.device("cpu"), "reference")
        assert loss == pytest.approx(expected, rel=1e-5)
        for name in ("users", "items"):
            ours, theirs = (getattr(each, name).vectors.double() for each in (own, plain))
            assert (ours - theirs).norm() / theirs.norm() < 1e-5


class TestBfloat16:
    def test_weights_are_rounded_to_neighbours(self, problem, device, samples):
        case = problem("bpr", "adam", 64, samples, 256, dtype=torch.bfloat16)
        exact = problem("bpr", "adam", 64, samples, 256)
        for name in ("users", "items"):
            wide = getattr(exact, name).vectors
            wide.copy_(getattr(case, name).vectors.float())
        (own, loss), (plain, expected) = case.trained(device, "triton"), exact.trained(torch.device("cpu"), "reference")
        assert loss == pytest.approx(expected, rel=1e-5)
        for name in ("users", "items"):
            ours, theirs = getattr(own, name).vectors, getattr(plain, name).vectors
            assert ours.dtype == torch.bfloat16
            # A neighbour is less than a unit in the last of 8 bits away.
            torch.testing.assert_close(ours.float(), theirs, rtol=2**-7, atol=1e-6)


class TestDeterminism:
    @pytest.mark.parametrize("rule", ["adam", "sgd", "rowwise_adagrad"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
    def test_the_same_bits_twice(self, problem, device, samples, rule, dtype):
        case = problem("bpr", rule, 64, samples, samples // 3, dtype=dtype)
        (first, loss), (second, again) = (case.trained(device, "triton") for _ in range(2))
        assert loss == again
        same_bits(first, second)

    @pytest.mark.device_only
    @pytest.mark.parametrize("rule", ["adam", "sgd"])
    def test_the_same_bits_twice_by_graphs(self, problem, device, rule):
        case = problem("adaptive_hinge", rule, 64, 300_000, 1024, sizes=(5000, 3000))
        (first, loss), (second, again) = (case.trained(device, "triton") for _ in range(2))
        assert loss == again
        same_bits(first, second)


@pytest.mark.device_only
@pytest.mark.parametrize("rule", [UpdateRule("sgd", 0.1), UpdateRule("adam", 1e-2)], ids=["sgd", "adam"])
def test_a_table_of_more_than_2_31_elements(device, rule):
    """The last users of a table of more than 2**31 numbers are trained as the users of a small one."""
    dim, few = 128, 1000
    rows = 2**31 // dim + few
    needed = 4 * rows * dim * (1 + len(rule.states)) + 4 * GIB
    free = torch.cuda.mem_get_info(device)[0]
    if free < needed:
        pytest.skip(f"needs {needed / GIB:.0f} GiB of free memory, the device has {free / GIB:.0f}")
    generator = torch.Generator(device).manual_seed(0)

    def table(size):
        states = [tuple(torch.zeros(size, width, device=device) for _ in rule.states) for width in (dim, 1)]
        return Table(torch.zeros(size, dim, device=device), torch.zeros(size, 1, device=device), *states)

    def normal(size):
        return 0.1 * torch.randn(size, dim, generator=generator, device=device)

    start, starting_items = normal(few), normal(50)
    pairs = torch.stack([torch.arange(few, device=device), torch.arange(few, device=device) % 50], 1).int()
    ends = []
    for size in (few, rows):
        users, items = table(size), table(50)
        users.vectors[-few:], items.vectors[:] = start, starting_items
        offset = torch.tensor([size - few, 0], dtype=torch.int32, device=device)
        interactions = TrainingInteractions(pairs + offset)
        at = EpochRange(1, 0, 256, 0)
        factorization_epoch(users, items, interactions, NegativeSampling("uniform", 1, 50), "bpr", rule, at)
        ends.append((users.vectors[-few:].clone(), users.biases[-few:].clone(), items.vectors.clone()))
        assert not users.vectors[:-few].any()
        del users
    for small, large in zip(*ends, strict=True):
        assert torch.equal(small, large)
    assert not torch.equal(ends[0][0], start)
