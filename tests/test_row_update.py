"""Adam on the rows that are touched: C++ against the reference, repeated ids, threads, memory that moves."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from spotfast.ops.row_update import DeferredRows

BETAS, EPS = (0.9, 0.999), 1e-8
BACKENDS = ["native", "reference"]


def table(rows, dim, dtype=torch.float32):
    weight = torch.randn(rows, dim, generator=torch.Generator().manual_seed(0)).to(dtype)
    return weight, torch.zeros_like(weight), torch.zeros_like(weight)


def steps(rows, dim, count, entries, seed=1):
    """Ids of uneven popularity, that repeat, and gradients."""
    rng = np.random.RandomState(seed)
    for _ in range(count):
        ids = torch.from_numpy((rows * rng.rand(entries) ** 3).astype(np.int64))
        yield ids, torch.from_numpy(rng.randn(entries, dim) * 0.1)


def train(deferred, tensors, count, entries, seed=1):
    rows, dim = tensors[0].shape
    for step, (ids, gradient) in enumerate(steps(rows, dim, count, entries, seed)):
        deferred.catch_up(tensors, ids)
        deferred.update(tensors, ids, gradient.to(tensors[0].dtype), 1e-2 / (1 + step % 7))


@pytest.mark.exhaustive
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("start", "weight_decay"), [(0, 0.0), (490, 0.0), (0, 1e-2)])
@pytest.mark.parametrize("dim", [1, 3, 8, 9, 31, 32, 33, 128, 129, 255, 256, 257, 511, 512])
def test_cpp_is_as_near_to_the_truth_as_the_reference(dim, start, weight_decay):
    """Float32 in C++ and in PyTorch, against PyTorch in float64: early steps, later ones, steps with a penalty."""
    results = []
    for backend, dtype in (("native", torch.float32), ("reference", torch.float32), ("reference", torch.float64)):
        tensors = table(50, dim, dtype)
        deferred = DeferredRows(tensors[0], BETAS, EPS, weight_decay, start, backend=backend)
        train(deferred, tensors, 50, 4)
        deferred.flush(tensors)
        results.append(tensors)
    for name, ours, reference, truth in zip(("weight", "exp_avg", "exp_avg_sq"), *results, strict=True):
        size = truth.abs().max()
        error, allowed = ((x - truth).abs().max() / size for x in (ours, reference))
        assert error <= 4 * allowed + 1e-6, name


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("weight_decay", "size", "betas", "eps"),
    [
        (1e-6, 1e-2, BETAS, EPS), (1e-6, 1e-4, BETAS, EPS), (1e-6, 1e-6, BETAS, EPS), (1e-9, 1e-6, BETAS, EPS),
        (1e-4, 1e-2, BETAS, EPS), (1e-4, 1e-6, BETAS, EPS), (1e-2, 1e-2, BETAS, EPS), (1e-2, 1e-6, BETAS, EPS),
        (1e-4, 1e-3, (0.8, 0.997), EPS), (1e-4, 1e-3, (0.9, 0.9999), EPS), (3e-6, 1e-3, (0.0, 0.999), EPS),
        (1e-6, 1e-2, BETAS, 1e-3), (1e-6, 1e-4, BETAS, 1e-4),
    ],
)  # fmt: skip
def test_a_penalty_is_as_near_to_the_truth_as_dense_adam(weight_decay, size, betas, eps):
    """Steps that share a root in C++, and weights that have died, against dense Adam in float64; most rows are touched
    seldom or never, by gradients that let `sqrt(v)` be large and small beside `eps` and the penalty. Some columns have
    no gradient and start at zero, as biases of users do."""
    rows, dim, steps, rng = 60, 37, 1500, np.random.RandomState(0)  # numbers side by side, and others one by one
    weight, *moments = table(rows, dim)
    weight[:, 1] = 0.0
    results, optimizers = [], []
    for dtype in (torch.float64, torch.float32):
        results.append(weight.to(dtype, copy=True).requires_grad_())
        optimizers.append(torch.optim.Adam(results[-1:], betas=betas, eps=eps, weight_decay=weight_decay))
    deferred = DeferredRows(weight, betas, eps, weight_decay, backend="native")
    for step in range(steps):
        ids = torch.from_numpy((rows * rng.rand(2) ** 4).astype(np.int64))
        gradient = torch.from_numpy(rng.randn(2, dim) * size).float()
        gradient[:, 1] = 0.0
        rate = 1e-2 * (0.6 + 0.4 * np.cos(np.pi * step / steps)) if step % 24 else 0.0
        for tensor, optimizer in zip(results, optimizers, strict=True):
            tensor.grad = torch.zeros_like(tensor).index_add_(0, ids, gradient.to(tensor.dtype))
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
        deferred.catch_up((weight, *moments), ids)
        deferred.update((weight, *moments), ids, gradient, rate)
    deferred.flush((weight, *moments))
    assert (weight[:, 1] == 0).all()
    states = (optimizer.state[tensor] for tensor, optimizer in zip(results, optimizers, strict=True))
    truth, single = (
        (tensor.detach(), *list(state.values())[1:]) for tensor, state in zip(results, states, strict=True)
    )
    for name, ours, exact, dense in zip(
        ("weight", "exp_avg", "exp_avg_sq"), (weight, *moments), truth, single, strict=True
    ):
        error, allowed = ((tensor - exact).abs().max() for tensor in (ours, dense))
        assert error <= 1.5 * allowed + 5e-7 * exact.abs().max(), name  # some roundings


def test_a_gradient_that_overflows_holds_its_row():
    """Divided by an infinite root, nothing moves; the penalty's steps, together or not, do not make a NaN of that."""
    tensors = table(2, 9)
    before = tensors[0].clone()
    deferred = DeferredRows(tensors[0], BETAS, EPS, 1e-4, 500, backend="native")
    deferred.update(tensors, torch.tensor([0]), torch.full((1, 9), 1e21), 1e-2)
    for _ in range(40):
        deferred.update(tensors, torch.zeros(0, dtype=torch.int64), torch.zeros(0, 9), 1e-2)
    deferred.flush(tensors)
    assert torch.equal(tensors[0][0], before[0])
    assert torch.isfinite(tensors[0][1]).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_a_row_are_summed_in_their_order(backend):
    """1e8 + 1 - 1e8 is 0 in float32, in any other order it is 1 (or 1e8 - 1e8 + 1)."""
    tensors = table(3, 2)
    expected = tuple(tensor.clone() for tensor in tensors)
    gradient = torch.tensor([[1e8, 2.0], [3.0, 3.0], [1.0, 1.0], [-1e8, -3.0]])
    DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend).update(
        tensors, torch.tensor([2, 0, 2, 2]), gradient, 0.1
    )
    summed = torch.tensor([[0.0, 0.0], [3.0, 3.0]])
    DeferredRows(expected[0], BETAS, EPS, 0.0, backend=backend).update(expected, torch.tensor([2, 0]), summed, 0.1)
    for ours, other in zip(tensors, expected, strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("dim", [1, 5, 32])
def test_the_same_bits_for_any_number_of_threads(set_threads, dim):
    results = []
    for threads in (1, 2, 3, 8):
        set_threads(threads)
        tensors = table(3000, dim)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="native")
        train(deferred, tensors, 6, 20_000)
        deferred.catch_up(tensors, torch.randint(0, 3000, (20_000,)))
        deferred.flush(tensors)
        results.append(tensors)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert torch.equal(one, two)


@pytest.mark.exhaustive
@pytest.mark.parametrize("backend", BACKENDS)
def test_catching_up_in_parts_is_the_same_within_rounding(backend):
    """Every lookup catches rows up, repeated ids once only; a flush does the rest."""
    results = []
    for looked_up in (torch.tensor([], dtype=torch.int64), torch.tensor([[5, 5], [1, 49]], dtype=torch.int32)):
        tensors = table(50, 3)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend)
        for seed in range(30):
            train(deferred, tensors, 20, 2, seed)
            deferred.catch_up(tensors, looked_up)
        deferred.flush(tensors)
        results.append(tensors[0])
    torch.testing.assert_close(*results, rtol=0, atol=2e-6)


@pytest.mark.parametrize("backend", BACKENDS)
def test_going_on_from_a_state(backend):
    """A new object over moments that are up to date goes on as the old one does."""
    tensors = table(50, 3)
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend)
    train(deferred, tensors, 30, 4)
    assert deferred.owing
    deferred.flush(tensors)
    assert not deferred.owing
    others = copy.deepcopy(tensors)
    other = DeferredRows(others[0], BETAS, EPS, 0.0, steps=30, backend=backend)
    for each, its in ((deferred, tensors), (other, others)):
        train(each, its, 30, 4, seed=2)
        each.flush(its)
    for ours, theirs in zip(tensors, others, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_never_touched_stay_as_they_are(backend):
    tensors = table(10, 3)
    start = tensors[0].clone()
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend)
    for _ in range(3):
        deferred.update(tensors, torch.tensor([4]), torch.ones(1, 3), 0.1)
        deferred.catch_up(tensors, torch.arange(10))
        deferred.flush(tensors)
    untouched = torch.arange(10) != 4
    assert torch.equal(tensors[0][untouched], start[untouched])
    assert tensors[1][untouched].abs().sum() == tensors[2][untouched].abs().sum() == 0


def test_memory_that_moves_is_followed():
    tensors = list(table(10, 3))
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend="native")
    deferred.update(tuple(tensors), torch.tensor([4]), torch.ones(1, 3), 0.1)
    moved = [tensor.clone() for tensor in tensors]
    left = tensors[0].clone()
    deferred.update(tuple(moved), torch.tensor([4]), torch.ones(1, 3), 0.1)
    assert torch.equal(tensors[0], left)
    assert not torch.equal(moved[0], left)
    with pytest.raises(ValueError, match="exp_avg must be contiguous float32 of 10 rows"):
        deferred.flush((moved[0], moved[1].double(), moved[2]))
    with pytest.raises(ValueError, match="weight must be contiguous float32 of 10 rows"):
        deferred.flush(tuple(tensor[:5].clone() for tensor in moved))


def test_saved_weights_are_known_to_have_changed():
    """As with any change in place, autograd must not compute a gradient from values that are gone."""
    weight, first, second = table(10, 3)
    weight.requires_grad_()
    deferred = DeferredRows(weight, BETAS, EPS, 0.0, backend="native")
    loss = weight.square().sum()
    deferred.update((weight, first, second), torch.tensor([4]), torch.ones(1, 3), 0.1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_no_row_owes_many_steps_of_a_penalty():
    """Second moments fade by a factor per step, beside which the penalty is nothing: they tell the steps taken."""
    weight, _, exp_avg_sq = tensors = table(3000, 1)
    deferred = DeferredRows(weight, BETAS, EPS, 1e-12, backend="native")
    deferred.update(tensors, torch.arange(3000), torch.ones(3000, 1), 1e-3)
    start, most_owed = exp_avg_sq.clone(), 0.0
    for step in range(1, 1100):
        deferred.update(tensors, torch.tensor([7]), torch.zeros(1, 1), 1e-3)
        taken = (exp_avg_sq / start).log() / math.log(BETAS[1])
        most_owed = max(most_owed, (step - taken).max().item())
    assert 500 < most_owed < 512 + 16


def test_an_interrupted_flush_is_a_whole_one():
    """C++ does not stop in the middle; Python raises when it has returned, before it takes note."""

    class Interrupted:
        def __init__(self, rows):
            self._rows = rows

        def flush(self, *arguments):
            self._rows.flush(*arguments)
            raise KeyboardInterrupt

    results = []
    for interrupted in (False, True):
        tensors = table(50, 3)
        deferred = DeferredRows(tensors[0], BETAS, EPS, 1e-2, backend="native")
        train(deferred, tensors, 30, 4)
        if interrupted:
            version, rows = tensors[0]._version, deferred._engine._rows
            deferred._engine._rows = Interrupted(rows)
            with pytest.raises(KeyboardInterrupt):
                deferred.flush(tensors)
            assert tensors[0]._version > version
            deferred._engine._rows = rows
        deferred.flush(tensors)
        train(deferred, tensors, 30, 4, seed=2)
        deferred.flush(tensors)
        results.append(tensors)
    for ours, other in zip(*results, strict=True):
        assert torch.equal(ours, other)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ids", [[-1], [3, 10]])
def test_ids_out_of_range(backend, ids):
    tensors = table(10, 3)
    start = tensors[0].clone()
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0, backend=backend)
    with pytest.raises(IndexError, match=r"ids must be in \[0, 10\)"):
        deferred.update(tensors, torch.tensor(ids), torch.ones(len(ids), 3), 0.1)
    assert torch.equal(tensors[0], start)
    deferred.update(tensors, torch.tensor([4]), torch.ones(1, 3), 0.1)
    with pytest.raises(IndexError, match=r"ids must be in \[0, 10\)"):
        deferred.catch_up(tensors, torch.tensor(ids))


def test_bad_input():
    tensors = table(10, 3)
    deferred = DeferredRows(tensors[0], BETAS, EPS, 0.0)
    with pytest.raises(ValueError, match=r"gradient must be of shape \(2, 3\)"):
        deferred.update(tensors, torch.tensor([1, 2]), torch.ones(2, 4), 0.1)
    with pytest.raises(ValueError, match="weight must be of shape"):
        DeferredRows(torch.zeros(3), BETAS, EPS, 0.0)
    with pytest.raises(RuntimeError, match="float64"):
        DeferredRows(tensors[0].double(), BETAS, EPS, 0.0, backend="native")
