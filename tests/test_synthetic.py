"""Made-up data: Spotlight's chain to the bit, and the shape of what imitates real data."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

from spotfast.datasets.synthetic import generate_popular, generate_sequential
from spotfast.parallel import synthetic


def chain(users, items, count, concentration, order, source):
    """The same by numpy alone, a step at a time."""
    size = items - 1
    matrix = source.dirichlet(np.repeat(concentration, size), size)
    for _ in range(100):
        sums = np.concatenate([matrix.sum(0), matrix.sum(1)])
        if (np.abs(1 - sums) < 1e-3).all():
            break
        matrix /= matrix.sum(0)
        matrix /= matrix.sum(1)[:, None]
    legacy = isinstance(source, np.random.RandomState)
    user_ids = np.sort((source.randint if legacy else source.integers)(0, users, count, dtype=np.int32))
    numbers = source.random_sample(count) if legacy else source.random(count)
    state = (source.randint if legacy else source.integers)(0, size, order, dtype=np.int64)
    cumulative = np.cumsum(matrix, axis=1)
    found = []
    for number in numbers:
        new = min(size - 1, int(np.searchsorted(cumulative[state].mean(0), number)))
        state = np.append(state[1:], new)
        found.append(new + 1)
    return user_ids, np.array(found)


class TestSequential:
    def test_golden(self, golden):
        data = generate_sequential(10, 50, 200, 0.05, 2, np.random.RandomState(7))
        np.testing.assert_array_equal(data.user_ids, golden["synthetic/users"])
        np.testing.assert_array_equal(data.item_ids, golden["synthetic/items"])

    @pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
    @pytest.mark.parametrize("order", [1, 2, 3, 9, 20])
    @pytest.mark.parametrize(("items", "concentration"), [(2, 1.0), (3, 0.5), (40, 0.1), (150, 2.0)])
    def test_equals_a_loop_in_numpy(self, items, concentration, order, make):
        source, other = make(order), make(order)
        data = generate_sequential(7, items, 500, concentration, order, source)
        users, expected = chain(7, items, 500, concentration, order, other)
        np.testing.assert_array_equal(data.user_ids, users)
        np.testing.assert_array_equal(data.item_ids, expected)
        assert source.random() == other.random()  # advanced as far

    def test_attributes(self):
        data = generate_sequential(num_users=50, num_items=20, num_interactions=30, random_state=0)
        assert (data.num_users, data.num_items, len(data)) == (50, 20, 30)
        assert [data.user_ids.dtype, data.item_ids.dtype, data.timestamps.dtype] == [np.int32] * 3
        assert data.ratings.dtype == np.float32
        assert data.weights is None
        assert data.ratings.tolist() == [1.0] * 30
        assert data.timestamps.tolist() == list(range(30))
        assert data.user_ids.tolist() == sorted(data.user_ids)
        assert 1 <= data.item_ids.min() <= data.item_ids.max() < 20

    def test_defaults(self):
        data = generate_sequential()
        assert (data.num_users, data.num_items, len(data)) == (100, 1000, 10000)

    def test_an_int_is_a_seed(self):
        one, two, other = (
            generate_sequential(5, 30, 100, random_state=seed) for seed in (3, np.random.RandomState(3), 4)
        )
        np.testing.assert_array_equal(one.item_ids, two.item_ids)
        assert not np.array_equal(one.item_ids, other.item_ids)

    def test_no_item_is_popular_and_the_next_depends_on_the_last(self):
        items = generate_sequential(10, 50, 50_000, 0.01, 1, random_state=0).item_ids
        assert np.bincount(items, minlength=50)[1:].min() > 50_000 / 49 / 2
        pairs = np.bincount(items[:-1] * 50 + items[1:])
        assert np.sort(pairs)[::-1][:98].sum() > 25_000  # two followers of each item make up most of all pairs

    @pytest.mark.parametrize(
        ("error", "arguments", "message"),
        [
            (ValueError, {"num_users": 0}, "num_users must be an integer between 1 and 2147483647, got 0"),
            (ValueError, {"num_items": 1}, "num_items must be an integer between 2 and 2147483647, got 1"),
            (ValueError, {"num_interactions": 0}, "num_interactions must be an integer between 1 and .*, got 0"),
            (ValueError, {"order": 0}, "order must be an integer of at least 1, got 0"),
            (
                ValueError,
                {"concentration_parameter": 0},
                "concentration_parameter must be a finite number above 0.*got 0",
            ),
            (ValueError, {"concentration_parameter": np.nan}, "concentration_parameter must be .* got nan"),
            (
                ValueError,
                {"concentration_parameter": 1e-9},
                "concentration_parameter must be larger for 999 items, got",
            ),
            (ValueError, {"random_state": -1}, r"random_state must be .*, got -1"),
            (TypeError, {"num_users": 2.5}, r"num_users must be an integer .*, got 2\.5"),
            (TypeError, {"concentration_parameter": "much"}, "concentration_parameter must be .*, got 'much'"),
            (TypeError, {"random_state": "seed"}, "random_state must be .*, got 'seed'"),
        ],
    )
    def test_bad_arguments(self, error, arguments, message):
        with pytest.raises(error, match=message):
            generate_sequential(**arguments)

    def test_a_source_is_not_advanced_in_vain(self):
        source = np.random.RandomState(0)
        with pytest.raises(ValueError, match="concentration_parameter must be larger"):
            generate_sequential(concentration_parameter=1e-9, random_state=source)
        assert source.randint(100) == np.random.RandomState(0).randint(100)


def pairs(data):
    return np.unique(data.user_ids.astype(np.int64) * data.num_items + data.item_ids)


class TestPopular:
    @pytest.mark.parametrize(
        ("users", "items", "count"),
        [(200, 500, 9_000), (1, 2, 1), (3, 2, 2), (30, 11, 300), (30, 11, 299), (50, 400, 40), (5, 3000, 9_000)],
    )
    def test_as_many_distinct_pairs_as_asked_for(self, users, items, count):
        data = generate_popular(users, items, count, random_state=0)
        assert (data.num_users, data.num_items, len(data), len(pairs(data))) == (users, items, count, count)
        assert [data.user_ids.dtype, data.item_ids.dtype, data.timestamps.dtype] == [np.int32] * 3
        assert data.ratings.dtype == np.float32
        assert data.item_ids.min() >= 1
        assert np.bincount(data.user_ids, minlength=users).min() >= min(20, count // users, items - 1)
        assert (np.lexsort((data.timestamps, data.user_ids)) == np.arange(count)).all()
        assert 789_652_009 <= data.timestamps.min() <= data.timestamps.max() <= 1_427_784_002
        assert set(np.unique(data.ratings)) <= set(np.arange(1, 11) / 2)

    @pytest.mark.parametrize("exponent", [0.0, 1.0, 10.0])
    @pytest.mark.parametrize("spread", [0.0, 1.2, 10.0])
    def test_extreme_shapes(self, exponent, spread):
        data = generate_popular(100, 300, 20_000, exponent, spread, random_state=0)
        assert len(pairs(data)) == 20_000
        counts = np.bincount(data.user_ids, minlength=100)
        assert (counts.min() == counts.max() == 200) == (spread == 0.0)

    def test_one_seed_is_one_data_set_for_any_number_of_threads(self, set_threads):
        made = []
        for threads, seed in ((1, 5), (2, 5), (2, np.random.RandomState(5)), (2, 6), (2, np.random.default_rng(5))):
            set_threads(threads)
            made.append(generate_popular(1000, 200, 30_000, random_state=seed))
        for other, same in zip(made[1:], (True, True, False, False), strict=True):
            for name in ("user_ids", "item_ids", "ratings", "timestamps"):
                assert np.array_equal(getattr(made[0], name), getattr(other, name)) == same

    def test_popularity_falls_as_said(self):
        """With few items per user, repeated draws hardly matter: each item's share is that of its rank."""
        data = generate_popular(100_000, 1001, 200_000, 2.0, 0.0, random_state=0)
        shares = np.sort(np.bincount(data.item_ids, minlength=1001))[::-1][:1000] / 200_000
        expected = (50.0 + np.arange(1, 1001)) ** -2
        expected /= expected.sum()
        assert np.abs(shares[:20] / expected[:20] - 1).max() < 0.1
        assert np.abs(shares[:500].sum() - expected[:500].sum()) < 0.01
        assert not np.array_equal(np.argsort(-np.bincount(data.item_ids)[1:])[:50], np.arange(50))

    @pytest.mark.parametrize("heavy", [[], [1e12]], ids=["in turns", "the rest at once"])
    def test_odds_of_what_is_drawn(self, heavy):
        """Two items of weights 4, 2, 1: the odds of each pair are known. After a heavy item all draws are in vain."""
        weights = np.array([*heavy, 4.0, 2.0, 1.0])
        users, count = 40_000, len(weights) - 1
        out = np.full(users * count, -1, np.int32)
        seeds = np.random.default_rng(0).integers(0, 2**64, users, dtype=np.uint64)
        synthetic.distinct_items(np.arange(users + 1) * count, weights, np.cumsum(weights), seeds, out)
        rows = out.reshape(users, count)
        assert (rows[:, : len(heavy)] == 0).all()
        first, second = rows[:, len(heavy) :].T - len(heavy)
        for a, b in itertools.permutations(range(3), 2):
            odds = (4, 2, 1)[a] / 7 * (4, 2, 1)[b] / (7 - (4, 2, 1)[a])
            assert abs(((first == a) & (second == b)).mean() - odds) < 5 * np.sqrt(odds / users)

    def test_activity_is_log_normal(self):
        counts = np.bincount(generate_popular(20_000, 20_000, 4_000_000, activity_spread=1.0, random_state=0).user_ids)
        middle = np.log(counts[counts > 20])
        assert np.log(counts).std() == pytest.approx(1.0, abs=0.1)
        assert np.median(middle) == pytest.approx(np.log(200) - 0.5, abs=0.1)  # the mean is exp(1 / 2) times the median

    def test_ratings_lean_with_users_and_items(self):
        data = generate_popular(2000, 500, 200_000, random_state=0)
        assert 3.2 < data.ratings.mean() < 3.8
        assert 0.9 < data.ratings.std() < 1.2
        for ids in (data.user_ids, data.item_ids):
            counts = np.bincount(ids)
            means = np.bincount(ids, data.ratings)[counts > 50] / counts[counts > 50]
            assert means.std() > 0.3

    @pytest.mark.parametrize(
        ("error", "arguments", "message"),
        [
            (ValueError, {"num_users": 0}, "num_users must be an integer between 1 and 2147483647, got 0"),
            (ValueError, {"num_items": 1}, "num_items must be an integer between 2 and 2147483647, got 1"),
            (ValueError, {"num_users": 3, "num_items": 5, "num_interactions": 13}, "between 1 and 12, got 13"),
            (
                ValueError,
                {"popularity_exponent": -1},
                "popularity_exponent must be a finite number between 0.0 and 10.0",
            ),
            (ValueError, {"activity_spread": np.inf}, "activity_spread must be a finite number between .*, got inf"),
            (TypeError, {"num_interactions": 1e6}, "num_interactions must be an integer .* of type float"),
            (TypeError, {"random_state": "seed"}, "random_state must be .*, got 'seed'"),
        ],
    )
    def test_bad_arguments(self, error, arguments, message):
        with pytest.raises(error, match=message):
            generate_popular(**arguments)

    @pytest.mark.slow
    def test_the_size_of_movielens_20m(self):
        data = generate_popular(random_state=0)
        assert repr(data) == "<Interactions dataset (138493 users x 26745 items x 20000263 interactions)>"
        assert len(pairs(data)) == len(data)
        assert np.bincount(data.item_ids, minlength=26_745)[1:].min() > 0


SMALL = {"num_users": 9, "num_items": 30, "num_interactions": 200}


@pytest.mark.parametrize(
    ("generate", "arguments"),
    [
        *((generate_sequential, {**SMALL, "order": order}) for order in (1, 3, 9)),
        (generate_popular, {"num_users": 300, "num_items": 400, "num_interactions": 9_000}),
        # So uneven that the last are drawn at once.
        (generate_popular, {**SMALL, "num_interactions": 250, "popularity_exponent": 10.0}),
        (generate_popular, {**SMALL, "num_interactions": 9 * 29}),
        (generate_popular, {"num_users": 50, "num_items": 9, "num_interactions": 3}),
    ],
)
def test_the_same_without_numba(generate, arguments, monkeypatch):
    expected = generate(**arguments, random_state=4)
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "spotfast.parallel.synthetic")
    made = generate(**arguments, random_state=4)
    for name in ("user_ids", "item_ids", "ratings", "timestamps"):
        np.testing.assert_array_equal(getattr(made, name), getattr(expected, name), strict=True)
