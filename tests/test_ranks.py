"""Ranks of target items: those of scipy's `rankdata`, to the last tie, on every backend and in forked processes."""

from __future__ import annotations

import os

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spotfast import backends
from spotfast.ops.ranks import ranks, vector_ranks
from spotfast.ops.scores import scores
from spotfast.parallel.ranks import SORTED_FROM
from spotfast.rows import Rows

PATTERNS = {
    "random": lambda rng, shape: rng.normal(size=shape),
    "tied": lambda rng, shape: rng.integers(0, 4, shape),
    "constant": lambda rng, shape: np.zeros(shape),
    "infinite": lambda rng, shape: rng.choice([-np.inf, -1.0, -0.0, 0.0, np.inf], shape),
    "neighbours": lambda rng, shape: 1 + rng.integers(0, 3, shape) * np.finfo(np.float32).eps,
}


def rows(mask):
    return Rows.from_matrix("mask", sp.csr_matrix(mask))


def expected_ranks(scores, targets, excluded):
    """For each row of scores and masks (U, I): the ranks of its targets, with the excluded tied behind all others."""
    found = []
    for row, wanted, out in zip(scores, targets, excluded, strict=True):
        result = np.full(len(row), (~out).sum() + (out.sum() + 1) / 2)
        result[~out] = stats.rankdata(-row[~out])
        found.append(result[wanted])
    return np.concatenate([*found, np.zeros(0)])


@pytest.mark.parametrize("backend", backends.OPERATIONS["ranks"]["cpu"])
class TestRanks:
    def check(self, backend, scores, targets, excluded=None):
        result = ranks(scores, rows(targets), None if excluded is None else rows(excluded), backend=backend)
        assert result.dtype == np.float64
        nothing = np.zeros(scores.shape, bool)
        np.testing.assert_array_equal(
            result, expected_ranks(scores, targets, nothing if excluded is None else excluded), strict=True
        )

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_against_rankdata(self, backend, pattern, dtype):
        """Rows with 0, 1, 255, 256, 257 and all items as targets; nothing, some, most and all items excluded."""
        rng = np.random.default_rng(len(pattern))
        shape = 6, SORTED_FROM + 44
        scores = PATTERNS[pattern](rng, shape).astype(dtype)
        counts = np.array([0, 1, SORTED_FROM - 1, SORTED_FROM, SORTED_FROM + 1, shape[1]])
        targets = rng.permuted(np.arange(shape[1]) < counts[:, np.newaxis], axis=1)
        for share in (None, 0.0, 0.2, 0.9, 1.0):
            self.check(backend, scores, targets, None if share is None else rng.random(shape) < share)

    @settings(max_examples=50, deadline=None)
    @given(data=st.data())
    def test_any_scores(self, backend, data):
        users, items = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 12))
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
        values = np.array(data.draw(st.lists(st.floats(allow_nan=False), min_size=1, max_size=6)))
        scores = rng.choice(values, (users, items))
        self.check(backend, scores, rng.random(scores.shape) < 0.5, rng.random(scores.shape) < 0.3)

    def test_threads(self, backend, set_threads):
        rng = np.random.default_rng(0)
        scores, targets = rng.normal(size=(70, 50)), rows(rng.random((70, 50)) < 0.3)
        set_threads(1)
        one = ranks(scores, targets, backend=backend)
        set_threads(2)
        np.testing.assert_array_equal(ranks(scores, targets, backend=backend), one)

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
    def test_nothing_to_rank(self, backend, shape):
        self.check(backend, np.zeros(shape), np.zeros(shape, bool))

    @pytest.mark.parametrize(
        ("scores", "items", "message"),
        [
            (np.zeros((1, 3)), [[0, 0, 0, 1]], r"targets must hold item ids in \[0, 3\), got 3 .. 3"),
            (np.zeros((2, 3)), [[1, 0, 0]], r"targets must have one row per row of scores \(2\), got 1"),
            (np.zeros(3), [[1, 0, 0]], r"scores must be float32 or float64 of shape \(U, I\), got float64 .* \(3,\)"),
            (np.zeros((1, 3), int), [[1, 0, 0]], "scores must be float32 or float64 .* got int64"),
            (np.zeros((1, 3), np.float16), [[1, 0, 0]], "scores must be float32 or float64 .* got float16"),
        ],
    )
    def test_bad_input(self, backend, scores, items, message):
        with pytest.raises(ValueError, match=message):
            ranks(scores, rows(items), backend=backend)
        if message.startswith("targets"):
            nothing = Rows.empty(len(scores))
            with pytest.raises(ValueError, match=message.replace("targets", "excluded")):
                ranks(scores, nothing, rows(items), backend=backend)


class TestNumba:
    """What all kernels in Numba share: `spotfast.parallel.runtime`."""

    @pytest.mark.parametrize("threads", [1, 2])
    def test_its_number_of_threads_is_restored(self, monkeypatch, set_threads, threads):
        import numba

        from spotfast.parallel.runtime import ParallelKernel

        used = []
        kernel = ParallelKernel(lambda: None)
        monkeypatch.setattr(kernel, "_parallel", lambda: used.append(numba.get_num_threads()))
        available = numba.config.NUMBA_NUM_THREADS
        before = numba.get_num_threads()
        set_threads(threads)
        try:
            for own in {1, available}:
                numba.set_num_threads(own)
                kernel()
                assert numba.get_num_threads() == own
            assert set(used) == {min(threads, available)}
        finally:
            numba.set_num_threads(before)

    def test_restored_after_an_error(self, monkeypatch):
        import numba

        from spotfast.parallel.runtime import ParallelKernel

        kernel = ParallelKernel(lambda: None)
        monkeypatch.setattr(kernel, "_parallel", lambda: 1 / 0)
        before = numba.get_num_threads()
        for _ in range(2):  # and the lock was given back
            with pytest.raises(ZeroDivisionError):
                kernel()
            assert numba.get_num_threads() == before

    def test_torch_keeps_its_number_of_threads(self, run_python):
        """In a new process: it is the start of Numba's threads that changes torch's setting."""
        run_python(
            "import numpy as np, torch\n"
            "from spotfast.ops.topk import topk\n"
            "torch.set_num_threads(1)\n"
            "topk(np.ones((3, 9)), 2)\n"
            "assert torch.get_num_threads() == 1\n"
        )

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
    def test_forked_children(self, run_python):
        """A child cannot use the threads that its parent started: it ranks on one, and gets the same."""
        assert run_python(FORKING).split() == ["parent", "child", "0"]

    def test_without_a_cache(self):
        """Where the compiled code cannot be kept, it is compiled all the same."""
        import numba

        from spotfast.parallel.runtime import inlined

        namespace = {}
        exec("def plus_one(x):\n    return x + 1", namespace)  # a function without a file
        with pytest.raises(RuntimeError, match="cannot cache"):
            numba.njit(cache=True)(namespace["plus_one"])
        assert inlined(namespace["plus_one"])(41) == 42


FORKING = """
import os, sys, warnings
import numpy as np
from spotfast.ops.ranks import ranks, vector_ranks
from spotfast.ops.scores import scores
from spotfast.ops.topk import topk
from spotfast.rows import Rows

scores = np.random.default_rng(0).integers(0, 50, (40, 600)).astype(np.float32)
counts = np.where(np.arange(40) % 2, 300, 3)
targets = Rows(np.append(0, counts.cumsum()), np.concatenate([np.arange(count) for count in counts]))

def check(who):
    assert np.array_equal(ranks(scores, targets, backend="numba"), ranks(scores, targets, backend="reference"))
    for k in (5, 550):
        assert np.array_equal(topk(scores, k, backend="numba"), topk(scores, k, backend="reference"))
    print(who, flush=True)

check("parent")
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons': forking with threads
child = os.fork()
if child == 0:
    check("child")
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def vectors(users, items, dim, seed=0, biases=True):
    """Vectors and biases in small whole numbers, so that scores tie."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (users, dim), (users,), (items, dim), (items,)
    parts = [torch.randint(-3, 4, shape, generator=generator).float() for shape in shapes]
    return parts if biases else [parts[0], None, parts[2], None]


@pytest.mark.parametrize("backend", backends.OPERATIONS["vector_ranks"]["cpu"])
class TestVectorRanks:
    @pytest.mark.parametrize("dim", [1, 3, 32, 33, 128, 129, 255, 256, 257, 511, 512])
    @pytest.mark.parametrize("items", [1, 15, 17, 512, 1030])
    def test_as_ranks_of_scores(self, backend, dim, items):
        """Ties in plenty; rows with none, few, many and all items as targets, among the excluded too."""
        rng = np.random.default_rng(dim + items)
        for whole, biases in ((True, True), (False, True), (False, False)):
            parts = vectors(9, items, dim, items, biases)
            if not whole:
                parts = [None if part is None else part + torch.rand(part.shape) for part in parts]
            counts = np.array([0, 1, 3, 4, 5, 40, items, items, items])
            targets = rows(rng.permuted(np.arange(items) < counts[:, np.newaxis], axis=1))
            for share in (0.0, 0.2, 1.0):
                excluded = rows(rng.random((9, items)) < share)
                expected = ranks(scores(*parts).numpy(), targets, excluded)
                np.testing.assert_array_equal(vector_ranks(*parts, targets, excluded, backend=backend), expected)

    @pytest.mark.parametrize("factor", [1e-30, 1e-15, 1.0, 1e17])
    def test_scores_of_any_size(self, backend, factor):
        """Scores are compared through 16-bit keys: differences that vanish or nearly overflow must not mislead them."""
        parts = [part * factor for part in vectors(6, 600, 4)]
        parts[3] += torch.randn(600) * factor**2
        targets = rows(np.random.default_rng(0).random((6, 600)) < 0.1)
        expected = ranks(scores(*parts).numpy(), targets)
        np.testing.assert_array_equal(vector_ranks(*parts, targets, backend=backend), expected)

    def test_constant_scores(self, backend):
        parts = [torch.zeros(2, 3), None, torch.zeros(700, 3), None]
        targets = rows(np.ones((2, 700), bool))
        assert set(vector_ranks(*parts, targets, backend=backend)) == {350.5}

    def test_threads_and_many_users(self, backend, set_threads):
        """More users than are ranked at once."""
        parts = vectors(2100, 40, 3)
        mask = np.random.default_rng(0).random((2100, 40)) < 0.2
        expected = ranks(scores(*parts).numpy(), rows(mask))
        for threads in (1, 2, 3):
            set_threads(threads)
            np.testing.assert_array_equal(vector_ranks(*parts, rows(mask), backend=backend), expected)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
    def test_scores_that_may_not_be_finite(self, backend, value):
        parts = vectors(2, 5, 3)
        parts[2][4, 1] = value
        with pytest.raises(ValueError, match="finite"):
            vector_ranks(*parts, Rows.empty(2), backend=backend)

    def test_wrong_arguments(self, backend):
        parts = vectors(2, 5, 3)
        with pytest.raises(ValueError, match=r"targets must have one row per row of scores \(2\), got 3"):
            vector_ranks(*parts, Rows.empty(3), backend=backend)
        with pytest.raises(ValueError, match=r"excluded must hold item ids in \[0, 5\), got 5 .. 5"):
            vector_ranks(*parts, Rows.empty(2), Rows(np.array([0, 1, 1]), np.array([5])), backend=backend)
        with pytest.raises(ValueError, match="the same dimension, got 3 and 2"):
            vector_ranks(parts[0], None, parts[2][:, :2].contiguous(), None, Rows.empty(2), backend=backend)

    def test_nothing_to_do(self, backend):
        assert len(vector_ranks(*vectors(0, 5, 3), Rows.empty(0), backend=backend)) == 0
        assert len(vector_ranks(*vectors(2, 5, 3), Rows.empty(2), backend=backend)) == 0
