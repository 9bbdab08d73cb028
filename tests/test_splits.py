"""Splits by time and by user, and the k-core: every array comes along, and bad input is named."""

from __future__ import annotations

import numpy as np
import pytest

from spotfast.cross_validation import k_core, leave_one_out_split, temporal_split
from spotfast.interactions import Interactions

ARRAYS = ("user_ids", "item_ids", "ratings", "timestamps", "weights")


def interactions(count=300, users=20, items=30):
    rng = np.random.default_rng(0)
    return Interactions(
        rng.integers(0, users, count).astype(np.int32),
        rng.integers(1, items, count).astype(np.int32),
        ratings=np.arange(count, dtype=np.float32),
        timestamps=rng.integers(0, 50, count),
        weights=rng.random(count),
        num_users=users + 2,
        num_items=items + 3,
    )


def check_parts(data, *parts):
    """Every interaction is in one part, in order, with all that belongs to it."""
    rows = [part.ratings.astype(int) for part in parts]
    assert sorted(np.concatenate(rows)) == list(range(len(data)))
    for part, chosen in zip(parts, rows, strict=True):
        assert (np.diff(chosen) > 0).all()
        assert (part.num_users, part.num_items) == (data.num_users, data.num_items)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(part, name), getattr(data, name)[chosen], strict=True)


SPLITS = {
    "last": leave_one_out_split,
    "random": lambda data: leave_one_out_split(data, "random", 3),
    "time": lambda data: temporal_split(data, time=40),
    "fraction": lambda data: temporal_split(data, fraction=0.25),
}


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_a_partition_that_keeps_everything(split):
    data = interactions()
    train, test = split(data)
    check_parts(data, train, test)
    assert len(train) > 0 < len(test)


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_the_map_of_ids_is_kept(split):
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"user_id": list("aabb"), "item_id": list("xyzx"), "time": [1, 50, 3, 60]})
    data = Interactions.from_frame(frame, timestamp="time")
    for part in (*split(data), k_core(data)):
        assert part.id_map is data.id_map


@pytest.mark.parametrize("split", SPLITS.values(), ids=SPLITS)
def test_no_interactions(split):
    empty = Interactions([], [], timestamps=[], num_users=2, num_items=3)
    assert [len(part) for part in split(empty)] == [0, 0]


class TestLeaveOneOut:
    @pytest.mark.parametrize("order", ["timestamp", "random"])
    def test_one_of_each_user_with_more_than_one(self, order):
        data = interactions(60)
        train, test = leave_one_out_split(data, order, 5)
        counts = np.bincount(data.user_ids)
        assert (counts == 1).any()
        assert sorted(test.user_ids) == np.flatnonzero(counts > 1).tolist()
        assert set(np.flatnonzero(counts == 1)) <= set(train.user_ids)

    def test_the_last_by_time(self):
        train, test = leave_one_out_split(interactions())
        for user, time in zip(test.user_ids, test.timestamps, strict=True):
            assert train.timestamps[train.user_ids == user].max() <= time

    def test_equal_times_go_by_position(self):
        _, test = leave_one_out_split(Interactions([0, 1, 0, 1], [1, 2, 3, 4], timestamps=[5, 5, 5, 5]))
        assert test.item_ids.tolist() == [3, 4]

    def test_dates(self):
        dates = np.array(["2020-01-02", "2020-01-03", "2020-01-01"], "datetime64[D]")
        _, test = leave_one_out_split(Interactions([0, 0, 0], [1, 2, 3], timestamps=dates))
        assert test.item_ids.tolist() == [2]

    def test_seeds(self):
        first, second, other = (leave_one_out_split(interactions(), "random", seed)[1].ratings for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, second)
        assert (first != other).any()

    def test_bad_input(self):
        with pytest.raises(ValueError, match="order must be one of 'timestamp', 'random', got 'first'"):
            leave_one_out_split(interactions(), "first")
        with pytest.raises(ValueError, match="timestamps are needed"):
            leave_one_out_split(Interactions([0], [1]))
        with pytest.raises(TypeError, match="interactions must be Interactions, got list"):
            leave_one_out_split([1])
        assert len(leave_one_out_split(Interactions([0, 0], [1, 2]), "random")[1]) == 1


class TestTemporal:
    def test_by_time(self):
        train, test = temporal_split(interactions(), time=40)
        assert train.timestamps.max() < 40 <= test.timestamps.min()

    @pytest.mark.parametrize("fraction", [0.0, 0.1, 0.33, 1.0])
    def test_by_fraction(self, fraction):
        data = interactions()
        train, test = temporal_split(data, fraction=fraction)
        assert len(train) == int((1 - fraction) * 300)
        if len(train) and len(test):
            assert train.timestamps.max() <= test.timestamps.min()
        check_parts(data, train, test)

    def test_dates(self):
        dates = np.array(["2020-01-02", "2020-01-03", "2020-01-01"], "datetime64[s]")
        data = Interactions([0, 0, 0], [1, 2, 3], timestamps=dates)
        for time in ("2020-01-02", np.datetime64("2020-01-02")):
            assert temporal_split(data, time=time)[1].item_ids.tolist() == [1, 2]
        with pytest.raises(TypeError, match="time must be a date, as the timestamps are, got 'soon'"):
            temporal_split(data, time="soon")
        with pytest.raises(ValueError, match="time must be a date, got 'NaT'"):
            temporal_split(data, time="NaT")

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({}, ValueError, "either time or fraction must be given, got time=None and fraction=None"),
            ({"time": 1, "fraction": 0.5}, ValueError, "either time or fraction"),
            ({"fraction": 1.5}, ValueError, "fraction must be a finite number between 0.0 and 1.0, got 1.5"),
            ({"fraction": "0.5"}, TypeError, "fraction must be a finite number"),
            ({"time": np.nan}, ValueError, "time must be a finite number, got nan"),
            ({"time": "2020-01-01"}, TypeError, "time must be a finite number, got '2020-01-01'"),
        ],
    )
    def test_bad_input(self, arguments, error, message):
        with pytest.raises(error, match=message):
            temporal_split(interactions(), **arguments)

    def test_without_timestamps(self):
        with pytest.raises(ValueError, match="timestamps are needed"):
            temporal_split(Interactions([0], [1]), time=3)


class TestCore:
    @pytest.mark.parametrize(("users", "items"), [(1, 1), (3, 1), (1, 4), (5, 6), (8, 9), (99, 1)])
    def test_the_largest_part_that_has_enough(self, users, items):
        """Against taking out one user or item at a time."""
        data = interactions(200)
        pairs = set(zip(data.user_ids.tolist(), data.item_ids.tolist(), strict=True))
        while True:
            few = {u for u, _ in pairs if sum(v == u for v, _ in pairs) < users}
            rare = {i for _, i in pairs if sum(j == i for _, j in pairs) < items}
            if not few and not rare:
                break
            pairs = {(u, i) for u, i in pairs if u not in few} if few else {(u, i) for u, i in pairs if i not in rare}
        core = k_core(data, users, items)
        kept = [
            row
            for row, pair in enumerate(zip(data.user_ids.tolist(), data.item_ids.tolist(), strict=True))
            if pair in pairs
        ]
        np.testing.assert_array_equal(core.ratings, kept)
        assert (core.num_users, core.num_items) == (data.num_users, data.num_items)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(core, name), getattr(data, name)[kept], strict=True)

    def test_a_chain_that_falls_apart(self):
        """Each removal makes the next one necessary."""
        users = np.repeat(np.arange(50), 2)[1:]
        items = np.repeat(np.arange(1, 51), 2)[:-1]
        assert len(k_core(Interactions(users, items), users=2, items=2)) == 0

    def test_repeated_pairs_count_once(self):
        assert len(k_core(Interactions([0, 0, 0], [1, 1, 1]), users=2)) == 0
        assert len(k_core(Interactions([0, 0, 0], [1, 1, 2]), users=2)) == 3

    def test_bad_input(self):
        with pytest.raises(ValueError, match="users must be an integer of at least 1, got 0"):
            k_core(interactions(), users=0)
        with pytest.raises(TypeError, match="items must be an integer"):
            k_core(interactions(), items=1.5)
        with pytest.raises(TypeError, match="interactions must be Interactions"):
            k_core(None)
