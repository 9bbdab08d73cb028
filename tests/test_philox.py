"""The random stream: published vectors, the contract, and draws that depend on nothing but their number."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotfast import backends
from spotfast.ops import philox

SEED = 0x0123456789ABCDEF
M32 = 2**32 - 1


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
def test_the_contract_is_philox(contract, counters, key, words):
    """The vectors published with Random123, in the contract and in the reference."""
    from spotfast.reference.philox import philox as reference

    assert contract.philox(counters, key) == words
    tensors = tuple(torch.tensor(counter) for counter in counters)
    assert tuple(word.item() for word in reference(tensors, key[1] << 32 | key[0])) == words


@pytest.mark.parametrize("backend", backends.OPERATIONS["philox"]["cpu"])
class TestDraws:
    @pytest.fixture(autouse=True)
    def _contract(self, contract):
        self.contract = contract

    def check(self, backend, seed, epoch, stream, start, count, attempt=0):
        drawn = philox.draws(seed, epoch, stream, start, start + count, attempt=attempt, backend=backend)
        assert drawn.dtype == torch.int64
        numbers = range(start, start + count)
        assert drawn.tolist() == [self.contract.draw(seed, epoch, stream, d, attempt) for d in numbers]

    @pytest.mark.parametrize("start", range(5))
    @pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 31, 32, 33, 70])
    def test_ranges(self, backend, start, count):
        self.check(backend, SEED, 3, philox.NEGATIVES, start, count)

    @pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
    @pytest.mark.parametrize("epoch", [0, 2**31, 2**32 - 1])
    def test_seeds_and_epochs(self, backend, seed, epoch):
        self.check(backend, seed, epoch, philox.PERMUTATION, 2, 7)

    @pytest.mark.parametrize(("stream", "attempt"), [(0, 0), (2, 16), (2**15, 1), (2**16 - 1, 2**16 - 1)])
    def test_streams_and_attempts(self, backend, stream, attempt):
        self.check(backend, SEED, 3, stream, 0, 40, attempt)

    @pytest.mark.parametrize("start", [2**31, 2**32, 2**33, 2**34, 2**40, 2**62 - 18])
    def test_far_draws(self, backend, start):
        self.check(backend, SEED, 3, philox.NEGATIVES, start - 15, 33)

    @settings(max_examples=20, deadline=None)
    @given(data=st.data())
    def test_any_draws(self, backend, data):
        def number(high):
            return data.draw(st.integers(0, high))

        start = number(2**62 - 40)
        self.check(backend, number(2**64 - 1), number(M32), number(2**16 - 1), start, number(40), number(2**16 - 1))

    def test_threads_and_cuts(self, backend, set_threads):
        def draw(start, stop):
            return philox.draws(SEED, 3, philox.NEGATIVES, start, stop, backend=backend)

        set_threads(1)
        whole = draw(3, 70_003)
        set_threads(2)
        assert torch.equal(draw(3, 70_003), whole)
        cuts = [3, 4, 9, 33_333, 70_003]
        assert torch.equal(torch.cat([draw(*ends) for ends in zip(cuts, cuts[1:], strict=False)]), whole)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": -1}, "seed must be an integer between 0 and 18446744073709551615, got -1"),
        ({"seed": 2**64}, "seed .* got 18446744073709551616"),
        ({"epoch": -1}, "epoch .* got -1"),
        ({"epoch": 2**32}, "epoch .* got 4294967296"),
        ({"stream": 2**16}, "stream .* got 65536"),
        ({"attempt": 2**16}, "attempt .* got 65536"),
        ({"start": -1}, "start .* got -1"),
        ({"start": 6}, "start must be an integer between 0 and 5, got 6"),
        ({"stop": 2**62 + 1}, "stop .* got 4611686018427387905"),
        ({"backend": "numba"}, "backend must be one of 'auto', 'native', 'reference', 'triton', got 'numba'"),
    ],
)
def test_values_out_of_range(changed, message):
    arguments = {"seed": 0, "epoch": 0, "stream": 0, "start": 0, "stop": 5, "attempt": 0, **changed}
    with pytest.raises(ValueError, match=message):
        philox.draws(**arguments)


@pytest.mark.parametrize("seed", [1.0, "1", None, True])
def test_seeds_that_are_no_integers(seed):
    with pytest.raises(TypeError, match="seed must be an integer"):
        philox.draws(seed, 0, 0, 0, 5)
