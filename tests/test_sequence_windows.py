"""Windows cut when they are asked for: the same as the array of all of them."""

from __future__ import annotations

import numpy as np
import pytest

from spotfast.interactions import Interactions, SequenceInteractions, SequenceWindows


def interactions():
    rng = np.random.default_rng(0)
    users, items, times = rng.integers(0, 50, 600), rng.integers(1, 20, 600), rng.integers(0, 99, 600)
    return Interactions(users, items, timestamps=times, num_users=52, num_items=25)


class TestSequenceWindows:
    @pytest.mark.parametrize("arguments", [(), (5, None, 1), (5, 3, 2), (20, 2, 4), (3, 5, 1)])
    def test_equal_the_array_of_all(self, arguments):
        data = interactions()
        lazy, array = data.sequence_windows(*arguments), data.to_sequence(*arguments)
        assert isinstance(lazy, SequenceWindows)
        assert isinstance(array, SequenceInteractions)
        attributes = ("num_items", "max_sequence_length", "id_map")
        assert [getattr(lazy, name) for name in attributes] == [getattr(array, name) for name in attributes]
        assert (len(lazy), repr(lazy)) == (len(array), repr(array))
        assert lazy.user_ids.dtype == np.int32
        np.testing.assert_array_equal(lazy.user_ids, array.user_ids)
        whole = lazy.to_sequence()
        np.testing.assert_array_equal(whole.sequences, array.sequences)
        np.testing.assert_array_equal(whole.user_ids, array.user_ids)
        index = np.random.default_rng(1).permutation(len(lazy))
        for rows in (lazy.rows(index), array.rows(index)):
            assert rows.dtype == np.int32
            np.testing.assert_array_equal(rows, array.sequences[index])

    def test_later_changes_of_the_interactions_do_not_show(self):
        data = interactions()
        lazy, before = data.sequence_windows(5), data.to_sequence(5)
        data.item_ids[:] = 1
        np.testing.assert_array_equal(lazy.to_sequence().sequences, before.sequences)

    def test_no_windows(self):
        lazy = Interactions([], [], timestamps=[], num_users=2, num_items=3).sequence_windows(4)
        assert len(lazy) == 0
        assert lazy.rows([]).shape == (0, 4)
        assert lazy.to_sequence().sequences.shape == (0, 4)

    @pytest.mark.parametrize("kind", ["windows", "sequences"])
    def test_positions_out_of_range(self, kind):
        data = Interactions([0, 0, 0], [1, 2, 3], timestamps=[1, 2, 3]).sequence_windows(2, step_size=1)
        data = data if kind == "windows" else data.to_sequence()
        assert data.rows([2, 0]).tolist() == [[0, 1], [2, 3]]
        for index in ([3], [-1]):
            with pytest.raises(ValueError, match=rf"index must lie in \[0, 3\), got {index[0]} at position 0"):
                data.rows(index)

    def test_too_few_items_are_found_out(self):
        lazy = interactions().sequence_windows(5)
        lazy.check()
        lazy.num_items = 19
        with pytest.raises(ValueError, match="items must be below num_items = 19, got 19"):
            lazy.check()

    def test_rows_do_not_alias(self):
        data = SequenceInteractions(np.array([[1, 2], [3, 4]], np.int32))
        data.rows([0, 1])[:] = 0
        assert data.sequences.tolist() == [[1, 2], [3, 4]]

    def test_the_length_follows_reassigned_sequences(self):
        data = SequenceInteractions([[1, 2]], num_items=9)
        for sequences in (np.array([[1, 2, 3], [4, 5, 6]]), [[1, 2, 3], [4, 5, 6]]):
            data.sequences = sequences
            assert (data.max_sequence_length, len(data)) == (3, 2)
            assert repr(data) == "<Sequence interactions dataset (2 sequences x 3 sequence length)>"
            data.check()
            assert data.rows([1]).tolist() == [[4, 5, 6]]
