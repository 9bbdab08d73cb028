"""The random stream on the device, to the bit: draws, the epoch's order, negatives; also beyond 2**31 of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.ops import negatives, philox
from spotfast.ops.negatives import popularity_thresholds
from spotfast.ops.permutation import permutation
from spotfast.positives import Positives

SEED, GIB = 0xFEDCBA9876543210, 2**30
CPU = torch.device("cpu")
STARTS = (0, 5, 2**31 - 7, 2**33 + 1)


@pytest.fixture(scope="module")
def positives():
    rng = np.random.default_rng(0)
    return Positives.from_interactions(rng.integers(0, 50, 2000), rng.integers(0, 300, 2000), 50, 300)


@pytest.mark.parametrize("start", STARTS)
def test_draws(device, start):
    own = philox.draws(SEED, 3, 1, start, start + 1001, device=device, backend="triton")
    assert torch.equal(own.cpu(), philox.draws(SEED, 3, 1, start, start + 1001, device=CPU, backend="reference"))


@pytest.mark.parametrize("n", [1, 1000, 1024, 100_003, 2**31 + 11, 2**40 + 3])
def test_permutation(device, n):
    for start in {0, max(0, n - 777)}:
        stop = min(n, start + 777)
        own = permutation(SEED, 2, n, start, stop, device=device, backend="triton")
        assert torch.equal(own.cpu(), permutation(SEED, 2, n, start, stop, device=CPU, backend="reference"))


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("sampler", ["uniform", "unseen", "popularity"])
def test_negatives(device, positives, sampler, start):
    rng = np.random.default_rng(start)
    users = torch.from_numpy(rng.integers(0, 50, 333))
    thresholds = popularity_thresholds(rng.integers(1, 100, 300))

    def draw(place, backend):
        at = SEED, 1, start, start + 333, 2
        if sampler == "uniform":
            return negatives.uniform(*at, 300, first=1, device=place, backend=backend)
        liked = positives.to(place)
        if sampler == "unseen":
            return negatives.unseen(*at, liked, users.to(place), backend=backend)
        return negatives.popularity(*at, thresholds.to(place), liked, users.to(place), backend=backend)

    assert torch.equal(draw(device, "triton").cpu(), draw(CPU, "reference"))


def require(device, gib):
    free = torch.cuda.mem_get_info(device)[0]
    if free < gib * GIB:
        pytest.skip(f"needs {gib} GiB of free memory, the device has {free / GIB:.0f}")


@pytest.mark.device_only
def test_an_order_of_more_than_2_31(device):
    n = 2**31 + 1001
    require(device, 20)
    own = permutation(SEED, 0, n, 0, n, device=device)
    for start in (0, 2**31 - 500, n - 500):
        expected = permutation(SEED, 0, n, start, start + 500, device=CPU, backend="reference")
        assert torch.equal(own[start : start + 500].cpu(), expected)


@pytest.mark.device_only
def test_more_than_2_31_negatives(device):
    samples = 2**30 + 501  # two each
    require(device, 20)
    own = negatives.uniform(SEED, 0, 0, samples, 2, 1000, device=device)
    for start in (0, 2**30 - 250, samples - 250):
        expected = negatives.uniform(SEED, 0, start, start + 250, 2, 1000, device=CPU, backend="reference")
        assert torch.equal(own[start : start + 250].cpu(), expected)
