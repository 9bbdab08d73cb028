"""Rows of distinct items: from ids and from matrices, the same on every backend."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from spotfast import backends
from spotfast.interactions import Interactions
from spotfast.rows import MOST_MARKED, Rows

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

    @pytest.mark.parametrize("threads", [1, 3])
    @pytest.mark.parametrize("order", ["ascending", "descending", "any"])
    def test_long_rows_in_any_order(self, backend, set_threads, order, threads):
        """Sorted by marks, which nothing is left of for the next row; ids are on both sides of a summary's word."""
        set_threads(threads)
        rng = np.random.default_rng(2)
        users, items = rng.integers(0, 50, 200_000), rng.integers(0, 9_000, 200_000)
        items[users % 7 == 0] %= 3  # many repetitions
        if order != "any":
            place = np.lexsort((items, users))
            users, items = (ids[place if order == "ascending" else place[::-1]] for ids in (users, items))
        keys = np.unique(users * 9_000 + items)
        rows = Rows.from_ids(users, items, 51, 9_000, backend=backend)
        np.testing.assert_array_equal(np.repeat(np.arange(51), rows.counts()), keys // 9_000)
        np.testing.assert_array_equal(rows.items, keys % 9_000)
        assert rows.bound == items.max() + 1

    def test_few_interactions_of_a_large_catalogue(self, backend):
        rows = Rows.from_ids(np.array([1, 1]), np.array([2**31 - 2, 5]), 2, 2**31 - 1, backend=backend)
        assert MOST_MARKED < 2**31 - 1
        assert rows.bound == 2**31 - 1
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


@every_backend
@pytest.mark.parametrize("few", [1, 7, 8, 9, 17])
@pytest.mark.parametrize("many", [0, 1, 8, 16, 17, 100])
def test_common_items_of_rows_of_any_length(backend, few, many):
    """Blocks of eight are compared at once."""
    rng = np.random.default_rng(few * many)
    for size in (many + few, 1000):
        one, other = (np.sort(rng.choice(size, count, replace=False)) for count in (few, many))
        rows, others = Rows(np.array([0, few]), one), Rows(np.array([0, many]), other)
        expected = len(np.intersect1d(one, other))
        assert rows.num_common(others, backend=backend) == others.num_common(rows, backend=backend) == expected


@pytest.mark.parametrize("chosen", [[4, 5, 6], [5, 6, 4], [899], [], [3, 5], [7, 7]])
def test_taken_rows(chosen):
    rows = Rows.from_ids(np.arange(3000) % 900, np.arange(3000) % 7, 900, 7)
    taken = rows.take(np.array(chosen, np.int64))
    assert as_lists(taken) == [as_lists(rows)[row] for row in chosen]


@pytest.mark.parametrize(("chosen", "shared"), [([4, 5, 6], True), ([2, 4, 8], True), ([4, 6], False), ([5, 4], False)])
def test_rows_without_items_between_them_are_not_copied(chosen, shared):
    counts = np.array([1, 2, 3, 0, 2, 3, 1, 0, 2])
    counts[[5, 6]] = counts[[5, 6]] if 6 in chosen else 0
    rows = Rows(np.append(0, counts.cumsum()), np.arange(counts.sum()), 100)
    taken = rows.take(np.array(chosen))
    assert as_lists(taken) == [as_lists(rows)[row] for row in chosen]
    assert np.shares_memory(taken.items, rows.items) is shared
    assert taken.bound == 100


@pytest.mark.parametrize("bound", [None, 8])
def test_within(bound):
    rows = Rows(np.array([0, 2, 2]), np.array([3, 7]), bound)
    assert rows.within(8) and not rows.within(7)
    assert Rows.empty(2).within(0) and rows.take(np.array([1])).within(0)
    assert not Rows(np.array([0, 1]), np.array([-1])).within(8)


class TestFromMatrix:
    @pytest.mark.parametrize("backend", ["auto", "reference"])
    @pytest.mark.parametrize("matrix", [False, True])
    @pytest.mark.parametrize("users", [[], [0], [3, 17, 40], np.arange(30)])
    def test_of_some_users_only(self, backend, users, matrix, monkeypatch):
        """Users beyond the matrix have no items in it."""
        monkeypatch.setenv("SPOTFAST_BACKEND", backend)
        rng = np.random.default_rng(0)
        data = Interactions(rng.integers(0, 30, 500), rng.integers(0, 20, 500), np.ones(500), num_users=31)
        data = data.tocsr() if matrix else data
        every, some = as_lists(Rows.from_matrix("x", data)), Rows.from_matrix("x", data, np.array(users, np.int64))
        assert as_lists(some) == [items if user in users else [] for user, items in enumerate(every)]
        assert some.bound == 1 + max((items[-1] for items in as_lists(some) if items), default=-1)
        assert some.indptr.dtype == some.items.dtype == np.int64

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
