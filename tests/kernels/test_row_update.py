"""Adam on the rows that are touched, in Triton: no further from the truth than the reference is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from spotfast import backends
from spotfast.kernels import runs as entry_runs
from spotfast.kernels.schedule import Schedule
from spotfast.ops.row_update import DeferredRows
from spotfast.optim import DeferredAdam

pytestmark = pytest.mark.interpreter

BETAS, EPS, UNSETTLED = (0.9, 0.999), 1e-8, (0.99, 0.98)
GUARD = 512


@pytest.fixture(autouse=True)
def poisoned(monkeypatch):
    """What kernels write is NaN, or nonsense, before they run; and so must be what is around it afterwards."""
    guards = []

    def empty(size, *, dtype=None, device=None):
        shape, dtype = torch.Size([size] if isinstance(size, int) else size), dtype or torch.float32
        poison = torch.nan if dtype.is_floating_point else -77
        buffer = torch.full((shape.numel() + 2 * GUARD,), poison, dtype=dtype, device=device)
        before, output, after = buffer.split([GUARD, shape.numel(), GUARD])
        guards.extend((before, after))
        return output.view(shape)

    monkeypatch.setattr(torch, "empty", empty)
    yield
    for guard in guards:
        assert (guard.isnan() if guard.is_floating_point() else guard == -77).all(), "written outside of the output"


def table(rows, dim, dtype=torch.float32):
    weight = torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    moments = torch.float32 if dtype == torch.bfloat16 else dtype
    return weight, torch.zeros(rows, dim, dtype=moments), torch.zeros(rows, dim, dtype=moments)


def batches(rows, dim, count, entries):
    """Ids of uneven popularity, that repeat, and gradients that are numbers of bfloat16."""
    generator = torch.Generator().manual_seed(entries + dim)
    for _ in range(count):
        ids = (rows * torch.rand(entries, generator=generator) ** 3).long()
        yield ids, (torch.randn(entries, dim, generator=generator) * 0.1).bfloat16().float()


def train(deferred, tensors, count, entries):
    for step, (ids, gradient) in enumerate(batches(*tensors[0].shape, count, entries)):
        deferred.catch_up(tensors, ids)
        deferred.update(tensors, ids, gradient.to(tensors[0].dtype), 1e-2 / (1 + step % 3))


@pytest.mark.parametrize(
    ("dim", "entries", "steps", "betas", "weight_decay"),
    [
        (1, 33, 0, BETAS, 0.0),
        (1, 2, 510, BETAS, 0.0),
        (3, 1, 0, BETAS, 1e-2),
        (3, 33, 600, BETAS, 0.0),
        (32, 2, 0, BETAS, 0.0),
        (32, 33, 600, BETAS, 1e-2),
        (33, 33, 0, UNSETTLED, 0.0),
        (33, 1, 510, BETAS, 0.0),
    ],
)
def test_as_near_to_the_truth_as_the_reference(dim, entries, steps, betas, weight_decay):
    results = []
    for backend, dtype in (("triton", torch.float32), ("reference", torch.float32), ("reference", torch.float64)):
        tensors = table(37, dim, dtype)
        deferred = DeferredRows(tensors[0], betas, EPS, weight_decay, steps, backend=backend)
        train(deferred, tensors, 4, entries)
        deferred.flush(tensors)
        results.append(tensors)
    for name, ours, reference, truth in zip(("weight", "exp_avg", "exp_avg_sq"), *results, strict=True):
        error, allowed = ((x - truth).abs().max() / truth.abs().max() for x in (ours, reference))
        assert error <= 4 * allowed + 1e-6, name


def test_one_row():
    tensors = table(1, 3)
    expected = copy.deepcopy(tensors)
    for each, backend in ((tensors, "triton"), (expected, "reference")):
        deferred = DeferredRows(each[0], BETAS, EPS, 0.0, backend=backend)
        train(deferred, each, 3, 2)
        deferred.flush(each)
    for ours, theirs in zip(tensors, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_gradients_of_a_row_are_summed_in_their_order():
    """1e8 + 1 - 1e8 is 0 in float32, in any other order it is 1 (or 1e8 - 1e8 + 1)."""
    tensors = table(3, 2)
    expected = copy.deepcopy(tensors)
    gradient = torch.tensor([[1e8, 2.0], [3.0, 3.0], [1.0, 1.0], [-1e8, -3.0]])
    for each, ids, values in (
        (tensors, [2, 0, 2, 2], gradient),
        (expected, [2, 0], torch.tensor([[0.0, 0.0], [3.0, 3.0]])),
    ):
        DeferredRows(each[0], BETAS, EPS, 0.0, backend="triton").update(each, torch.tensor(ids), values, 0.1)
    for ours, theirs in zip(tensors, expected, strict=True):
        assert torch.equal(ours, theirs)


class TestRuns:
    @pytest.mark.parametrize(
        "lengths", [[1], [32], [33], [1, 33, 2], [33, 33, 33, 1], [15, 64, 65, 31, 32, 100], [7, 300, 1]]
    )
    def test_sums(self, lengths):
        """Integers, whose sums are exact: each run's, from its pieces or its entries."""
        generator = torch.Generator().manual_seed(len(lengths))
        keys = torch.repeat_interleave(torch.arange(len(lengths)) * 5 - 3, torch.tensor(lengths))
        keys = keys[torch.randperm(len(keys), generator=generator)]
        gradients = torch.randint(-50, 50, (len(keys), 3), generator=generator).float()
        runs = entry_runs.of(keys)
        scratch = entry_runs.sum_pieces(gradients, runs)
        assert torch.equal(keys[runs.order.long()], keys.sort().values)
        assert runs.starts[: len(lengths) + 1].tolist() == [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        for run, length in enumerate(lengths):
            key = run * 5 - 3
            assert runs.keys[run] == key
            start = int(runs.starts[run])
            entries = runs.order[start : start + length].long()
            assert torch.equal(entries, entries.sort().values)
            if length > entry_runs.PIECE.value:
                begin = start // entry_runs.HALF.value
                total = scratch[begin : begin + -(-length // entry_runs.PIECE.value)].sum(dim=0)
                assert torch.equal(total, gradients[keys == key].sum(dim=0))

    def test_a_popular_row(self):
        """More entries than fit a piece, among others."""
        ids = torch.cat([torch.full((75,), 4), torch.arange(7), torch.full((40,), 2)])
        gradient = torch.randn(len(ids), 3, generator=torch.Generator().manual_seed(3))
        results = []
        for backend, dtype in (("triton", torch.float32), ("reference", torch.float64)):
            tensors = table(7, 3, dtype)
            deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend)
            deferred.update(tensors, ids, gradient.to(dtype), 0.1)
            results.append([tensor.double() for tensor in tensors])
        for ours, truth in zip(*results, strict=True):
            torch.testing.assert_close(ours, truth, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_in_each_run(dtype):
    results = []
    for _ in range(2):
        tensors = table(20, 33, dtype)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
        train(deferred, tensors, 2, 90)
        deferred.flush(tensors)
        results.append(tensors)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_repeated_ids_are_caught_up_once():
    """Any shape, any integers; rows that are not looked up wait for the flush."""
    results = []
    for looked_up in (torch.tensor([[5, 5, 2], [5, 2, 8]], dtype=torch.int32), torch.tensor([], dtype=torch.int64)):
        tensors = table(10, 3)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, steps=600, backend="triton")
        for each in tensors[1:]:
            each.fill_(1e-2)
        for _ in range(2):
            deferred.update(tensors, torch.tensor([0]), torch.ones(1, 3), 0.1)
        start = [tensor.clone() for tensor in tensors]
        deferred.catch_up(tensors, looked_up)
        moved = (tensors[0] != start[0]).any(dim=1)
        assert moved.nonzero().flatten().tolist() == looked_up.unique().tolist()
        deferred.flush(tensors)
        results.append(tensors)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_strided_ids_and_gradients():
    results = []
    ids = torch.tensor([3, 9, 1, 9, 3, 9])
    gradient = torch.randn(3, 6, generator=torch.Generator().manual_seed(1)).T
    for contiguous in (False, True):
        tensors = table(10, 3)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
        own = (ids[::2], gradient[::2])
        deferred.update(tensors, *((x.contiguous() for x in own) if contiguous else own), 0.1)
        results.append(tensors)
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_a_step_without_entries_is_one():
    results = []
    for backend in ("triton", "reference"):
        tensors = table(4, 3)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend)
        for ids in ([1, 2], [], [1]):
            deferred.catch_up(tensors, torch.tensor(ids, dtype=torch.int64))
            deferred.update(tensors, torch.tensor(ids, dtype=torch.int64), torch.ones(len(ids), 3), 0.1)
        deferred.flush(tensors)
        results.append(tensors)
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_rows_never_touched_stay_as_they_are():
    tensors = table(10, 3)
    start = tensors[0].clone()
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
    for _ in range(2):
        deferred.update(tensors, torch.tensor([4]), torch.ones(1, 3), 0.1)
        deferred.catch_up(tensors, torch.arange(10))
        deferred.flush(tensors)
    untouched = torch.arange(10) != 4
    assert torch.equal(tensors[0][untouched], start[untouched])
    assert tensors[1][untouched].abs().sum() == tensors[2][untouched].abs().sum() == 0


def test_all_rows_are_caught_up_when_no_more_steps_can_be_owed(monkeypatch):
    results = []
    for most in (100, 2):
        monkeypatch.setattr(Schedule, "room", lambda schedule, most=most: most - schedule.taken)
        tensors = table(10, 3)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
        train(deferred, tensors, 6, 3)
        assert deferred._engine._schedule.taken == (6 if most > 6 else 2)
        deferred.flush(tensors)
        results.append(tensors)
    for one, two in zip(*results, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


class TestBfloat16:
    def test_arithmetic_is_float32(self):
        """Moments are those of a table of float32, which start at weights that bfloat16 holds."""
        results = []
        for dtype in (torch.bfloat16, torch.float32):
            tensors = (table(9, 3, torch.bfloat16)[0].to(dtype), *table(9, 3)[1:])
            deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
            train(deferred, tensors, 4, 5)
            deferred.flush(tensors)
            results.append(tensors)
        for ours, theirs in zip(results[0][1:], results[1][1:], strict=True):
            assert torch.equal(ours, theirs)
        torch.testing.assert_close(results[0][0].float(), results[1][0], rtol=0.03, atol=0.01)

    def test_tables_are_rounded_by_different_draws(self, monkeypatch):
        """Two tables of the same rows and gradients, in one optimizer: their errors are not the same."""
        monkeypatch.setitem(backends.OPERATIONS, "row_update", {"cpu": ("triton",)})
        net = nn.ModuleList(
            nn.Embedding(4, 32, sparse=True, _weight=torch.full((4, 32), 1.25, dtype=torch.bfloat16)) for _ in range(2)
        )
        optimizer = DeferredAdam(net, lr=2.0**-9)
        sum(layer(torch.arange(4)).sum() for layer in net).backward()
        optimizer.step()
        one, other = (layer.weight for layer in net)
        assert 0.2 < (one != other).float().mean() < 0.6  # a quarter is rounded down, of each: 3 in 8 differ

    def test_small_steps_are_not_lost(self):
        """Each is a sixteenth of what is between two numbers: to the nearest, weights would never move."""
        rows, steps, lr = 64, 4, 2.0**-11
        weight = torch.full((rows, 32), 1.25, dtype=torch.bfloat16)
        tensors = (weight, torch.zeros(rows, 32), torch.zeros(rows, 32))
        deferred = DeferredRows(weight, BETAS, EPS, 0.0, backend="triton")
        for _ in range(steps):
            deferred.update(tensors, torch.arange(rows), torch.ones(rows, 32, dtype=torch.bfloat16), lr)
        moved = (1.25 - weight.float()) / (steps * lr)  # Adam's steps are of size lr for a constant gradient
        assert abs(moved.mean() - 1) < 4 * moved.std() / (rows * 32) ** 0.5
        assert moved.std() > 1

    def test_moments_of_bfloat16_are_refused(self):
        tensors = tuple(tensor.bfloat16() for tensor in table(9, 3))
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
        with pytest.raises(ValueError, match=r"exp_avg must be contiguous float32 of 9 rows .* it is .*bfloat"):
            train(deferred, tensors, 1, 5)

    @pytest.mark.parametrize("steps", [5, 520])
    def test_an_optimizer_keeps_moments_of_float32(self, monkeypatch, steps):
        """Those of a twin of float32, to the bit, as both have the same gradients; also after saving and loading."""
        monkeypatch.setitem(backends.OPERATIONS, "row_update", {"cpu": ("triton",)})
        layers = [nn.Embedding(9, 3, sparse=True, dtype=dtype) for dtype in (torch.bfloat16, torch.float32)]
        optimizers = [DeferredAdam(layer, lr=0.05) for layer in layers]
        if steps > 512:
            for optimizer, layer in zip(optimizers, layers, strict=True):
                optimizer._state_of(layer.weight)["step"] += 512
        for ids, gradient in batches(9, 3, 4, 5):
            for layer, optimizer in zip(layers, optimizers, strict=True):
                layer.weight.grad = torch.sparse_coo_tensor(
                    ids.unsqueeze(0), gradient.to(layer.weight.dtype), (9, 3), check_invariants=False
                )
                layer(ids)
                optimizer.step()
        states = [optimizer.state_dict()["state"][0] for optimizer in optimizers]
        optimizers[0].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
        states.append(optimizers[0].state_dict()["state"][0])
        for name in ("exp_avg", "exp_avg_sq"):
            assert {state[name].dtype for state in states} == {torch.float32}
            assert torch.equal(states[0][name], states[1][name])
            assert torch.equal(states[0][name], states[2][name])


@pytest.mark.parametrize("ids", [[-1, 4], [4, 10]])
def test_ids_out_of_range(ids):
    """They are left out; the next flush tells."""
    tensors, expected = table(10, 3), table(10, 3)
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
    other = DeferredRows(expected[0], BETAS, EPS, 0.0, backend="triton")
    deferred.update(tensors, torch.tensor(ids), torch.ones(2, 3), 0.1)
    other.update(expected, torch.tensor([4]), torch.ones(1, 3), 0.1)
    with pytest.raises(IndexError, match=rf"ids must be in \[0, 10\), got {min(ids) if -1 in ids else 10}"):
        deferred.flush(tensors)
    deferred.flush(tensors)
    for ours, theirs in zip(tensors, expected, strict=True):
        assert torch.equal(ours, theirs)
    deferred.update(tensors, torch.tensor([4]), torch.ones(1, 3), 0.1)
    deferred.catch_up(tensors, torch.tensor(ids))
    with pytest.raises(IndexError, match=r"ids must be in \[0, 10\)"):
        deferred.flush(tensors)


def test_bad_input():
    tensors = table(10, 3)
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="triton")
    deferred.update(tensors, torch.tensor([4]), torch.ones(1, 3), 0.1)
    for name, bad in (
        ("exp_avg", (tensors[0], tensors[1].double(), tensors[2])),
        ("exp_avg_sq", (*tensors[:2], tensors[2].T.contiguous().T)),
        ("weight", tuple(tensor[:5].clone() for tensor in tensors)),
        ("exp_avg", (tensors[0], tensors[1][:, :2].contiguous(), tensors[2])),
    ):
        with pytest.raises(ValueError, match=rf"{name} must be contiguous float32( or bfloat16)? of 10 rows"):
            deferred.flush(bad)
    for unfit, reason in ((torch.zeros(3, 2).double(), "float64"), (torch.zeros(2, 513), "1 to 512 columns")):
        with pytest.raises(RuntimeError, match=reason):
            DeferredRows(unfit, BETAS, EPS, 0.0, backend="triton")


def test_saved_weights_are_known_to_have_changed():
    weight, first, second = table(10, 3)
    weight.requires_grad_()
    deferred = DeferredRows(weight, BETAS, EPS, 0.0, backend="triton")
    loss = weight.square().sum()
    deferred.update((weight, first, second), torch.tensor([4]), torch.ones(1, 3), 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_deferred_adam(monkeypatch):
    """The optimizer as it is, against torch's dense one."""
    monkeypatch.setitem(backends.OPERATIONS, "row_update", {"cpu": ("triton",)})
    torch.manual_seed(0)
    ours = nn.Embedding(12, 3, sparse=True)
    dense = nn.Embedding(12, 3, _weight=ours.weight.detach().clone())
    optimizers = [DeferredAdam(ours, lr=0.05), torch.optim.Adam(dense.parameters(), lr=0.05)]
    for _ in range(6):
        ids = torch.randint(0, 12, (4,))
        for layer, optimizer in zip((ours, dense), optimizers, strict=True):
            optimizer.zero_grad()
            (layer(ids).square().sum() + layer(ids).sum()).backward()
            optimizer.step()
    optimizers[0].flush()
    torch.testing.assert_close(ours.weight, dense.weight, rtol=1e-5, atol=1e-6)
    state = optimizers[0].state_dict()["state"][0]
    torch.testing.assert_close(state["exp_avg"], optimizers[1].state_dict()["state"][0]["exp_avg"])
