"""Scores: rounded as documented on every backend, so a pair has the same bits whatever else is scored beside it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from spotfast import backends
from spotfast.ops.scores import pair_scores, scores

DIMS = [1, 3, 31, 32, 33, 64, 127, 128, 129, 255, 256, 257, 511, 512]
ITEMS = [1, 2, 15, 16, 17, 33, 511, 512, 513, 1030]  # panels of 16 items, packs of 512
USERS = [1, 2, 3, 4, 5, 8, 9]  # groups of four


def model(users, items, dim, seed=0, biases=(True, True)):
    """Vectors and biases of users and items whose scores need every bit of rounding."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for count, has_bias in zip((users, items), biases, strict=True):
        parts.append(torch.randn(count, dim, generator=generator))
        bias = torch.randn(count, generator=generator)
        parts.append(bias if has_bias else None)
    return parts


def documented(user_vectors, user_biases, item_vectors, item_biases):
    """The products summed in the order of the dimensions, all rounded to float32 one by one; then the biases."""
    users, items = user_vectors.numpy(), item_vectors.numpy()
    total = np.zeros((len(users), len(items)), np.float32)
    for d in range(users.shape[1]):
        product = np.multiply.outer(users[:, d], items[:, d])
        assert product.dtype == np.float32
        total = total + product
    if user_biases is not None:
        total = total + user_biases.numpy()[:, np.newaxis]
    return total if item_biases is None else total + item_biases.numpy()


def assert_same_bits(actual, expected):
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(actual.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("backend", backends.OPERATIONS["scores"]["cpu"])
class TestScores:
    @pytest.mark.parametrize("dim", DIMS)
    @pytest.mark.parametrize("items", ITEMS)
    def test_rounded_as_documented(self, backend, dim, items):
        case = DIMS.index(dim) + ITEMS.index(items)
        biases = [(True, True), (True, False), (False, True), (False, False)][case % 4]
        parts = model(USERS[case % len(USERS)], items, dim, case, biases)
        assert_same_bits(scores(*parts, backend=backend), documented(*parts))

    @pytest.mark.parametrize("dim", DIMS)
    def test_close_to_the_truth(self, backend, dim):
        parts = model(5, 40, dim)
        users, user_biases, items, item_biases = (part.double() for part in parts)
        truth = users @ items.T + user_biases[:, None] + item_biases
        size = users.abs() @ items.abs().T + user_biases.abs()[:, None] + item_biases.abs()
        error = (scores(*parts, backend=backend).double() - truth).abs()
        unit = 2.0**-24  # of rounding to nearest: every summand is rounded at most dim + 2 times
        assert (error <= (dim + 2) * unit / (1 - (dim + 2) * unit) * size).all()
        assert error.max() > 0

    @pytest.mark.parametrize("dim", DIMS)
    @pytest.mark.parametrize("items", [17, 513])
    def test_pairs_and_subsets(self, backend, dim, items):
        users, user_biases, vectors, item_biases = parts = model(9, items, dim)
        whole = scores(*parts, backend=backend)
        rng = np.random.default_rng(dim)
        for count in (1, 7, 8, 9, 100):
            user_index, item_index = (torch.from_numpy(rng.integers(0, size, count)) for size in (9, items))
            pairs = pair_scores(*parts, user_index, item_index, backend=backend)
            assert_same_bits(pairs, whole[user_index, item_index])
        for user in range(9):
            row = scores(users[user : user + 1], user_biases[user : user + 1], vectors, item_biases, backend=backend)
            assert_same_bits(row, whole[user : user + 1])
        for count in (1, 5, 16):
            some = torch.from_numpy(rng.permutation(items)[:count])
            subset = scores(users[2:7], user_biases[2:7], vectors[some], item_biases[some], backend=backend)
            assert_same_bits(subset, whole[2:7][:, some])

    @pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
    def test_pairs_with_and_without_biases(self, backend, biases):
        parts = model(3, 5, 4, biases=biases)
        user_index, item_index = torch.arange(15) // 5, torch.arange(15) % 5
        pairs = pair_scores(*parts, user_index, item_index, backend=backend)
        assert_same_bits(pairs.view(3, 5), documented(*parts))

    def test_threads(self, backend, set_threads):
        parts = model(3, 700, 33)
        index = torch.arange(9000)
        results = []
        for threads in (1, 2):
            set_threads(threads)
            pairs = pair_scores(*parts, index % 3, index % 700, backend=backend)
            results.append((scores(*parts, backend=backend), pairs))
        for one, two in zip(*results, strict=True):
            assert_same_bits(one, two)

    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def test_any_numbers(self, backend, data):
        """Zeros of both signs, denormals, sums that overflow, infinities: but a NaN is a NaN."""
        users, items, dim = (data.draw(st.integers(1, high)) for high in (3, 18, 4))
        numbers = st.floats(width=32, allow_nan=False)
        shapes = [(users, dim), (users,), (items, dim), (items,)]
        parts = [torch.from_numpy(data.draw(arrays.arrays(np.float32, shape, elements=numbers))) for shape in shapes]
        with np.errstate(all="ignore"):
            expected = documented(*parts)
        actual = scores(*parts, backend=backend).numpy()
        canonical = (np.where(np.isnan(one), np.float32(np.nan), one) for one in (actual, expected))
        assert_same_bits(*canonical)

    def test_out(self, backend):
        parts = model(5, 20, 3)
        out = torch.full((5, 20), torch.nan)
        assert scores(*parts, out=out, backend=backend) is out
        assert_same_bits(out, documented(*parts))
        buffer = torch.full((7, 20), torch.nan)
        scores(*parts, out=buffer[1:6], backend=backend)
        assert_same_bits(buffer[1:6], out)
        assert buffer[[0, 6]].isnan().all()

    @pytest.mark.parametrize(("users", "items", "dim"), [(0, 5, 3), (2, 0, 3), (2, 5, 0), (0, 0, 0)])
    def test_nothing_to_do(self, backend, users, items, dim):
        parts = model(users, items, dim)
        result = scores(*parts, backend=backend)
        assert result.shape == (users, items)
        assert_same_bits(result, documented(*parts))
        nobody = torch.zeros(0, dtype=torch.int64)
        assert pair_scores(*parts, nobody, nobody, backend=backend).shape == (0,)

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({0: torch.zeros(3, 5)}, "user_vectors and item_vectors .* same dimension, got 5 and 4"),
            ({0: torch.zeros(3, 4).double()}, "user_vectors must be .*float32.* got torch.float64"),
            ({0: torch.zeros(4, 3).T}, r"user_vectors must be contiguous.* strides \(1, 3\)"),
            ({0: torch.zeros(4)}, r"user_vectors .* got .* \(4,\)"),
            ({2: torch.zeros(5, 4, device="meta")}, "item_vectors must be on cpu, as user_vectors, got meta"),
            ({1: torch.zeros(3, device="meta")}, "user_biases must be on cpu, as user_vectors, got meta"),
            ({1: torch.zeros(2)}, r"user_biases .* shape \(3,\), got .* \(2,\)"),
            ({1: torch.zeros(6)[::2]}, "user_biases must be contiguous"),
            ({2: torch.zeros(5, 4).half()}, "item_vectors .* got torch.float16"),
            ({3: torch.zeros(5, 1)}, r"item_biases .* shape \(5,\), got .* \(5, 1\)"),
        ],
    )
    def test_bad_vectors(self, backend, changed, message):
        parts = model(3, 5, 4)
        for position, part in changed.items():
            parts[position] = part
        with pytest.raises(ValueError, match=message):
            scores(*parts, backend=backend)
        with pytest.raises(ValueError, match=message):
            pair_scores(*parts, torch.tensor([0]), torch.tensor([0]), backend=backend)

    @pytest.mark.parametrize(
        ("users", "items", "error", "message"),
        [
            ([0, 3], [0, 0], IndexError, r"user_index must be in \[0, 3\), got 0 .. 3"),
            ([0, -1], [0, 0], IndexError, r"user_index must be in \[0, 3\), got -1 .. 0"),
            ([0], [5], IndexError, r"item_index must be in \[0, 5\), got 5 .. 5"),
            ([0, 0], [0], ValueError, r"item_index must be int64 of shape \(2,\)"),
            ([0.0], [0], ValueError, "user_index must be int64 .* got torch.float32"),
            ([[0]], [0], ValueError, r"user_index must be int64 .*\(\[1, 1\]\)"),
        ],
    )
    def test_bad_pairs(self, backend, users, items, error, message):
        with pytest.raises(error, match=message):
            pair_scores(*model(3, 5, 4), torch.tensor(users), torch.tensor(items), backend=backend)

    @pytest.mark.parametrize("out", [torch.zeros(3, 4), torch.zeros(5, 3).T, torch.zeros(3, 5).double()])
    def test_bad_out(self, backend, out):
        with pytest.raises(ValueError, match=r"out must be contiguous float32 of shape \(3, 5\), got"):
            scores(*model(3, 5, 4), out=out, backend=backend)
