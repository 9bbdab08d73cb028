"""The best k items: those of a stable sort, on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spotfast import backends
from spotfast.ops.scores import scores
from spotfast.ops.topk import topk, vector_topk
from spotfast.parallel.topk import SORTED_FROM
from spotfast.rows import Rows

PATTERNS = {
    "random": lambda rng, shape: rng.normal(size=shape),
    "tied": lambda rng, shape: rng.integers(0, 4, shape),
    "constant": lambda rng, shape: np.zeros(shape),
    "infinite": lambda rng, shape: rng.choice([-np.inf, -1.0, -0.0, 0.0, np.inf], shape),
    "ascending": lambda rng, shape: np.tile(np.arange(shape[1]), (shape[0], 1)),
}

MANY = 31  # users, more than C++ finds without rough scores


def rows(mask):
    return Rows.from_matrix("mask", sp.csr_matrix(mask))


def expected_best(scores, k, excluded):
    """Python's sort is stable."""
    best = np.full((len(scores), k), -1)
    for user, row in enumerate(scores.tolist()):
        order = sorted(np.flatnonzero(~excluded[user]).tolist(), key=lambda item: -row[item])[:k]
        best[user, : len(order)] = order
    return best


@pytest.mark.parametrize("backend", backends.OPERATIONS["topk"]["cpu"])
class TestTopk:
    def check(self, backend, scores, k, excluded=None):
        result = topk(scores, k, None if excluded is None else rows(excluded), backend=backend)
        nothing = np.zeros(scores.shape, bool)
        expected = expected_best(scores, k, nothing if excluded is None else excluded)
        np.testing.assert_array_equal(result, expected, strict=True)

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_against_a_stable_sort(self, backend, pattern, dtype):
        """Lists shorter and longer than the items that are left, below and above where the algorithm changes."""
        rng = np.random.default_rng(len(pattern))
        shape = 4, SORTED_FROM + 8
        scores = PATTERNS[pattern](rng, shape).astype(dtype)
        for share in (None, 0.0, 0.3, 0.99, 1.0):
            excluded = None if share is None else rng.random(shape) < share
            for k in (1, 2, 10, SORTED_FROM - 1, SORTED_FROM, shape[1], shape[1] + 3):
                self.check(backend, scores, k, excluded)

    @settings(max_examples=50, deadline=None)
    @given(data=st.data())
    def test_any_scores(self, backend, data):
        users, items, k = (data.draw(st.integers(1, high)) for high in (3, 12, 14))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        values = np.array(data.draw(st.lists(st.floats(allow_nan=False), min_size=1, max_size=6)))
        scores = rng.choice(values, (users, items))
        self.check(backend, scores, k, rng.random(scores.shape) < 0.3)

    def test_threads(self, backend, set_threads):
        scores = np.random.default_rng(0).normal(size=(70, 50))
        set_threads(1)
        one = topk(scores, 7, backend=backend)
        set_threads(2)
        np.testing.assert_array_equal(topk(scores, 7, backend=backend), one)

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
    def test_nothing_to_choose_from(self, backend, shape):
        self.check(backend, np.zeros(shape), 2)

    @pytest.mark.parametrize(
        ("scores", "k", "items", "message"),
        [
            (np.zeros((1, 3)), 0, [[0, 0, 0]], "k must be an integer of at least 1, got 0"),
            (np.zeros((1, 3)), 2, [[0, 0, 0, 1]], r"excluded must hold item ids in \[0, 3\), got 3 .. 3"),
            (np.zeros((2, 3)), 2, [[1, 0, 0]], r"excluded must have one row per row of scores \(2\), got 1"),
            (np.zeros(3), 2, [[1, 0, 0]], r"scores must be float32 or float64 .* got float64 of shape \(3,\)"),
            (np.zeros((1, 3), np.float16), 2, [[1, 0, 0]], "scores must be float32 or float64 .* got float16"),
        ],
    )
    def test_bad_input(self, backend, scores, k, items, message):
        with pytest.raises(ValueError, match=message):
            topk(scores, k, rows(items), backend=backend)

    @pytest.mark.parametrize("k", [1.0, True, "1", None])
    def test_a_k_that_is_no_integer(self, backend, k):
        with pytest.raises(TypeError, match="k must be an integer of at least 1, got"):
            topk(np.zeros((1, 3)), k, backend=backend)


@pytest.mark.parametrize("backend", backends.OPERATIONS["vector_topk"]["cpu"])
class TestVectorTopk:
    def check(self, backend, parts, k, excluded=None):
        """Compare with a sort of all scores, for all users and for a few, whom C++ ranks without rough scores."""
        users, user_biases, items, item_biases = parts
        for some in (len(users), 3):
            few = users[:some], None if user_biases is None else user_biases[:some], items, item_biases
            of_few = None if excluded is None else excluded.take(np.arange(some))
            ids, best = vector_topk(*few, k, of_few, backend=backend)
            table = scores(*few).numpy()
            np.testing.assert_array_equal(ids, topk(table, k, of_few))
            assert ids.shape == best.shape == (some, k)
            assert best.dtype == np.float32
            found = np.where(ids >= 0, np.take_along_axis(table, np.maximum(ids, 0), axis=1), -np.inf)
            np.testing.assert_array_equal(best, found)

    @pytest.mark.parametrize("dim", [1, 32, 128, 129, 255, 256, 257, 511, 512])
    @pytest.mark.parametrize("items", [1, 17, 513, 1030])
    def test_as_topk_of_scores(self, backend, dim, items):
        """Ties in plenty, k from one to beyond the catalogue, and more items left out than are left."""
        rng = np.random.default_rng(dim + items)
        generator = torch.Generator().manual_seed(dim)
        shapes = (MANY, dim), (MANY,), (items, dim), (items,)
        parts = [torch.randint(-2, 3, shape, generator=generator).float() for shape in shapes]
        for share in (0.0, 0.3, 0.99, 1.0):
            excluded = rows(rng.random((MANY, items)) < share)
            for k in (1, 3, 10, items, items + 2):
                self.check(backend, parts, k, excluded)

    @pytest.mark.parametrize("size", [0.0, 1e-39, 1e-23, 1e-6, 1.0, 1e12])
    @pytest.mark.parametrize("bias_size", [0.0, 1e-39, 1e-3, 1.0, 1e12])
    def test_magnitudes(self, backend, size, bias_size):
        """Whatever share of a score comes from biases: none, all, and nearly all with the rest deciding."""
        generator = torch.Generator().manual_seed(5)
        shapes = (MANY, 5), (MANY,), (1100, 5), (1100,)
        sizes = size, bias_size, size, bias_size
        parts = [scale * torch.randn(shape, generator=generator) for shape, scale in zip(shapes, sizes, strict=True)]
        for k in (1, 10, 100):
            self.check(backend, parts, k)

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_heavy_tails(self, backend, sign):
        """A few items far larger than all others, by their biases or vectors, excluded for some users."""
        generator = torch.Generator().manual_seed(8)
        shapes = (MANY, 5), (MANY,), (900, 5), (900,)
        users, user_biases, items, biases = (torch.randn(shape, generator=generator) for shape in shapes)
        items[[3, 500], [0, 4]], biases[[17, 899]] = sign * 1e4, sign * torch.tensor([1e3, 1e20])
        excluded = rows(np.random.default_rng(1).random((MANY, 900)) < 0.5)
        for powers in (1, 5):
            parts = users, user_biases, items, biases.sign() * biases.abs() ** (1 / powers)
            for k in (1, 10, 100, 900):
                self.check(backend, parts, k, excluded)

    def test_near_ties_in_plenty(self, backend):
        """One dimension dwarfs what tells items apart: in whole numbers, they are all the same."""
        generator = torch.Generator().manual_seed(6)
        users, items = torch.randn(MANY, 4, generator=generator), torch.randn(3000, 4, generator=generator)
        users[:, 0], items[:, 0] = 1e5, 1.0
        users[4], items[:, 1] = 0.0, items[:, 1] * 1e-3
        parts = [users, torch.randn(MANY, generator=generator), items, None]
        for k in (1, 7, 200):
            self.check(backend, parts, k)

    @pytest.mark.parametrize("better", ["every eighth", "the last", "every eighth block", "none"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
    def test_any_order_of_the_catalogue(self, backend, better, share):
        """Also such that a sample, every eighth block of 16 items, holds far better ones than all others, or worse."""
        generator = torch.Generator().manual_seed(7)
        users, items = torch.randn(MANY, 4, generator=generator), torch.randn(4200, 4, generator=generator)
        ids, steps = torch.arange(4200), torch.linspace(100.0, 200.0, 4200)
        chosen = {
            "every eighth": ids % 8 == 0,
            "the last": ids > 4100,
            "every eighth block": ids % 128 < 16,
            "none": ids < 0,
        }
        biases = torch.where(chosen[better], steps, 0.0)
        excluded = rows(np.random.default_rng(0).random((MANY, 4200)) < share)
        for k in (1, 10, 32, 100, 370, 400):
            self.check(backend, (users, None, items, biases), k, excluded)

    def test_threads_and_many_users(self, backend, set_threads):
        parts = [torch.randn(2100, 3), torch.randn(2100), torch.randn(40, 3), torch.randn(40)]
        set_threads(1)
        one = vector_topk(*parts, 5, backend=backend)
        np.testing.assert_array_equal(one[0], topk(scores(*parts).numpy(), 5))
        set_threads(3)
        np.testing.assert_array_equal(vector_topk(*parts, 5, backend=backend)[0], one[0])

    def test_wrong_arguments(self, backend):
        parts = [torch.ones(2, 3), None, torch.ones(4, 3), None]
        with pytest.raises(ValueError, match="k must be an integer of at least 1, got 0"):
            vector_topk(*parts, 0, backend=backend)
        with pytest.raises(ValueError, match=r"excluded must have one row per row of scores \(2\), got 3"):
            vector_topk(*parts, 1, Rows.empty(3), backend=backend)
        parts[2][3, 2] = float("nan")
        with pytest.raises(ValueError, match="finite"):
            vector_topk(*parts, 1, backend=backend)
