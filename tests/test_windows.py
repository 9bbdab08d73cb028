"""Users' histories and the windows cut from them: Spotlight's own, and a few lines of Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spotfast import backends
from spotfast.ops import windows

NONE = [], [], [], 3  # users, items, timestamps, num_users


def naive_histories(users, items, timestamps, num_users):
    """Python's sort is stable."""
    events = sorted(zip(timestamps, range(len(users)), users, items, strict=True), key=lambda event: event[0])
    return [[int(item) for _, _, user, item in events if user == u] for u in range(num_users)]


def naive_windows(histories, length, min_length, step):
    found = []
    for user, history in enumerate(histories):
        stop = len(history)
        while stop > 0:
            window = history[max(0, stop - length) : stop]
            if len(window) >= min_length:
                found.append((user, [0] * (length - len(window)) + window))
            stop -= step
    return found


@pytest.mark.parametrize("backend", backends.OPERATIONS["windows"]["cpu"])
class TestWindows:
    def cut(self, backend, users, items, timestamps, num_users, length, min_length, step):
        """Histories and windows, as lists, after checks of dtypes and shapes."""
        indptr, grouped = windows.histories(users, items, timestamps, num_users, backend=backend)
        assert (indptr.dtype, grouped.dtype) == (np.int64, np.int32)
        assert indptr.shape == (num_users + 1,)
        sequences, owners = windows.windows(indptr, grouped, length, min_length, step, backend=backend)
        assert (sequences.dtype, owners.dtype) == (np.int32, np.int32)
        assert sequences.shape == (len(owners), length)
        histories = [part.tolist() for part in np.split(grouped, indptr[1:-1])]
        return histories, list(zip(owners.tolist(), sequences.tolist(), strict=True))

    def check(self, backend, users, items, timestamps, num_users, length=3, min_length=1, step=1):
        arrays = np.array(users, np.int32), np.array(items, np.int32), np.asarray(timestamps)
        histories, cut = self.cut(backend, *arrays, num_users, length, min_length, step)
        assert histories == naive_histories(users, items, timestamps, num_users)
        assert cut == naive_windows(histories, length, min_length, step)

    @pytest.mark.parametrize(
        "case", ["windows/5-None-None", "windows/5-None-1", "windows/7-3-2", "windows/20-None-4", "windows/3-3-3"]
        + ["windows_ties/6-None-2"],
    )  # fmt: skip
    def test_golden(self, backend, golden, case):
        prefix, parameters = case.split("/")
        length, min_length, step = (None if part == "None" else int(part) for part in parameters.split("-"))
        users, items = golden["windows/users"], golden["windows/items"]
        times = golden[f"{prefix}/timestamps"]
        indptr, grouped = windows.histories(users, items, times, 8, backend=backend)
        cut = windows.windows(indptr, grouped, length, min_length or 1, step or length, backend=backend)
        np.testing.assert_array_equal(cut[0], golden[f"{case}/sequences"])
        np.testing.assert_array_equal(cut[1], golden[f"{case}/user_ids"])

    @settings(max_examples=60, deadline=None)
    @given(
        events=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(-2, 3)), max_size=40),
        length=st.integers(1, 6),
        min_length=st.integers(0, 7),
        step=st.integers(1, 8),
    )
    def test_any_events(self, backend, events, length, min_length, step):
        users, items, times = map(list, zip(*events, strict=True)) if events else ([], [], [])
        self.check(backend, users, items, np.array(times, np.int64), 5, length, min_length, step)

    @pytest.mark.parametrize("size", [1, 2, 47, 48, 49, 50, 300])
    @pytest.mark.parametrize("times", [1, 3, 1000])
    def test_stable(self, backend, size, times):
        """Histories short enough to be sorted by insertion, and longer ones; all equal, many equal, few equal."""
        rng = np.random.default_rng(size)
        stamps = rng.integers(0, times, 2 * size)
        self.check(backend, [0, 1] * size, list(range(2 * size)), stamps, 2, length=size, step=size)
        self.check(backend, [0, 1] * size, list(range(2 * size)), -np.sort(stamps), 2, length=size, step=size)

    @pytest.mark.parametrize(
        "timestamps",
        [
            np.array([30, 10, 20, 10], np.int8),
            np.array([30, 10, 20, 10], np.uint32),
            np.array([2**62 + 2, 2**62, 2**62 + 1, 2**62]),  # equal as floats
            np.array([3e9, 1e9, 2e9, 1e9], np.float32),
            np.array([0.3, -0.1, 0.2, -0.1]),
            np.array(["2020-03-01", "2019-01-01", "2020-02-01", "2019-01-01"], "datetime64[D]"),
            np.array(["2020-03-01", "1919-01-01", "2020-02-01", "1919-01-01"], "datetime64[ns]"),
            [30, 10, 20, 10],
        ],
        ids=lambda value: str(np.asarray(value).dtype),
    )
    def test_timestamps(self, backend, timestamps):
        indptr, items = windows.histories(
            np.array([1, 1, 1, 1]), np.array([4, 5, 6, 7]), timestamps, 2, backend=backend
        )
        assert indptr.tolist() == [0, 0, 4]
        assert items.tolist() == [5, 7, 6, 4]

    @pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.uint64, np.float64])
    def test_ids(self, backend, dtype):
        users, items = np.array([1, 0, 1], dtype), np.array([5, 6, 7], dtype)
        histories, cut = self.cut(backend, users, items, np.array([2, 1, 1]), 2, 3, 1, 3)
        assert histories == [[6], [7, 5]]
        assert cut == [(0, [0, 0, 6]), (1, [0, 7, 5])]

    def test_largest_id(self, backend):
        _, items = windows.histories(np.array([0]), np.array([2**31 - 2]), np.array([0]), 1, backend=backend)
        assert items.tolist() == [2**31 - 2]

    def test_no_interactions(self, backend):
        users, items, timestamps, num_users = NONE
        self.check(backend, users, items, np.array(timestamps, np.int64), num_users)

    @pytest.mark.parametrize("min_length", [0, 1, 3, 4, 5])
    @pytest.mark.parametrize("step", [1, 3, 4, 9, 2**62])
    def test_lengths_and_steps(self, backend, min_length, step):
        users = np.repeat(range(6), range(6)).tolist()
        self.check(backend, users, list(range(1, 16)), np.arange(15), 6, 4, min_length, step)

    def test_threads(self, backend, set_threads):
        """Enough users, most of them with little, for two threads to share."""
        rng = np.random.default_rng(0)
        users = np.minimum(rng.zipf(1.3, 20_000), 4000) - 1
        items, times = rng.integers(1, 100, 20_000), rng.integers(0, 50, 20_000)
        results = []
        for threads in (1, 2):
            set_threads(threads)
            indptr, grouped = windows.histories(users, items, times, 4000, backend=backend)
            results.append((indptr, grouped, *windows.windows(indptr, grouped, 5, 2, 3, backend=backend)))
        for one, two in zip(*results, strict=True):
            np.testing.assert_array_equal(one, two)


def uneven(users=40, most=30):
    """Histories of 0 to `most` items, with a user without any at the beginning and at the end."""
    sizes = np.random.default_rng(0).integers(0, most + 1, users)
    sizes[[0, -1]] = 0
    indptr = np.concatenate([[0], np.cumsum(sizes)])
    return indptr, np.arange(1, indptr[-1] + 1, dtype=np.int32)


SHAPES = [(length, least, step) for length in (1, 3, 8) for least in (0, 1, 3, 9) for step in (1, 2, 8, 2**62)]


@pytest.mark.parametrize("backend", backends.OPERATIONS["windows"]["cpu"])
class TestWindowsAt:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_are_rows_of_all_windows(self, backend, shape):
        indptr, items = uneven()
        sequences, users = windows.windows(indptr, items, *shape, backend=backend)
        offsets = windows.window_offsets(indptr, *shape, backend=backend)
        assert (offsets.dtype, offsets.shape) == (np.int64, indptr.shape)
        np.testing.assert_array_equal(offsets, np.searchsorted(users, np.arange(len(indptr))))
        count = int(offsets[-1])
        assert (count == 0) == (shape[1] > shape[0])
        index = np.random.default_rng(1).integers(0, count, 3 * count) if count else np.zeros(0, np.int64)
        for chosen in (index, np.arange(count), index[:1], index[:0], index.astype(np.int32), index[::2]):
            cut, owners = windows.windows_at(indptr, items, offsets, chosen, *shape, backend=backend)
            assert (cut.dtype, owners.dtype) == (np.int32, np.int32)
            np.testing.assert_array_equal(cut, sequences[chosen])
            np.testing.assert_array_equal(owners, users[chosen])

    def test_threads(self, backend, set_threads):
        indptr, items = uneven(2000)
        offsets = windows.window_offsets(indptr, 5, backend=backend)
        index = np.random.default_rng(1).permutation(offsets[-1])
        assert len(index) > 2 * 2**12  # enough for two threads to share
        results = []
        for threads in (1, 2):
            set_threads(threads)
            results.append(windows.windows_at(indptr, items, offsets, index, 5, backend=backend))
        for one, two in zip(*results, strict=True):
            np.testing.assert_array_equal(one, two)

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ([3], r"index must lie in \[0, 3\), got 3 at position 0"),
            ([0, -1], r"index must lie in \[0, 3\), got -1 at position 1"),
            ([0, 2**62], r"index must lie in \[0, 3\), got 4611686018427387904 at position 1"),
            ([[0]], r"index must be 1-D, got shape \(1, 1\)"),
            (0, r"index must be 1-D, got shape \(\)"),
            ([0.5], r"index must hold whole numbers, got .*0\.5"),
        ],
    )
    def test_bad_index(self, backend, index, message):
        indptr, items = np.array([0, 3]), np.array([1, 2, 3], np.int32)
        with pytest.raises(ValueError, match=message):
            windows.windows_at(indptr, items, np.array([0, 3]), index, 2, backend=backend)

    @pytest.mark.parametrize("shape", [(2, 1, 2), (2, 2, 1)])
    def test_offsets_of_another_shape(self, backend, shape):
        indptr, items = np.array([0, 0, 3]), np.array([1, 2, 3], np.int32)
        with pytest.raises(ValueError, match="offsets do not belong to indptr"):
            windows.windows_at(indptr, items, np.array([0, 0, 3]), [2], *shape, backend=backend)
        with pytest.raises(ValueError, match=r"offsets must have the length of indptr \(3\), got 2"):
            windows.windows_at(indptr, items, np.array([0, 3]), [2], 2, backend=backend)


ONE = np.array([0])
INDPTR, ITEMS = np.array([0, 1]), np.array([1], np.int32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: windows.histories(ONE + 2, ONE, ONE, 2), "user_ids must be below num_users = 2, got 2 at position 0"),
        (lambda: windows.histories(ONE, ONE - 1, ONE, 2), "item_ids must not be negative, got -1 at position 0"),
        (lambda: windows.histories(ONE, ONE + 2**31 - 1, ONE, 2), "item_ids must be at most .* got 2147483647"),
        (lambda: windows.histories(ONE, [0, 1], ONE, 2), r"item_ids must have the length of user_ids \(1\), got 2"),
        (lambda: windows.histories(ONE, ONE, [0, 1], 2), r"timestamps must have one value .* \(1\), got 2"),
        (lambda: windows.histories(ONE, ONE, [np.inf], 2), "timestamps must be finite, got .*inf"),
        (lambda: windows.histories(ONE, ONE, np.array(["NaT"], "M8[s]"), 2), "timestamps must be finite, got .*NaT"),
        (lambda: windows.windows(INDPTR, ITEMS, 0), "length must be an integer between 1 and 2147483647, got 0"),
        (lambda: windows.windows(INDPTR, ITEMS, 3, -1), "min_length must be an integer between 0 and .*, got -1"),
        (lambda: windows.windows(INDPTR, ITEMS, 3, 1, 0), "step must be an integer between 1 and .*, got 0"),
        (lambda: windows.windows(INDPTR, ITEMS[:0], 3), r"indptr must ascend from 0 to the number of items \(0\)"),
        (lambda: windows.window_offsets(INDPTR[::-1], 3), r"indptr must ascend from 0 to the number of items \(0\)"),
        (lambda: windows.window_offsets(INDPTR, 0), "length must be an integer between 1 and 2147483647, got 0"),
        (lambda: windows.windows_at(INDPTR, ITEMS, INDPTR, [0], 3, 1, 0), "step must be an integer .*, got 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
