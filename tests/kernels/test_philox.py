"""The random stream in Triton equals the reference, draw by draw."""

from __future__ import annotations

import pytest
import torch

from spotfast.ops import philox

pytestmark = pytest.mark.interpreter

SEED = 0x0123456789ABCDEF
M32 = 2**32 - 1


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32, SEED, 2**63 - 1, 2**63 + 5, 2**64 - 1])
def test_seeds_of_64_bits(same, seed):
    same(philox.draws, seed, 3, philox.NEGATIVES, 2, 11)


@pytest.mark.parametrize("epoch", [0, 1, 2**31 - 1, 2**31, M32])
@pytest.mark.parametrize(("stream", "attempt"), [(0, 0), (1, 1), (2, 16), (2**15, 0), (2**16 - 1, 2**16 - 1)])
def test_epochs_streams_and_attempts(same, epoch, stream, attempt):
    same(philox.draws, SEED, epoch, stream, 5, 9, attempt=attempt)


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        *[(start, start + count) for start in range(5) for count in (0, 1, 2, 3, 4, 5)],  # around Philox blocks
        *[(start, stop) for start in (0, 1, 3, 4) for stop in (1023, 1024, 1025, 1028)],  # around programs
        (1021, 3079),
        (4095, 8193),
    ],
)
def test_ranges(same, start, stop):
    same(philox.draws, SEED, 3, philox.NEGATIVES, start, stop)


@pytest.mark.parametrize("near", [2**31, 2**32, 2**33, 2**34, 2**40 + 1, 2**62 - 1030])
def test_draw_numbers_beyond_32_bits(same, near):
    same(philox.draws, SEED, 3, philox.NEGATIVES, near - 3, near + 1030)
    same(philox.draws, SEED, 3, philox.NEGATIVES, near, near + 1)


def test_the_contract():
    first = philox.draws(SEED, 3, philox.NEGATIVES, 0, 5, backend="triton").tolist()
    assert first == [802507385, 3932522543, 4193320659, 1439359337, 3720278084]
    assert philox.draws(SEED, 3, philox.NEGATIVES, 2**34, 2**34 + 1, backend="triton").tolist() == [2825251675]


@pytest.mark.parametrize(
    ("counters", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((M32, M32, M32, M32), (M32, M32), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_the_vectors_published_with_philox(counters, key, words):
    """They need blocks of 64 bits, which no draw number reaches: as the int64 of the same bits, from the kernel."""
    from spotfast.kernels import philox as kernels

    block = counters[1] << 32 | counters[0]
    block -= (block >> 63) << 64
    out = torch.full((4,), -1)
    kernels.draws_kernel[(1,)](out, key[1] << 32 | key[0], counters[2], counters[3], block, 0, 4, BLOCKS=kernels.BLOCKS)
    assert tuple(out.tolist()) == words
