"""Splits: Spotlight's own, with every array and both sizes kept."""

from __future__ import annotations

import numpy as np
import pytest

from spotfast.cross_validation import random_train_test_split, shuffle_interactions, user_based_train_test_split
from spotfast.hashing import murmurhash3_32
from spotfast.interactions import Interactions

SPLITS = [random_train_test_split, user_based_train_test_split]
ARRAYS = ("user_ids", "item_ids", "ratings", "timestamps", "weights")


def interactions(n=200, user_type=np.int32):
    """Every interaction can be told from its rating."""
    rng = np.random.default_rng(1)
    return Interactions(
        rng.integers(0, 40, n).astype(user_type),
        rng.integers(0, 50, n),
        ratings=np.arange(n, dtype=np.float32),
        timestamps=rng.integers(0, 1000, n),
        weights=rng.random(n),
        num_users=60,
        num_items=70,
    )


@pytest.mark.parametrize("seed", [0, 42])
def test_golden_random_split(golden, seed):
    data = Interactions(golden["windows/users"], golden["windows/items"])
    train, test = random_train_test_split(data, 0.2, np.random.RandomState(seed))
    np.testing.assert_array_equal(train.item_ids, golden[f"splits/random-{seed}/train_items"])
    np.testing.assert_array_equal(test.item_ids, golden[f"splits/random-{seed}/test_items"])


@pytest.mark.parametrize("seed", [0, 42])
@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
def test_golden_user_split(golden, seed, dtype):
    users = np.arange(1000).astype(dtype)
    train, test = user_based_train_test_split(Interactions(users, users), 0.3, np.random.RandomState(seed))
    expected = golden[f"splits/user-{seed}/test_users_of_1000"]
    np.testing.assert_array_equal(test.user_ids, expected)
    np.testing.assert_array_equal(train.user_ids, np.setdiff1d(users, expected))


@pytest.mark.parametrize(
    ("key", "seed", "value"),
    [(3, 0, 847579505), (3, 42, 2471885347), (0, 0, 593689054), (0, 42, 933211791), (-1, 0, 1982413648)],
)
def test_hash(key, seed, value):
    """Values that other implementations of MurmurHash3_x86_32 give for the four bytes of an int32."""
    hashed = murmurhash3_32(np.array([[key]]), seed)
    assert hashed.dtype == np.uint32
    assert hashed.tolist() == [[value]]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.35, 1.0])
def test_a_partition_that_keeps_everything(split, share):
    data = interactions()
    parts = split(data, share, random_state=3)
    chosen = [part.ratings.astype(int) for part in parts]
    assert sorted(np.concatenate(chosen)) == list(range(200))
    for part, rows in zip(parts, chosen, strict=True):
        assert (part.num_users, part.num_items) == (60, 70)
        for name in ARRAYS:
            values = getattr(data, name)[rows]
            np.testing.assert_array_equal(getattr(part, name), values, strict=True)
    if split is random_train_test_split:
        assert len(parts[0]) == int((1.0 - share) * 200)
    elif share in (0.0, 1.0):
        assert len(parts[0]) == (0 if share else 200)


def test_user_split_keeps_users_together_and_order():
    train, test = user_based_train_test_split(interactions(), 0.4, random_state=3)
    assert len(train) > 0 < len(test)
    assert not set(train.user_ids) & set(test.user_ids)
    for part in (train, test):
        assert (np.diff(part.ratings) > 0).all()


def test_arrays_that_are_not_there_stay_away():
    data = Interactions([0, 1, 2], [0, 1, 2])
    for part in (*random_train_test_split(data), *user_based_train_test_split(data), shuffle_interactions(data)):
        assert part.ratings is part.timestamps is part.weights is None


def test_shuffle():
    data = interactions()
    shuffled = shuffle_interactions(data, np.random.RandomState(5))
    order = np.arange(200)
    np.random.RandomState(5).shuffle(order)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(data, name)[order], strict=True)
    np.testing.assert_array_equal(data.ratings, np.arange(200))


@pytest.mark.parametrize("function", [*SPLITS, shuffle_interactions])
class TestRandomState:
    @staticmethod
    def order(function, random_state):
        result = function(interactions(), random_state=random_state)
        return np.concatenate([part.ratings for part in (result if isinstance(result, tuple) else [result])]).tolist()

    def test_seeds_are_random_states(self, function):
        assert self.order(function, 7) == self.order(function, np.int64(7))
        assert self.order(function, 7) == self.order(function, np.random.RandomState(7))
        assert self.order(function, 7) != self.order(function, 8)

    @pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
    def test_sources_are_advanced(self, function, make):
        source = make(7)
        assert self.order(function, source) == self.order(function, make(7))
        assert self.order(function, source) != self.order(function, make(7))

    def test_numpys_global_source_is_left_alone(self, function):
        before = np.random.get_state()[1].copy()
        self.order(function, None)
        self.order(function, 7)
        np.testing.assert_array_equal(np.random.get_state()[1], before)

    @pytest.mark.parametrize(
        ("random_state", "error"),
        [(-1, ValueError), (2**32, ValueError), (1.5, TypeError), ("7", TypeError), (True, TypeError)],
    )
    def test_bad_seeds(self, function, random_state, error):
        with pytest.raises(error, match=f"random_state must be None, an int .*, got {random_state!r}"):
            function(interactions(), random_state=random_state)


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("share", "error"),
    [
        (-0.1, ValueError),
        (1.1, ValueError),
        (np.nan, ValueError),
        ("0.2", TypeError),
        (True, TypeError),
        (None, TypeError),
    ],
)
def test_bad_shares(split, share, error):
    with pytest.raises(error, match=f"test_percentage must be a finite number between 0.0 and 1.0, got {share!r}"):
        split(interactions(), share)
