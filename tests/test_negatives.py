"""Negative items: the contract, their distributions, never a positive, and no trace of threads or of cuts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from spotfast import backends
from spotfast.ops import negatives
from spotfast.positives import Positives

SEED = 0x0123456789ABCDEF
every_backend = pytest.mark.parametrize("backend", backends.OPERATIONS["negatives"]["cpu"])
every_number_of_slots = pytest.mark.parametrize("slots", [1, 2, 5, 33])
# Positions whose draws, and blocks of four draws, are below, across and beyond what 32 bits hold.
every_start = pytest.mark.parametrize("start", [0, 1, 7, 2**31 - 3, 2**32 - 3, 2**34 + 1, 2**40])


def rows(lists, num_items):
    pairs = [(user, item) for user, items in enumerate(lists) for item in items]
    users, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Positives.from_interactions(users, items, len(lists), num_items)


def row(positives, user):
    return positives.items[positives.indptr[user] : positives.indptr[user + 1]].tolist()


# Nothing, ends, gaps, a block, all but one, and all of 12 items but the last two.
LISTS = [[], [0], [11], [0, 11], [2, 3, 5, 9], [4, 5, 6, 7, 8], [*range(7), *range(8, 12)], [*range(10)]]
POSITIVES = rows(LISTS, 12)
COUNTS = np.array([50, 0, 3, 1, 0, 8, 20, 1, 1, 0, 0, 4])
THRESHOLDS = negatives.popularity_thresholds(COUNTS)


def users_of(count):
    return torch.arange(count) % len(LISTS)


@every_backend
class TestUniform:
    @every_number_of_slots
    @every_start
    @pytest.mark.parametrize(("num_items", "first"), [(1, 0), (2, 1), (1000, 0), (1000, 1), (2**31 - 1, 1)])
    def test_the_contract(self, backend, contract, slots, start, num_items, first):
        drawn = negatives.uniform(SEED, 3, start, start + 7, slots, num_items, first=first, backend=backend)
        assert drawn.dtype == torch.int64
        assert drawn.tolist() == [
            [contract.uniform_negative(SEED, 3, start + i, slot, slots, num_items, first) for slot in range(slots)]
            for i in range(7)
        ]

    @pytest.mark.parametrize("slots", [1, 5])
    def test_threads_and_cuts(self, backend, set_threads, slots):
        def draw(start, stop):
            return negatives.uniform(SEED, 3, start, stop, slots, 1000, backend=backend)

        check_threads_and_cuts(set_threads, draw, 40_000 // slots)

    def test_distribution(self, backend):
        drawn = negatives.uniform(1, 0, 0, 20_000, 1, 50, first=10, backend=backend)
        assert stats.chisquare(np.bincount(drawn.ravel(), minlength=50)[10:]).pvalue > 0.001


@every_backend
class TestUnseen:
    @every_number_of_slots
    @every_start
    def test_the_contract(self, backend, contract, slots, start):
        users = users_of(17)
        drawn = negatives.unseen(SEED, 3, start, start + 17, slots, POSITIVES, users, backend=backend)
        assert drawn.dtype == torch.int64
        assert drawn.tolist() == [
            [contract.unseen_negative(SEED, 3, start + i, slot, slots, 12, LISTS[user]) for slot in range(slots)]
            for i, user in enumerate(users)
        ]

    @settings(max_examples=30, deadline=None)
    @given(data=st.data())
    def test_any_positives(self, backend, contract, data):
        num_items = data.draw(st.integers(1, 40))
        lists = data.draw(st.lists(st.sets(st.integers(0, num_items - 1), max_size=num_items - 1), min_size=1))
        seed = data.draw(st.integers(0, 2**64 - 1))
        drawn = negatives.unseen(
            seed, 0, 5, 5 + len(lists), 3, rows(lists, num_items), torch.arange(len(lists)), backend=backend
        )
        assert drawn.tolist() == [
            [contract.unseen_negative(seed, 0, 5 + user, slot, 3, num_items, items) for slot in range(3)]
            for user, items in enumerate(lists)
        ]

    @pytest.mark.parametrize("slots", [1, 3, 4, 11, 12, 17, 33])
    def test_rows_of_any_length(self, backend, contract, slots):
        """How a row is searched depends on its length, and on how many draws share it."""
        rng = np.random.default_rng(0)
        lists = [np.sort(rng.choice(900, size, replace=False)) for size in [*range(0, 70, 3), 63, 64, 65, 200, 899]]
        drawn = negatives.unseen(
            SEED, 3, 5, 5 + len(lists), slots, rows(lists, 900), torch.arange(len(lists)), backend=backend
        )
        assert drawn.tolist() == [
            [contract.unseen_negative(SEED, 3, 5 + user, slot, slots, 900, items) for slot in range(slots)]
            for user, items in enumerate(lists)
        ]

    @pytest.mark.parametrize("slots", [1, 5])
    def test_threads_and_cuts(self, backend, set_threads, slots):
        count = 40_000 // slots
        users = users_of(count)

        def draw(start, stop):
            return negatives.unseen(SEED, 3, start, stop, slots, POSITIVES, users[start:stop], backend=backend)

        check_threads_and_cuts(set_threads, draw, count)

    @pytest.mark.parametrize("slots", [1, 3])
    def test_many_draws_for_users_in_random_order(self, backend, set_threads, slots):
        """So many that they are worth sorting by user, with users beyond the number of buckets."""
        rng = np.random.default_rng(0)
        lists = [np.flatnonzero(rng.random(40) < 0.3) for _ in range(1000)]
        positives, count = rows(lists, 40), 600_000 // slots
        users = torch.from_numpy(rng.integers(0, 1000, count))
        expected = [
            negatives.unseen(SEED, 3, start, start + 20_000, slots, positives, users[start : start + 20_000])
            for start in range(0, count, 20_000)
        ]
        for threads in (1, 2):
            set_threads(threads)
            drawn = negatives.unseen(SEED, 3, 0, count, slots, positives, users, backend=backend)
            assert torch.equal(drawn, torch.cat(expected))

    def test_distribution(self, backend):
        """Uniform over exactly the items that are left."""
        for user, positives in enumerate(LISTS):
            users = torch.full((5000,), user)
            drawn = negatives.unseen(user, 0, 0, 5000, 1, POSITIVES, users, backend=backend)
            counts = np.bincount(drawn.ravel(), minlength=12)
            assert not counts[positives].any()
            left = np.delete(counts, positives)
            assert left.sum() == 5000
            assert len(left) == 1 or stats.chisquare(left).pvalue > 0.001

    def test_largest_catalogue(self, backend):
        ends = rows([[0, 2**31 - 2], []], 2**31 - 1)
        drawn = negatives.unseen(SEED, 3, 0, 400, 1, ends, torch.arange(400) % 2, backend=backend)
        words = negatives.uniform(SEED, 3, 0, 400, 1, 2**31 - 1, backend="reference")
        assert torch.equal(drawn[1::2], words[1::2])
        assert 0 < drawn.min() < drawn.max() < 2**31 - 2

    def test_strided_users(self, backend):
        strided = users_of(40)[1::2]
        drawn = negatives.unseen(SEED, 3, 0, 20, 2, POSITIVES, strided, backend=backend)
        assert torch.equal(drawn, negatives.unseen(SEED, 3, 0, 20, 2, POSITIVES, strided.clone(), backend=backend))


@every_backend
class TestPopularity:
    @every_number_of_slots
    @every_start
    def test_the_contract(self, backend, contract, slots, start):
        users = users_of(17)
        drawn = negatives.popularity(SEED, 3, start, start + 17, slots, THRESHOLDS, POSITIVES, users, backend=backend)
        assert drawn.dtype == torch.int64
        limits = THRESHOLDS.tolist()
        assert drawn.tolist() == [
            [
                contract.popularity_negative(SEED, 3, start + i, slot, slots, 12, LISTS[user], limits)
                for slot in range(slots)
            ]
            for i, user in enumerate(users)
        ]

    @pytest.mark.parametrize("slots", [1, 5])
    def test_threads_and_cuts(self, backend, set_threads, slots):
        count = 40_000 // slots
        users = users_of(count)

        def draw(start, stop):
            chosen = users[start:stop]
            return negatives.popularity(SEED, 3, start, stop, slots, THRESHOLDS, POSITIVES, chosen, backend=backend)

        check_threads_and_cuts(set_threads, draw, count)

    def test_distribution(self, backend):
        for user in (0, 4, 5):
            users = torch.full((5000,), user)
            drawn = negatives.popularity(9, 0, 0, 5000, 1, THRESHOLDS, POSITIVES, users, backend=backend)
            expected = COUNTS.astype(float)
            expected[LISTS[user]] = 0
            counts = np.bincount(drawn.ravel(), minlength=12)
            assert not counts[expected == 0].any()
            expected = expected[expected > 0]
            chi2 = stats.chisquare(counts[counts > 0], expected / expected.sum() * 5000)
            assert chi2.pvalue > 0.001

    def test_only_items_without_a_count_are_left(self, backend):
        """After 16 attempts the draw is uniform over what is left, whatever its count."""
        positives = rows([np.flatnonzero(COUNTS)], 12)
        drawn = negatives.popularity(
            9, 0, 0, 3000, 1, THRESHOLDS, positives, torch.zeros(3000, dtype=torch.int64), backend=backend
        )
        counts = np.bincount(drawn.ravel(), minlength=12)
        assert not counts[COUNTS > 0].any()
        assert stats.chisquare(counts[COUNTS == 0]).pvalue > 0.001


def check_threads_and_cuts(set_threads, draw, count):
    set_threads(1)
    whole = draw(0, count)
    assert whole.shape[0] == count
    set_threads(2)
    assert torch.equal(draw(0, count), whole)
    cuts = [0, 0, 1, 6, count // 2 + 1, count]
    assert torch.equal(torch.cat([draw(*ends) for ends in zip(cuts, cuts[1:], strict=False)]), whole)


@pytest.mark.parametrize(
    ("counts", "power", "shares"),
    [
        ([1, 0, 3], 1.0, [0.25, 0.0, 0.75]),
        ([1, 16], 0.75, [1 / 9, 8 / 9]),
        ([0, 5, 2], 0.0, [0.0, 0.5, 0.5]),
        ([7], 1.0, [1.0]),
        (np.array([2.0, 6.0], np.float32), 1.0, [0.25, 0.75]),
    ],
)
def test_thresholds(counts, power, shares):
    thresholds = negatives.popularity_thresholds(np.asarray(counts), power)
    assert thresholds.tolist() == np.floor(np.cumsum(shares[:-1]) * 2**32).tolist()


@pytest.mark.parametrize("duplicates", [1, 128, 256, 300])
def test_positives_of_repeated_interactions(duplicates):
    """However often an interaction repeats, the item is a positive once."""
    users, items = np.repeat([1, 1, 3], duplicates), np.repeat([4, 2, 0], duplicates)
    positives = Positives.from_interactions(users, items, 5, 6)
    assert [row(positives, user) for user in range(5)] == [[], [2, 4], [], [0], []]
    kept = positives.without(torch.tensor([False, True, False, False, False]))
    assert [row(kept, user) for user in range(5)] == [[], [], [], [0], []]


FULL = rows([[0, 1, 2], [1]], 3)
ZEROS = torch.zeros(4, dtype=torch.int64)
uniform, unseen, popularity = negatives.uniform, negatives.unseen, negatives.popularity


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: uniform(0, 0, 0, 4, 0, 10), "slots must be an integer of at least 1, got 0"),
        (lambda: uniform(0, 0, 0, 2**61, 4, 10), "stop must be an integer between 0 and 1152921504606846976, got"),
        (lambda: uniform(0, 0, 0, 4, 1, 1, first=1), "num_items must be an integer between 2 and 2147483647, got 1"),
        (lambda: uniform(0, 0, 0, 4, 1, 2**31), "num_items .* got 2147483648"),
        (lambda: unseen(0, 0, 0, 4, 1, FULL, ZEROS + 2), r"users must be in \[0, 2\), got 2 .. 2"),
        (lambda: unseen(0, 0, 0, 4, 1, FULL, ZEROS - 1), r"users must be in \[0, 2\), got -1 .. -1"),
        (lambda: unseen(0, 0, 0, 4, 1, FULL, ZEROS[:3]), r"users must be int64 of shape \(4,\).* got .* \(3,\)"),
        (lambda: unseen(0, 0, 0, 4, 1, FULL, ZEROS.int()), "users must be int64 .* got torch.int32"),
        (lambda: unseen(0, 0, 0, 4, 1, FULL, ZEROS), "every one of the 3 items is a positive of user 0"),
        (lambda: popularity(0, 0, 0, 4, 1, ZEROS[:2], FULL, ZEROS), "every one of the 3 items .* user 0"),
        (lambda: popularity(0, 0, 0, 4, 1, ZEROS, FULL, ZEROS + 1), r"thresholds .* shape \(2,\).* got \(4,\)"),
        (lambda: negatives.popularity_thresholds(np.zeros(3)), "counts must not all be 0"),
        (lambda: negatives.popularity_thresholds(np.array([1, -2])), "counts must not be negative, got .*-2.* 1"),
        (lambda: negatives.popularity_thresholds(np.array([1, np.nan])), "counts must be finite, got .*nan"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_full_user_does_not_hinder_others():
    assert set(unseen(0, 0, 0, 4, 9, FULL, ZEROS + 1).ravel().tolist()) == {0, 2}
