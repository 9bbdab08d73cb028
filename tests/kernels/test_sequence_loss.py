"""Sampled losses of sequences in Triton against the reference in float64: values, gradients, bits, memory."""

from __future__ import annotations

import pytest
import torch

from spotfast import PerformanceWarning, warnings
from spotfast.cuda.functions import KernelMissingError
from spotfast.ops import sequence_loss as ops
from spotfast.ops.sequence_loss import LOSSES, sequence_loss
from spotfast.optim import DeferredAdam
from spotfast.sequence.batch_loss import loss_from_scores, loss_in_one, tables_of
from spotfast.sequence.representations import CNNNet, LSTMNet, PoolNet

pytestmark = pytest.mark.interpreter

ITEMS = 11  # few: most rows occur several times in a batch
GUARD = 4096  # elements before and after every output
SIZES = [(1, 1), (2, 1), (2, 5), (33, 3)]
DIMS = [1, 3, 32, 33]


def inputs(loss, B=2, L=5, D=3, seed=0, dtype=torch.float32, items=ITEMS):
    """States and tables, and the other tensors, as sequence models hand them over: with strides."""
    generator = torch.Generator().manual_seed(seed)
    slots = 3 if loss == "adaptive_hinge" else 1

    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    states = normal(B, L + 1, D).transpose(1, 2)[..., :-1]
    positives = torch.randint(0, items, (B, L), generator=generator)
    negatives = torch.randint(0, items, (B, L, slots), generator=generator).permute(2, 0, 1)
    mask = torch.rand(B, L, generator=generator) < 0.7
    return (states, normal(items, D), normal(items, 1)), (positives, negatives, mask)


def computed(loss, floats, others, backend, sparse=False, upstream=1.5):
    """The loss and the gradients of states and tables."""
    leaves = [tensor.detach().requires_grad_() for tensor in floats]
    value = sequence_loss(*leaves, *others, loss, sparse=sparse, backend=backend)
    return value.detach(), *torch.autograd.grad(value, leaves, value.new_tensor(upstream))


@pytest.fixture(autouse=True)
def sizes(monkeypatch):
    """The sizes of all outputs.

    What a kernel does not write is not a number, or an id that does not exist; guards around outputs must not change.
    """
    buffers, sizes, empty = [], [], torch.empty

    def poisoned(shape, *, dtype, device):
        size = torch.Size(shape).numel()
        poison = float("nan") if dtype.is_floating_point else -(2**30)
        buffer = empty(size + 2 * GUARD, dtype=dtype, device=device).fill_(poison)
        buffers.append((buffer, buffer.clone(), size))
        sizes.append(size)
        return buffer[GUARD : GUARD + size].view(shape)

    monkeypatch.setattr(torch, "empty", poisoned)
    yield sizes
    monkeypatch.undo()
    for buffer, before, size in buffers:
        for guard in (slice(GUARD), slice(GUARD + size, None)):
            torch.testing.assert_close(buffer[guard], before[guard], rtol=0, atol=0, equal_nan=True)


def dense(tensor):
    return tensor.to_dense() if tensor.is_sparse else tensor


def assert_close_to_the_truth(loss, floats, others, sparse=False):
    """No further from float64 than twice as far as the reference in the same precision, and the last rounding.

    Losses are differences of numbers around 1, and gradients sums of such: their own size does not tell their rounding.
    """
    truth = computed(loss, [tensor.double() for tensor in floats], others, "reference", sparse)
    plain = computed(loss, floats, others, "reference", sparse)
    got = computed(loss, floats, others, "triton", sparse)
    for found, reference, true in zip(got, plain, map(dense, truth), strict=True):
        assert found.shape == true.shape
        assert found.dtype == reference.dtype
        assert found.is_sparse == reference.is_sparse
        error, usual = (dense(tensor).double().sub(true).abs().max() for tensor in (found, reference))
        rounding = torch.finfo(found.dtype).eps * true.abs().max() + 2 * torch.finfo(torch.float32).eps
        assert error <= 2 * usual + rounding
    return got


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dim", DIMS)
def test_like_the_reference(loss, size, dim):
    got = assert_close_to_the_truth(loss, *inputs(loss, *size, dim))
    assert all(tensor.isfinite().all() for tensor in got)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dim", [3, 64])
def test_bfloat16(loss, dim):
    floats, others = inputs(loss, 9, 4, dim, dtype=torch.bfloat16)
    got = assert_close_to_the_truth(loss, floats, others)
    assert [tensor.dtype for tensor in got] == [torch.float32] + [torch.bfloat16] * 3
    mixed = (floats[0].float(), *floats[1:])  # of states that a network computes in float32
    assert_close_to_the_truth(loss, mixed, others)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_sparse_gradients(loss, dtype):
    assert_close_to_the_truth(loss, *inputs(loss, 4, 3, 5, dtype=dtype), sparse=True)


@pytest.mark.parametrize("loss", ["pointwise", "adaptive_hinge"])
def test_layouts_and_types(loss):
    """Time or dimension contiguous, negatives slot by slot, narrow ids, weights in the mask: the same."""
    floats, (positives, negatives, mask) = inputs(loss, 3, 4, 5)
    expected = computed(loss, floats, (positives, negatives, mask), "triton")
    others = positives, negatives, mask
    for states in (floats[0].contiguous(), floats[0].transpose(0, 1).contiguous().transpose(0, 1)):
        for got in zip(computed(loss, (states, *floats[1:]), others, "triton"), expected, strict=True):
            assert torch.equal(*got)
    others = positives.T.contiguous().T.int(), negatives.contiguous().int(), mask.float()
    for got in zip(computed(loss, floats, others, "triton"), expected, strict=True):
        assert torch.equal(*got)
    assert_close_to_the_truth(loss, floats, (positives.int(), negatives, mask * torch.rand(mask.shape)))


def test_same_bits_every_time():
    floats, others = inputs("adaptive_hinge", 33, 3, 32, items=2)
    runs = [computed("adaptive_hinge", floats, others, "triton") for _ in range(2)]
    assert all(torch.equal(one, two) for one, two in zip(*runs, strict=True))


def test_all_ids_the_same():
    floats, (positives, negatives, mask) = inputs("hinge", 33, 3, 3)
    assert_close_to_the_truth("hinge", floats, (positives.fill_(4), negatives.fill_(4), mask))


@pytest.mark.parametrize("saturated", [0, 1])
def test_one_of_two_derivatives_is_zero(saturated):
    floats, (positives, negatives, mask) = inputs("pointwise")
    floats[2][saturated] = 200.0  # where a sigmoid is flat
    of_states, *_ = assert_close_to_the_truth("pointwise", floats, (positives.fill_(0), negatives.fill_(1), mask))[1:]
    assert of_states.count_nonzero() > 0


@pytest.mark.parametrize("loss", LOSSES)
def test_at_the_kink_and_among_equals(loss):
    """Whole numbers, so that many scores are equal and many margins zero: gradients are those of torch."""
    floats, others = inputs(loss, 33, 3, 3)
    floats = [tensor.round() for tensor in floats]
    values = [computed(loss, floats, others, backend, sparse=True) for backend in ("triton", "reference")]
    for found, expected in zip(*values, strict=True):
        torch.testing.assert_close(dense(found), dense(expected), rtol=1e-5, atol=1e-7)


def test_the_first_of_equal_negatives_is_chosen():
    floats, (positives, negatives, mask) = inputs("adaptive_hinge")
    negatives = torch.stack([torch.full_like(positives, item) for item in (3, 5, 3, 7)])
    tables = torch.zeros_like(floats[1]), torch.zeros_like(floats[2])
    _, _, _, of_biases = computed(
        "adaptive_hinge", (floats[0], *tables), (positives.fill_(1), negatives, mask), "triton"
    )
    assert of_biases.squeeze(1).nonzero().flatten().tolist() == [1, 3]


@pytest.mark.parametrize("loss", LOSSES)
def test_not_a_number_stays(loss):
    floats, (positives, negatives, mask) = inputs(loss)
    floats[1][4] = float("nan")
    negatives = negatives.clone().fill_(1)
    negatives[-1] = 4
    value = computed(loss, floats, (positives, negatives, torch.ones_like(mask)), "triton")[0]
    assert value.isnan()


@pytest.mark.parametrize("loss", LOSSES)
def test_what_is_masked_is_not_read(loss):
    floats, (positives, negatives, mask) = inputs(loss)
    floats[1][0] = floats[2][0] = float("nan")
    positives = torch.where(mask, positives.clamp(min=1), 0)
    negatives = torch.where(mask, negatives.clamp(min=1), 0)
    assert all(tensor.isfinite().all() for tensor in computed(loss, floats, (positives, negatives, mask), "triton"))
    for tensor in computed(loss, floats, (positives, negatives, torch.zeros_like(mask)), "triton"):
        assert tensor.count_nonzero() == 0


def test_no_tensor_of_all_negatives(sizes):
    floats, (positives, _, mask) = inputs("adaptive_hinge", 3, 4, 5)
    computed("adaptive_hinge", floats, (positives, torch.ones(50, 3, 4, dtype=torch.int64), mask), "triton")
    assert max(sizes) == 2 * 3 * 4 * 5


def test_partial_sums_of_many_programs(monkeypatch):
    """More programs than the last one adds at once."""
    from spotfast.kernels import sequence_loss as kernels

    monkeypatch.setattr(kernels, "LANES", 4)
    assert_close_to_the_truth("bpr", *inputs("bpr", 100, 2, 33))


@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
def test_registered_as_torch_asks(loss, monkeypatch):
    monkeypatch.undo()  # of the ops, torch makes outputs of its own
    floats, (positives, negatives, mask) = inputs(loss, 3, 4, 5)
    steps = floats[0].transpose(1, 2).requires_grad_()
    arguments = (steps, *(t.requires_grad_() for t in floats[1:]), positives, negatives, mask, loss, False, "triton")
    torch.library.opcheck(ops._sequence_loss, arguments)
    _, chosen, coefficients, total = ops._sequence_loss(*arguments)
    saved = (total, steps.detach(), floats[1].detach(), positives, chosen, coefficients)
    rows_dtype = torch.float32 if loss == "bpr" else torch.bfloat16
    torch.library.opcheck(ops._backward, (torch.ones(()), *saved, rows_dtype, "triton"))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_reference_takes_over_between_the_passes(loss, sparse, monkeypatch):
    """Gradients of what the kernels have computed, where only their backward pass cannot run."""
    from spotfast.kernels import sequence_loss as kernels

    floats, others = inputs(loss, 4, 5, 3)
    expected = computed(loss, floats, others, "triton", sparse)
    launch = kernels.launch

    def launch_all_but_one(kernel, *arguments, **constants):
        if kernel is kernels.sequence_gradient_kernel:
            raise KernelMissingError("the kernel sequence_gradient_kernel cannot run")
        launch(kernel, *arguments, **constants)

    monkeypatch.setattr(kernels, "launch", launch_all_but_one)
    monkeypatch.setattr(ops.backends, "choose", lambda operation, device, backend: "triton")
    monkeypatch.setattr(warnings, "_given", set())
    with pytest.warns(PerformanceWarning, match="sequence_loss runs on its reference.*sequence_gradient_kernel"):
        found = computed(loss, floats, others, "auto", sparse)
    assert torch.equal(found[0], expected[0])
    for one, two in zip(found[1:], expected[1:], strict=True):
        assert one.is_sparse == two.is_sparse
        torch.testing.assert_close(dense(one), dense(two))
    with pytest.raises(KernelMissingError, match="sequence_gradient_kernel"):
        computed(loss, floats, others, "triton", sparse)


def test_derived_once():
    floats, others = inputs("bpr")
    states = floats[0].detach().requires_grad_()
    value = sequence_loss(states, *floats[1:], *others, "bpr", backend="triton")
    (gradient,) = torch.autograd.grad(value, states, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        gradient.sum().backward()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("loss", ["bpr", "adaptive_hinge"])
@pytest.mark.parametrize("kind", [PoolNet, LSTMNet, CNNNet])
def test_trains_the_built_in_networks(kind, loss, sparse, monkeypatch):
    """With deferred Adam, whose rows must be up to date when they are read; for ids with a gap since they were seen."""
    monkeypatch.undo()  # networks and optimizers may leave parts of their own tensors unwritten
    torch.manual_seed(0)
    nets = [kind(40, 5, sparse=sparse) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers = [DeferredAdam(net, lr=0.05) for net in nets]
    slots = 3 if loss == "adaptive_hinge" else 1
    for step in range(6):
        sequences = torch.randint(1, 40, (2, 4))
        sequences[0, : step % 4] = 0
        negatives = torch.randint(1, 40, (2, 4, slots))
        expected = loss_from_scores(nets[0], loss, sequences, negatives)
        got = loss_in_one(nets[1], tables_of(nets[1]), loss, sequences, negatives, backend="triton")
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        for value, optimizer in zip((expected, got), optimizers, strict=True):
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    for optimizer in optimizers:
        optimizer.flush()
    for trained, plain in zip(nets[1].parameters(), nets[0].parameters(), strict=True):
        torch.testing.assert_close(trained, plain, rtol=1e-3, atol=1e-4)
