"""The order in Triton equals the reference, position by position."""

from __future__ import annotations

import pytest

from spotfast.ops.permutation import permutation

pytestmark = pytest.mark.interpreter

SEED = 0x0123456789ABCDEF


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 10, 17, 255, 256, 257, 1023, 1024, 1025, 5000])
def test_whole_orders(same, n):
    order = same(permutation, SEED, 3, n)
    assert order.sort().values.tolist() == list(range(n))


@pytest.mark.parametrize("seed", [0, 2**31, 2**32 - 1, 2**63 + 1, 2**64 - 1])
@pytest.mark.parametrize("epoch", [0, 2**31, 2**32 - 1])
def test_seeds_and_epochs(same, seed, epoch):
    same(permutation, seed, epoch, 10)
    same(permutation, seed, epoch, 2000, 1000, 1010)


@pytest.mark.parametrize(
    ("n", "start", "stop"),
    [
        (10, 0, 0),
        (10, 10, 10),
        (10, 3, 7),
        (1024, 500, 756),  # one program
        (20_000_263, 0, 257),
        (20_000_263, 12_345_678, 12_345_933),
        (20_000_263, 20_000_263 - 300, 20_000_263),
        (2**24 + 1, 2**24 - 20, 2**24 + 1),  # nearly half of all values are beyond n
        (2**31, 2**31 - 20, 2**31),
        (2**31 + 5, 2**31 - 20, 2**31 + 5),
        (2**32 - 1, 2**32 - 20, 2**32 - 1),
        (2**32, 2**31 - 10, 2**31 + 10),
        (2**33 + 7, 2**33 - 250, 2**33 + 7),
        (2**61 + 1, 2**61 - 10, 2**61 + 1),
        (2**62, 2**62 - 300, 2**62),
    ],
)
def test_ranges(same, n, start, stop):
    order = same(permutation, SEED, 3, n, start, stop)
    assert ((order >= 0) & (order < n)).all()


@pytest.mark.parametrize(
    ("n", "order"),
    [
        (1, [0]),
        (2, [1, 0]),
        (3, [2, 0, 1]),
        (10, [9, 7, 4, 2, 1, 5, 0, 6, 8, 3]),
        (17, [2, 4, 7, 8, 10, 9, 6, 0, 14, 3, 15, 5, 16, 1, 13, 12, 11]),
        (20_000_263, [7266757, 18938646, 5258097, 5346699, 13494094]),
    ],
)
def test_the_contract(n, order):
    assert permutation(SEED, 3, n, 0, len(order), backend="triton").tolist() == order
