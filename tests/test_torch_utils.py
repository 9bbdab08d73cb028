"""The helpers around tensors, and the seeds that must leave global generators alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast import seeding, torch_utils


@pytest.fixture
def _keep_global_state():
    with torch.random.fork_rng(devices=()):
        yield


def test_gpu_and_cpu():
    tensor = torch.arange(3)
    assert torch_utils.gpu(tensor) is tensor
    assert torch_utils.cpu(tensor) is tensor
    module = torch.nn.Linear(1, 1)
    assert torch_utils.cpu(torch_utils.gpu(module, gpu=False)) is module


@pytest.mark.parametrize(
    ("rows", "batch_size", "sizes"),
    [(0, 3, []), (1, 3, [1]), (3, 3, [3]), (7, 3, [3, 3, 1]), (7, 1, [1] * 7), (7, 100, [7])],
)
def test_minibatch(rows, batch_size, sizes):
    tensor, array = torch.arange(rows), np.arange(rows) * 10
    batches = list(torch_utils.minibatch(tensor, batch_size=batch_size))
    assert [len(batch) for batch in batches] == sizes
    assert [value for batch in batches for value in batch.tolist()] == list(range(rows))
    pairs = list(torch_utils.minibatch(tensor, array, batch_size=batch_size))
    assert [len(pair) for pair in pairs] == [2] * len(sizes)
    assert all((ten.numpy() * 10 == arr).all() for ten, arr in pairs)


def test_minibatch_default():
    assert [len(batch) for batch in torch_utils.minibatch(list(range(200)))] == [128, 72]


@pytest.mark.parametrize("seed", [0, 42])
def test_golden_shuffle(golden, seed):
    expected = golden[f"torch_utils/shuffle-{seed}"]
    shuffled = torch_utils.shuffle(np.arange(20), random_state=np.random.RandomState(seed))
    np.testing.assert_array_equal(shuffled, expected)
    array, tensor = torch_utils.shuffle(np.arange(20), torch.arange(20), random_state=seed)
    np.testing.assert_array_equal(array, expected)
    np.testing.assert_array_equal(tensor, expected)


@pytest.mark.parametrize("function", [torch_utils.shuffle, lambda *arrays: list(torch_utils.minibatch(*arrays))])
@pytest.mark.parametrize(
    ("arrays", "message"), [((np.arange(3), np.arange(4)), r"same length, got \[3, 4\]"), ((), "at least one array")]
)
def test_unequal_lengths(function, arrays, message):
    with pytest.raises(ValueError, match=message):
        function(*arrays)


@pytest.mark.parametrize(("batch_size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError)])
def test_bad_batch_size(batch_size, error):
    with pytest.raises(error, match=f"batch_size must be an integer of at least 1, got {batch_size}"):
        list(torch_utils.minibatch([1, 2], batch_size=batch_size))


def test_assert_no_grad():
    torch_utils.assert_no_grad(torch.zeros(2))
    with pytest.raises(ValueError, match="must not require grad, got a tensor with requires_grad=True"):
        torch_utils.assert_no_grad(torch.zeros(2, requires_grad=True))


@pytest.mark.usefixtures("_keep_global_state")
def test_set_seed_is_torchs_global_seed():
    torch_utils.set_seed(7)
    drawn = torch.rand(5)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(5), drawn)


@pytest.mark.usefixtures("_keep_global_state")
def test_torch_seed_holds_inside_the_block_only():
    torch.manual_seed(7)
    expected = torch.rand(5)
    torch.manual_seed(7)
    with seeding.torch_seed(3):
        inside = torch.rand(5)
    assert torch.equal(torch.rand(5), expected)
    with seeding.torch_seed(3):
        assert torch.equal(torch.rand(5), inside)


@pytest.mark.usefixtures("_keep_global_state")
def test_torch_seed_restores_after_an_error():
    def fail():
        with seeding.torch_seed(3):
            raise KeyError

    before = torch.random.get_rng_state()
    with pytest.raises(KeyError):
        fail()
    assert torch.equal(torch.random.get_rng_state(), before)
