"""Rows of distinct items: from ids and from matrices, the same on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from spotfast import backends
from spotfast.interactions import Interactions
from spotfast.rows import MOST_COUNTED, Rows

every_backend = pytest.mark.parametrize("backend", backends.OPERATIONS["windows"]["cpu"])


def as_lists(rows):
    return [rows.items[begin:end].tolist() for begin, end in zip(rows.indptr[:-1], rows.indptr[1:], strict=True)]


@every_backend
class TestFromIds:
    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64])
    def test_distinct_and_ascending(self, backend, set_threads, dtype, threads):
        set_threads(threads)
        rng = np.random.default_rng(0)
        users, items = rng.integers(0, 100, 3000).astype(dtype), rng.integers(0, 60, 3000)
        rows = Rows.from_ids(users, items, 101, 60, backend=backend)
        assert rows.indptr.dtype == rows.items.dtype == np.int64
        assert as_lists(rows) == [np.unique(items[users == user]).tolist() for user in range(101)]

    def test_many_users(self, backend, set_threads):
        """So many that threads share them."""
        set_threads(2)
        rng = np.random.default_rng(1)
        users, items = rng.integers(0, 20_000, 50_000), rng.integers(0, 9, 50_000)
        keys = np.unique(users * 9 + items)
        rows = Rows.from_ids(users, items, 20_000, 9, backend=backend)
        np.testing.assert_array_equal(np.repeat(np.arange(20_000), rows.counts()), keys // 9)
        np.testing.assert_array_equal(rows.items, keys % 9)

    def test_few_interactions_of_a_large_catalogue(self, backend):
        rows = Rows.from_ids(np.array([1, 1]), np.array([2**31 - 2, 5]), 2, 2**31 - 1, backend=backend)
        assert MOST_COUNTED < 2**31 - 1
        assert as_lists(rows) == [[], [5, 2**31 - 2]]

    def test_nothing(self, backend):
        nothing = np.zeros(0, np.int64)
        assert as_lists(Rows.from_ids(nothing, nothing, 2, 3, backend=backend)) == [[], []]

    @pytest.mark.parametrize(
        ("users", "items", "message"),
        [
            ([0, 2], [0, 0], "user_ids must be below num_users = 2, got 2 at position 1"),
            ([0, 1], [3, 0], "item_ids must be below num_items = 3, got 3 at position 0"),
            ([-1], [0], "user_ids must not be negative, got -1"),
            ([0, 1], [0], r"item_ids must have the length of user_ids \(2\), got 1"),
        ],
    )
    def test_bad_input(self, backend, users, items, message):
        with pytest.raises(ValueError, match=message):
            Rows.from_ids(np.array(users), np.array(items), 2, 3, backend=backend)


@every_backend
def test_common_items(backend, set_threads):
    set_threads(2)
    rng = np.random.default_rng(2)
    one, other = (Rows.from_ids(rng.integers(0, 900, 5000), rng.integers(0, 40, 5000), 900, 40) for _ in range(2))
    expected = sum(len(set(a) & set(b)) for a, b in zip(as_lists(one), as_lists(other), strict=True))
    assert one.num_common(other, backend=backend) == other.num_common(one, backend=backend) == expected > 0
    assert one.num_common(Rows.empty(900), backend=backend) == 0


@pytest.mark.parametrize("chosen", [[4, 5, 6], [5, 6, 4], [899], [], [3, 5], [7, 7]])
def test_taken_rows(chosen):
    rows = Rows.from_ids(np.arange(3000) % 900, np.arange(3000) % 7, 900, 7)
    taken = rows.take(np.array(chosen, np.int64))
    assert as_lists(taken) == [as_lists(rows)[row] for row in chosen]


class TestFromMatrix:
    def test_interactions_and_matrices_give_the_same(self):
        rng = np.random.default_rng(0)
        data = Interactions(rng.integers(0, 30, 500), rng.integers(0, 20, 500), np.zeros(500), num_users=31)
        rows = Rows.from_matrix("train", data)
        assert as_lists(rows) == as_lists(Rows.from_matrix("train", data.tocsr()))
        assert len(rows) == 31

    def test_tocsr_of_a_subclass_is_called(self):
        class Liked(Interactions):
            def tocsr(self):
                return sp.csr_matrix(np.array([[0, 0, 1]]))

        assert as_lists(Rows.from_matrix("test", Liked([0, 0], [0, 1]))) == [[2]]

    def test_changed_interactions_are_checked_again(self):
        data = Interactions([0, 1], [1, 0])
        data.item_ids[0] = 9
        with pytest.raises(ValueError, match="item_ids must be below num_items = 2, got 9"):
            Rows.from_matrix("test", data)

    def test_neither(self):
        with pytest.raises(TypeError, match="test must be Interactions or a scipy sparse matrix, got list"):
            Rows.from_matrix("test", [[1]])
