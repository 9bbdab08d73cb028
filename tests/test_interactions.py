"""Interactions and sequences: what they hold, what Spotlight's callers do with them, and every kind of bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from spotfast import cross_validation
from spotfast.interactions import Interactions, SequenceInteractions

USERS, ITEMS = np.array([2, 0, 2, 2]), np.array([1, 3, 1, 4])
TIMES = np.array([30, 20, 10, 10])


def interactions(**changed):
    return Interactions(**{"user_ids": USERS.copy(), "item_ids": ITEMS.copy(), **changed})


class TestInteractions:
    def test_attributes(self):
        users, ratings = USERS.copy(), np.ones(4)
        data = Interactions(users, ITEMS, ratings, num_items=9)
        assert data.user_ids is users
        assert data.ratings is ratings
        assert (data.num_users, data.num_items, len(data)) == (3, 9, 4)
        assert data.timestamps is data.weights is None
        assert repr(data) == "<Interactions dataset (3 users x 9 items x 4 interactions)>"

    def test_tocoo(self):
        data = interactions(num_users=4)
        matrix = data.tocoo()
        assert isinstance(matrix, sp.coo_matrix)
        assert matrix.shape == (4, 5)
        for actual, expected in ((matrix.row, USERS), (matrix.col, ITEMS), (matrix.data, np.ones(4))):
            np.testing.assert_array_equal(actual, expected)
        assert matrix.dtype == np.float32
        data.ratings = np.array([1.5, 0.0, 2.0, -1.0])
        np.testing.assert_array_equal(data.tocoo().data, data.ratings)
        matrix = data.tocoo()
        matrix.row[:], matrix.col[:], matrix.data[:] = 0, 0, 7  # a copy
        np.testing.assert_array_equal(data.user_ids, USERS)
        np.testing.assert_array_equal(data.item_ids, ITEMS)
        assert data.ratings[0] == 1.5

    def test_tocsr_sums_repeated_interactions(self):
        matrix = interactions(ratings=np.array([1.5, 4.0, 2.0, 0.0])).tocsr()
        assert isinstance(matrix, sp.csr_matrix)
        np.testing.assert_array_equal(matrix.toarray(), [[0, 0, 0, 4, 0], [0] * 5, [0, 3.5, 0, 0, 0]])
        assert matrix.nnz == 3

    @pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8, np.uint32, np.uint64, np.float32, float])
    @pytest.mark.parametrize("kind", ["array", "list", "read-only", "strided", "pandas"])
    def test_ids(self, dtype, kind):
        users = USERS.astype(dtype)
        if kind == "list":
            users = users.tolist()
        elif kind == "read-only":
            users.flags.writeable = False
        elif kind == "strided":
            users = np.repeat(users, 2)[::2]
        elif kind == "pandas":
            users = pytest.importorskip("pandas").Series(users, index=[5, 6, 7, 8])
        data = Interactions(users, ITEMS, timestamps=TIMES)
        np.testing.assert_array_equal(data.user_ids, USERS)
        assert type(data.user_ids) is np.ndarray
        assert data.user_ids.dtype.kind == "i"
        assert data.user_ids.flags.writeable
        assert data.to_sequence(3).sequences.tolist() == [[0, 0, 3], [1, 4, 1]]

    def test_pandas_frame(self):
        pandas = pytest.importorskip("pandas")
        times = pandas.to_datetime(["2020-03-01", "2020-02-01", "2020-01-01", "2020-01-01"])
        frame = pandas.DataFrame({"user": USERS, "item": ITEMS, "rating": 1.5, "time": times, "weight": 2})
        data = Interactions(frame.user, frame.item, frame.rating, frame.time, frame.weight)
        assert all(array.flags.writeable for array in (data.ratings, data.timestamps, data.weights))
        data.weights = None
        assert data.to_sequence(3).sequences.tolist() == [[0, 0, 3], [1, 4, 1]]

    def test_no_interactions_on_purpose(self):
        data = Interactions([], [], ratings=[], timestamps=[], num_users=2, num_items=3)
        assert len(data) == 0
        assert data.tocsr().shape == (2, 3)
        assert data.to_sequence(4).sequences.shape == (0, 4)

    def test_changed_arrays_are_read_again(self):
        data = interactions(timestamps=TIMES.copy())
        data.user_ids[:] = [1, 1, 0, 0]
        data.item_ids = np.array([1.0, 2.0, 3.0, 4.0])
        data.timestamps = [4, 3, 2, 1]
        assert data.tocsr().toarray()[:2].tolist() == [[0, 0, 0, 1, 1], [0, 1, 1, 0, 0]]
        assert data.to_sequence(2).sequences.tolist() == [[4, 3], [2, 1]]
        assert data.take(np.array([3, 0])).item_ids.tolist() == [4, 1]
        data.user_ids, data.item_ids = [0, 1], [1, 2]
        data.timestamps = None
        assert data.tocoo().col.tolist() == [1, 2]

    @pytest.mark.parametrize("index", [np.array([2, 0]), np.array([True, False, True, False]), slice(0, 4, 2)])
    def test_take(self, index):
        data = interactions(ratings=[1, 2, 3, 4], timestamps=TIMES, weights=[0.1, 0.2, 0.3, 0.4], num_users=7)
        taken = data.take(index)
        for name in ("user_ids", "item_ids", "ratings", "timestamps", "weights"):
            np.testing.assert_array_equal(getattr(taken, name), getattr(data, name)[index])
        assert (taken.num_users, taken.num_items) == (7, 5)


BAD = [
    ({"user_ids": [0, -1, 1, 0]}, "user_ids must not be negative, got -1 at position 1"),
    ({"user_ids": [0, 1, 5, 0], "num_users": 5}, "user_ids must be below num_users = 5, got 5 at position 2"),
    ({"item_ids": [0, 1, 5, 0], "num_items": 5}, "item_ids must be below num_items = 5, got 5 at position 2"),
    ({"item_ids": [0, 0.5, 1, 0]}, r"item_ids must hold whole numbers, got .*0\.5.* at position 1"),
    ({"item_ids": [0, 1, np.nan, 0]}, "item_ids must hold whole numbers, got .*nan.* at position 2"),
    ({"item_ids": [0, 1, np.inf, 0]}, "item_ids must hold whole numbers, got .*inf.* at position 2"),
    ({"item_ids": [0, 1, 1e300, 0]}, r"item_ids must be at most 2147483646, got .*1e\+300"),
    ({"item_ids": [0, 1, 2**31 - 1, 0]}, "item_ids must be (at most 2147483646|below .*), got 2147483647"),
    ({"item_ids": np.array([2**63 + 1] * 4, np.uint64)}, "item_ids must be at most .* got 9223372036854775809"),
    ({"item_ids": [[1], [2], [3], [4]]}, r"item_ids must be 1-D, got shape \(4, 1\)"),
    ({"item_ids": 3}, r"item_ids must be 1-D, got shape \(\)"),
    ({"item_ids": [[1], [2, 3]]}, "item_ids must be a rectangular array"),
    ({"item_ids": [1, 2, 3]}, "user_ids and item_ids must have the same length, got 4 and 3"),
    ({"user_ids": [], "item_ids": []}, "user_ids is empty: declare num_users"),
    ({"user_ids": [], "item_ids": [], "num_users": 3}, "item_ids is empty: declare num_items"),
    ({"num_users": 0}, "num_users must be an integer between 1 and 2147483647, got 0"),
    ({"num_items": 2**31}, "num_items must be an integer between 1 and 2147483647, got 2147483648"),
    ({"timestamps": np.array(["2020", "NaT", "2021", "2022"], "M8[Y]")}, "timestamps must be finite, got .*NaT.* 1"),
    ({"weights": [1, -0.5, 1, 1]}, r"weights must not be negative, got .*-0\.5.* at position 1"),
]
for name in ("ratings", "timestamps", "weights"):
    BAD += [
        ({name: [1, 2, np.nan, 4]}, f"{name} must be finite, got .*nan.* at position 2"),
        ({name: [1, 2, 3, np.inf]}, f"{name} must be finite, got .*inf.* at position 3"),
        ({name: [1, 2, 3]}, rf"{name} must have one value per interaction \(4\), got 3"),
        ({name: [[1], [2], [3], [4]]}, rf"{name} must be 1-D, got shape \(4, 1\)"),
        ({name: [[1], [2, 3], [4], [5]]}, f"{name} must be a rectangular array"),
    ]
BAD_TYPES = [
    ({"user_ids": list("abcd")}, "user_ids must hold integers, got dtype <U1, for example .*'a'"),
    ({"user_ids": None}, "user_ids must hold integers, got dtype object, for example None"),
    ({"user_ids": [True, False, True, True]}, "user_ids must hold integers, got dtype bool"),
    ({"item_ids": [1j, 2, 3, 4]}, "item_ids must hold integers, got dtype complex128"),
    ({"num_items": 5.0}, r"num_items must be an integer .* got 5\.0 of type float"),
    ({"num_items": "5"}, "num_items must be an integer .* got '5' of type str"),
    ({"ratings": list("abcd")}, "ratings must hold numbers, got dtype <U1"),
    ({"ratings": [1, None, 3, 4]}, "ratings must hold numbers, got dtype object"),
    ({"weights": [True] * 4}, "weights must hold numbers, got dtype bool"),
    ({"timestamps": np.arange(4).astype("m8[s]")}, r"timestamps must hold numbers, got dtype timedelta64\[s\]"),
]
BAD_ANY = [(ValueError, *case) for case in BAD] + [(TypeError, *case) for case in BAD_TYPES]
# Those that are about arrays of four values, not about sizes.
BAD_LATER = [case for case in BAD_ANY if not any(part in case[2] for part in ("num_", "empty", "None"))]
READS = {
    "tocoo": Interactions.tocoo,
    "tocsr": Interactions.tocsr,
    "to_sequence": Interactions.to_sequence,
    "take": lambda data: data.take(slice(2)),
    "shuffle": cross_validation.shuffle_interactions,
    "random split": cross_validation.random_train_test_split,
    "user split": cross_validation.user_based_train_test_split,
}


class TestBadInput:
    @pytest.mark.parametrize(("error", "changed", "message"), BAD_ANY)
    def test_when_made(self, error, changed, message):
        with pytest.raises(error, match=message):
            interactions(**changed)

    @pytest.mark.parametrize("read", READS)
    @pytest.mark.parametrize(("error", "changed", "message"), BAD_LATER)
    def test_when_reassigned(self, read, error, changed, message):
        data = interactions(timestamps=TIMES, num_users=2**31 - 1, num_items=2**31 - 1)
        for name, value in changed.items():
            setattr(data, name, value)
        with pytest.raises(error, match=message):
            READS[read](data)

    def test_changed_in_place(self):
        data = interactions()
        data.item_ids[1] = 5
        with pytest.raises(ValueError, match="item_ids must be below num_items = 5, got 5 at position 1"):
            data.tocoo()

    @pytest.mark.parametrize(
        ("changed", "arguments", "message"),
        [
            ({"timestamps": None}, {}, "timestamps are needed .* got None"),
            ({"weights": np.ones(4)}, {}, "weights have no meaning in sequences, .*weights = None"),
            ({"item_ids": [1, 0, 2, 3]}, {}, "item_ids must be at least 1 .* got 0 at position 1"),
            ({}, {"max_sequence_length": 0}, "max_sequence_length must be an integer between 1 and 2147483647, got 0"),
            ({}, {"min_sequence_length": -1}, "min_sequence_length must be an integer of at least 0, got -1"),
            ({}, {"step_size": 0}, "step_size must be an integer of at least 1, got 0"),
        ],
    )
    def test_to_sequence(self, changed, arguments, message):
        with pytest.raises(ValueError, match=message):
            interactions(**{"timestamps": TIMES, **changed}).to_sequence(**arguments)

    @pytest.mark.parametrize("argument", ["max_sequence_length", "min_sequence_length", "step_size"])
    def test_lengths_that_are_no_integers(self, argument):
        with pytest.raises(TypeError, match=rf"{argument} must be an integer .* got 2\.5"):
            interactions(timestamps=TIMES).to_sequence(**{argument: 2.5})


class TestSequenceInteractions:
    def test_attributes(self):
        sequences, users = np.array([[0, 1, 2], [3, 1, 2]]), np.array([7, 0])
        data = SequenceInteractions(sequences, user_ids=users, num_items=9)
        assert data.sequences is sequences
        assert data.user_ids is users
        assert (len(data), data.max_sequence_length, data.num_items) == (2, 3, 9)
        assert repr(data) == "<Sequence interactions dataset (2 sequences x 3 sequence length)>"
        assert SequenceInteractions(sequences).num_items == 4
        assert SequenceInteractions(sequences).user_ids is None
        assert len(SequenceInteractions(np.zeros((0, 3)), num_items=4)) == 0

    def test_read_only_arrays_are_copied(self):
        sequences = np.ones((2, 2), np.int32)
        sequences.flags.writeable = False
        assert SequenceInteractions(sequences).sequences.flags.writeable

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (([1, 2],), r"sequences must be of shape \(N, L\) with L at least 1, got \(2,\)"),
            ((np.zeros((2, 0), int),), r"sequences must be of shape .* got \(2, 0\)"),
            (([[1], [1, 2]],), "sequences must be a rectangular array"),
            (([[1, -2]],), "sequences must not be negative, got -2 at position 1"),
            (([[1, 1.5]],), r"sequences must hold whole numbers, got .*1\.5.* at position 1"),
            (([[1, 2]], None, 2), "sequences must be below num_items = 2, got 2 at position 1"),
            ((np.zeros((0, 3), int),), "sequences is empty: declare num_items"),
            (([[1, 2]], [3, 4]), r"user_ids must have one value per sequence \(1\), got 2"),
            (([[1, 2]], [-3]), "user_ids must not be negative, got -3 at position 0"),
        ],
    )
    def test_bad_input(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            SequenceInteractions(*arguments)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("sequences", np.array([1, 2]), r"sequences must be of shape .* got \(2,\)"),
            ("sequences", np.array([[1, 9]]), "sequences must be below num_items = 3, got 9"),
            ("user_ids", np.array([1, 2]), r"user_ids must have one value per sequence \(1\), got 2"),
        ],
    )
    def test_reassigned_arrays_are_checked(self, name, value, message):
        data = SequenceInteractions([[1, 2]], user_ids=[0])
        data.check()
        setattr(data, name, value)
        with pytest.raises(ValueError, match=message):
            data.check()
