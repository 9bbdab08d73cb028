"""Arrays of every kind that holds ids and numbers mean what they say, or are refused."""

from __future__ import annotations

import warnings
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest

from spotfast.cross_validation import temporal_split
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel


@pytest.fixture(scope="module")
def of_users():
    model = ImplicitFactorizationModel(n_iter=1, embedding_dim=4)
    model.fit(Interactions([0, 1, 2], [1, 2, 3], num_items=5))
    return model


@pytest.fixture(scope="module")
def of_sequences():
    model = ImplicitSequenceModel(n_iter=1, embedding_dim=4)
    model.fit(SequenceInteractions([[1, 2], [3, 4]]))
    return model


class TestMasked:
    HIDDEN = np.ma.array([1, 2, 3], mask=[0, 0, 1])
    WHOLE = np.ma.array([1, 2, 3], mask=[0, 0, 0])

    @pytest.mark.parametrize("name", ["user_ids", "item_ids", "ratings", "weights", "timestamps"])
    def test_interactions(self, name):
        arrays = {"user_ids": [1, 2, 3], "item_ids": [1, 2, 3]}
        message = f"{name} must hold no masked values, got 1, the first at position 2"
        with pytest.raises(ValueError, match=message):
            Interactions(**{**arrays, name: self.HIDDEN})
        data = Interactions(**{**arrays, name: self.WHOLE})
        assert type(getattr(data, name)) is np.ndarray
        assert getattr(data, name).tolist() == [1, 2, 3]
        setattr(data, name, self.HIDDEN)
        with pytest.raises(ValueError, match=message):
            data.check()

    def test_sequences(self):
        for name in ("sequences", "user_ids"):
            values = {"sequences": np.array([[1, 2, 3]]), "user_ids": np.array([1])}
            values[name] = np.ma.array(values[name], mask=values[name] == values[name].max())
            with pytest.raises(ValueError, match=f"{name} must hold no masked values, got 1"):
                SequenceInteractions(**values)

    def test_predictions(self, of_users, of_sequences):
        hidden = np.ma.array([1, 2], mask=[0, 1])
        for ask in (of_users.predict, of_users.recommend, of_users.similar_users):
            with pytest.raises(ValueError, match="user_ids must hold no masked values"):
                ask(hidden)
        for ask in (of_users.predict, of_users.recommend):
            with pytest.raises(ValueError, match="item_ids must hold no masked values"):
                ask(1, item_ids=hidden)
        with pytest.raises(ValueError, match=r"exclude\[0\] must hold no masked values"):
            of_users.recommend([1], exclude=[hidden])
        for ask in (of_sequences.predict, of_sequences.recommend):
            with pytest.raises(ValueError, match="sequences must hold no masked values"):
                ask(hidden)


class TestByteOrder:
    @pytest.mark.parametrize("dtype", [">i2", ">i4", ">i8", ">u4", ">f4", ">f8", "<i4", "<i8"])
    def test_interactions(self, dtype):
        values = np.array([1, 2], dtype)
        data = Interactions(values, values, ratings=values, weights=values, timestamps=values)
        for array in (data.user_ids, data.item_ids, data.ratings, data.weights, data.timestamps):
            assert array.tolist() == [1, 2]
            assert array.dtype.isnative
        data.item_ids = np.array([7, -1], dtype) if dtype[1] != "u" else np.array([7, 3], dtype)
        with pytest.raises(ValueError, match=r"item_ids must (not be negative|be below num_items = 3), got"):
            data.check()
        times = np.array(["2020-01-02", "2020-01-01"], ">M8[s]")
        assert Interactions([0, 0], [1, 2], timestamps=times).to_sequence(2).sequences.tolist() == [[2, 1]]

    @pytest.mark.parametrize("dtype", [">i4", ">i8"])
    def test_predictions(self, dtype, of_users, of_sequences):
        ids = np.array([1, 2], dtype)
        assert np.array_equal(of_users.predict(ids, ids), of_users.predict([1, 2], [1, 2]))
        assert np.array_equal(of_users.recommend(ids, 3)[0], of_users.recommend([1, 2], 3)[0])
        assert np.array_equal(of_sequences.predict(ids), of_sequences.predict([1, 2]))
        assert SequenceInteractions(ids.reshape(1, 2)).sequences.tolist() == [[1, 2]]


class TestObjects:
    def test_python_integers(self, of_users):
        values = np.array([1, 2, np.int8(3)], object)
        data = Interactions(values, values)
        assert data.user_ids.dtype == data.item_ids.dtype == np.int64
        assert data.item_ids.tolist() == [1, 2, 3]
        assert Interactions(np.array([], object), [], num_users=1, num_items=1).user_ids.dtype == np.int64
        assert np.array_equal(of_users.predict(np.array([1, 2], object)), of_users.predict([1, 2]))

    @pytest.mark.parametrize(
        ("values", "error", "message"),
        [
            ([1, 2.0], TypeError, "must hold integers, got dtype object, for example 2.0"),
            ([1, True], TypeError, "must hold integers, got dtype object, for example True"),
            ([1, None], TypeError, "must hold integers, got dtype object, for example None"),
            ([1, 10**30], ValueError, f"must be at most 2147483646, got {10**30}"),
            ([1, -(10**30)], ValueError, f"must be at most 2147483646, got {10**30}"),
            ([1, -1], ValueError, "must not be negative, got -1 at position 1"),
        ],
    )
    def test_others_are_refused(self, values, error, message):
        with pytest.raises(error, match=f"user_ids {message}"):
            Interactions(np.array(values, object), [1, 2])


class TestBooleans:
    CLICKS = np.array([True, False, True])

    def test_ratings_are_0_and_1(self):
        for ratings in (self.CLICKS, self.CLICKS.tolist()):
            data = Interactions([0, 0, 1], [1, 2, 3], ratings=ratings)
            assert data.ratings.dtype == np.float32
            assert data.ratings.tolist() == [1, 0, 1]
        data.ratings = self.CLICKS
        assert data.tocsr().sum() == 2

    @pytest.mark.parametrize("loss", ["logistic", "regression", "poisson"])
    def test_train_the_same_model(self, loss):
        histories = []
        for ratings in (self.CLICKS, [1, 0, 1]):
            model = ExplicitFactorizationModel(loss, n_iter=2, random_state=0)
            model.fit(Interactions([0, 0, 1], [1, 2, 3], ratings=ratings))
            histories.append(model.history)
        assert histories[0] == histories[1]


class TestTimes:
    ZONE = timezone(timedelta(hours=2))

    def test_with_a_zone_are_in_utc(self):
        pd = pytest.importorskip("pandas")
        at = [datetime(2020, 1, 1, 1, tzinfo=self.ZONE), datetime(2020, 1, 1, 0, tzinfo=UTC)]
        expected = np.array(["2019-12-31T23", "2020-01-01T00"], "M8[ns]")
        for times in (at, np.array(at), pd.Series(pd.to_datetime(at, utc=True)), pd.to_datetime(at, utc=True)):
            data = Interactions([0, 1], [1, 2], timestamps=times)
            assert data.timestamps.dtype.kind == "M"
            assert np.array_equal(data.timestamps, expected)
        exact = pd.Timestamp("2020-01-01T00:00:00.000000001", tz="Europe/Berlin")
        data = Interactions([0, 1], [1, 2], timestamps=[exact, exact + pd.Timedelta(1)])
        assert np.diff(data.timestamps).astype(int).tolist() == [1]

    def test_without(self):
        data = Interactions([0, 1], [1, 2], timestamps=[datetime(2020, 1, 2), datetime(2020, 1, 1)])
        assert data.timestamps.dtype.kind == "M"

    def test_of_both_kinds_cannot_be_ordered(self):
        with pytest.raises(TypeError, match="timestamps must all have a time zone, or none"):
            Interactions([0, 1], [1, 2], timestamps=[datetime(2020, 1, 1), datetime(2020, 1, 1, tzinfo=UTC)])

    def test_missing_ones_are_named(self):
        pd = pytest.importorskip("pandas")
        with pytest.raises(ValueError, match=r"timestamps must be finite, got .*NaT.* at position 1"):
            Interactions([0, 1], [1, 2], timestamps=pd.Series(pd.to_datetime(["2020-01-01", None], utc=True)))

    def test_split_at_a_time_with_a_zone(self):
        pd = pytest.importorskip("pandas")
        data = Interactions([0, 1], [1, 2], timestamps=np.array(["2020-01-01T10", "2020-01-01T12"], "M8[ns]"))
        moment = datetime(2020, 1, 1, 13, tzinfo=self.ZONE)  # 11 in UTC
        for time in (moment, pd.Timestamp(moment)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                train, test = temporal_split(data, time=time)
            assert train.item_ids.tolist() == [1]
            assert test.item_ids.tolist() == [2]
        with pytest.raises(ValueError, match="time must be a date, got NaT"):
            temporal_split(data, time=pd.NaT)


def test_half_precision_ids():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Interactions(np.array([1, 2], np.float16), [1, 2]).user_ids.tolist() == [1, 2]
