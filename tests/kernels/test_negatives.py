"""Negatives in Triton equal the reference, item by item."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.ops import negatives
from spotfast.positives import Positives

pytestmark = pytest.mark.interpreter

SEED = 0x0123456789ABCDEF
SEEDS = [0, 2**31, 2**63 + 5, 2**64 - 1]
SLOTS = [1, 3]
FAR = 2**62 // 3 - 400  # positions: their draws end just below 2**62


def rows(lists, num_items):
    """Positives from a list of items per user."""
    users = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
    items = np.array([item for items in lists for item in items], np.int64)
    return Positives.from_interactions(users, items, len(lists), num_items)


def mixed(num_items):
    """Users with none, one, some, and all but one positives, whose free item is the first, the last or any."""
    random = np.random.default_rng(num_items)
    every = list(range(num_items))
    some = [random.choice(num_items, size, replace=False) for size in (1, num_items // 3, num_items // 2)]
    middle = num_items // 2
    return rows([[], *some, every[1:], every[:-1], every[:middle] + every[middle + 1 :], []], num_items)


def users_of(positives, count):
    return torch.from_numpy(np.random.default_rng(count).integers(0, len(positives.indptr) - 1, count))


def assert_unseen(items, positives, users):
    for user in range(len(positives.indptr) - 1):
        row = positives.items[positives.indptr[user] : positives.indptr[user + 1]]
        assert not torch.isin(items[users == user], row).any()
    assert ((items >= 0) & (items < positives.num_items)).all()


class TestUniform:
    @pytest.mark.parametrize("slots", SLOTS)
    @pytest.mark.parametrize("count", [0, 1, 2, 340, 341, 342, 1023, 1024, 1025])
    def test_sizes(self, same, slots, count):
        assert same(negatives.uniform, SEED, 3, 7, 7 + count, slots, 1000).shape == (count, slots)

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize(("num_items", "first"), [(1, 0), (2, 1), (10, 0), (10, 1), (2**31 - 1, 0), (2**31 - 1, 1)])
    def test_catalogues(self, same, seed, num_items, first):
        items = same(negatives.uniform, seed, 2**32 - 1, 5, 25, 3, num_items, first=first)
        assert ((items >= first) & (items < num_items)).all()

    @pytest.mark.parametrize("slots", SLOTS)
    @pytest.mark.parametrize("start", [2**31 - 3, 2**32 - 3, 2**34 + 1, FAR])
    def test_far_positions(self, same, slots, start):
        same(negatives.uniform, SEED, 3, start, start + 400, slots, 1000)

    def test_the_contract(self):
        items = negatives.uniform(SEED, 3, 0, 8, 1, 1000, backend="triton")
        assert items.flatten().tolist() == [186, 915, 976, 335, 866, 677, 724, 675]


class TestUnseen:
    @pytest.mark.parametrize("slots", SLOTS)
    @pytest.mark.parametrize("count", [0, 1, 2, 170, 171, 511, 512, 513])
    def test_sizes(self, same, slots, count):
        positives = mixed(50)
        users = users_of(positives, count)
        assert_unseen(same(negatives.unseen, SEED, 3, 7, 7 + count, slots, positives, users), positives, users)

    @pytest.mark.parametrize("seed", SEEDS)
    @pytest.mark.parametrize("num_items", [2, 3, 64, 65, 5000])
    def test_catalogues(self, same, seed, num_items):
        positives = mixed(num_items)
        users = users_of(positives, 100)
        assert_unseen(same(negatives.unseen, seed, 2**32 - 1, 0, 100, 3, positives, users), positives, users)

    def test_nobody_has_a_positive(self, same):
        for num_items in (1, 10, 2**31 - 1):
            positives = rows([[], []], num_items)
            same(negatives.unseen, SEED, 3, 0, 20, 3, positives, users_of(positives, 20))

    @pytest.mark.parametrize("slots", SLOTS)
    @pytest.mark.parametrize("start", [2**31 - 3, 2**32 - 3, 2**34 + 1, FAR])
    def test_far_positions(self, same, slots, start):
        positives = mixed(50)
        same(negatives.unseen, SEED, 3, start, start + 400, slots, positives, users_of(positives, 400))

    def test_strided_users(self, same):
        positives = mixed(50)
        same(negatives.unseen, SEED, 3, 0, 50, 3, positives, users_of(positives, 101)[1::2])

    def test_the_contract(self):
        positives = rows([[0, 1, 2, 5, 9]], 10)
        items = negatives.unseen(SEED, 3, 0, 16, 1, positives, torch.zeros(16, dtype=torch.int64), backend="triton")
        assert items.flatten().tolist() == [3, 8, 8, 4, 8, 7, 7, 7, 4, 3, 8, 4, 3, 4, 7, 8]


class TestPopularity:
    @staticmethod
    def by_popularity(same, seed, start, count, slots, positives, users, counts, power=1.0):
        thresholds = negatives.popularity_thresholds(counts, power)
        stop = start + count
        items = same(negatives.popularity, seed, 3, start, stop, slots, thresholds, positives, users)
        assert_unseen(items, positives, users)
        return items

    @pytest.mark.parametrize("slots", SLOTS)
    @pytest.mark.parametrize("count", [0, 1, 2, 42, 43, 127, 128, 129])
    def test_sizes(self, same, slots, count):
        positives = rows([[], [3], [0, 7, 49]], 50)
        counts = np.random.default_rng(1).integers(0, 20, 50)
        self.by_popularity(same, SEED, 7, count, slots, positives, users_of(positives, count), counts)

    @pytest.mark.parametrize("num_items", [2, 3, 64, 65, 3000])
    def test_catalogues(self, same, num_items):
        positives = mixed(num_items)
        counts = np.random.default_rng(num_items).zipf(1.5, num_items).clip(max=10**6)
        self.by_popularity(same, SEED, 0, 40, 3, positives, users_of(positives, 40), counts, power=0.75)

    @pytest.mark.parametrize("seed", SEEDS)
    def test_seeds(self, same, seed):
        positives = rows([[], [0, 3]], 8)
        self.by_popularity(same, seed, 5, 20, 3, positives, users_of(positives, 20), np.arange(1, 9))

    def test_one_item(self, same):
        self.by_popularity(same, SEED, 0, 10, 3, rows([[]], 1), torch.zeros(10, dtype=torch.int64), np.array([5]))

    def test_items_without_a_count_are_drawn_only_where_nothing_else_is_left(self, same):
        counts = np.array([0, 8, 0, 0, 1, 0])
        positives = rows([[1], [1, 4], []], 6)
        users = torch.arange(60) % 3
        items = self.by_popularity(same, SEED, 0, 60, 3, positives, users, counts)
        assert set(items[users == 1].flatten().tolist()) == {0, 2, 3, 5}  # after 16 attempts
        assert set(items[users == 2].flatten().tolist()) == {1, 4}

    @pytest.mark.parametrize("slots", SLOTS)
    @pytest.mark.parametrize("start", [2**31 - 3, 2**34 + 1, FAR])
    def test_far_positions(self, same, slots, start):
        positives = rows([[], [0, 3]], 8)
        self.by_popularity(same, SEED, start, 100, slots, positives, users_of(positives, 100), np.arange(1, 9))
