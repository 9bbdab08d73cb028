"""The epoch's order: the contract, bijections, uniformity, and no trace of threads or of how it is read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from spotfast import backends
from spotfast.ops.permutation import permutation

SEED = 0x0123456789ABCDEF
SIZES = [1, 2, 3, 4, 5, 10, 17, 255, 256, 257, 1023, 1024, 1025, 20_000_263, 2**32 + 1, 2**40 + 7, 2**62 - 1, 2**62]


@pytest.mark.parametrize("backend", backends.OPERATIONS["permutation"]["cpu"])
class TestPermutation:
    @pytest.mark.parametrize("n", SIZES)
    @pytest.mark.parametrize(("seed", "epoch"), [(SEED, 3), (2**64 - 1, 2**32 - 1)])
    def test_the_contract(self, backend, contract, n, seed, epoch):
        index = contract.permutation(seed, epoch, n)
        count = min(n, 260)
        for start in {0, (n - count) // 2, n - count}:
            read = permutation(seed, epoch, n, start, start + count, backend=backend)
            assert read.dtype == torch.int64
            assert read.tolist() == [index(position) for position in range(start, start + count)]

    @pytest.mark.parametrize("n", [1, 2, 3, 10, 17, 1023, 1024, 1025, 70_000])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_bijection(self, backend, n, seed):
        assert permutation(seed, 1, n, backend=backend).sort().values.equal(torch.arange(n))

    def test_threads_and_cuts(self, backend, set_threads):
        n = 70_001
        set_threads(1)
        whole = permutation(SEED, 3, n, backend=backend)
        set_threads(2)
        assert torch.equal(permutation(SEED, 3, n, backend=backend), whole)
        cuts = [0, 0, 1, 300, 40_000, n]
        parts = [permutation(SEED, 3, n, *ends, backend=backend) for ends in zip(cuts, cuts[1:], strict=False)]
        assert torch.equal(torch.cat(parts), whole)


def test_uniform():
    """Where an index lands, and how far its neighbour is, over the epochs of one seed."""
    n, epochs = 12, 2400
    orders = np.array([permutation(7, epoch, n).numpy() for epoch in range(epochs)])
    landed = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    differences = np.bincount((np.diff(orders) % n).ravel(), minlength=n)[1:]
    chi2 = ((landed - epochs / n) ** 2 / (epochs / n)).sum() * (n - 1) / n  # as its rows and columns have fixed sums
    assert 0.001 < stats.chi2.sf(chi2, (n - 1) ** 2) < 0.999
    assert 0.001 < stats.chisquare(differences).pvalue


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 0), "n must be an integer between 1 and 4611686018427387904, got 0"),
        ((0, 0, 2**62 + 1), "n .* got 4611686018427387905"),
        ((0, 0, 5, 0, 6), "stop must be an integer between 0 and 5, got 6"),
        ((0, 0, 5, 3, 2), "start must be an integer between 0 and 2, got 3"),
        ((-1, 0, 5), "seed .* got -1"),
        ((0, 2**32, 5), "epoch .* got 4294967296"),
    ],
)
def test_values_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        permutation(*arguments)
