"""Arrays of every kind that holds ids and numbers mean what they say, or are refused."""

from __future__ import annotations

import numpy as np
import pytest

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
