"""Relevant items in given lists, the same on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from spotfast import backends
from spotfast.ops.list_hits import list_hits
from spotfast.rows import Rows

every_backend = pytest.mark.parametrize("backend", backends.OPERATIONS["item_rows"]["cpu"])


@every_backend
@pytest.mark.parametrize("threads", [1, 2])
def test_against_sets(backend, set_threads, threads):
    """So many lists that threads share them; rows in another order, some of them empty; short lists; repetitions."""
    set_threads(threads)
    rng = np.random.default_rng(0)
    lists, rows = rng.integers(-1, 30, (1000, 7)), rng.permutation(1200)[:1000]
    relevant = Rows.from_ids(rng.integers(0, 1200, 6000), rng.integers(0, 30, 6000), 1200, 30)
    hits = list_hits(lists, relevant, rows, backend=backend)
    assert hits.found.dtype == np.bool_ and hits.lengths.dtype == hits.repeated.dtype == np.int64
    for row, items, found, length, repeated in zip(rows, lists.tolist(), *hits, strict=True):
        wanted = set(relevant.items[relevant.indptr[row] : relevant.indptr[row + 1]].tolist())
        assert found.tolist() == [item in wanted for item in items]
        assert length == sum(item >= 0 for item in items)
        twice = [item for place, item in enumerate(items) if item in wanted and item in items[:place]]
        assert repeated == (twice[-1] if twice else -1)
    assert (hits.repeated >= 0).any() and (hits.repeated < 0).any()


@every_backend
def test_list_u_has_row_u_by_default(backend):
    rng = np.random.default_rng(1)
    lists, relevant = rng.integers(0, 9, (5, 3)), Rows.from_ids(np.arange(20) % 5, rng.integers(0, 9, 20), 5, 9)
    for one, other in zip(
        list_hits(lists, relevant, backend=backend), list_hits(lists, relevant, np.arange(5)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@every_backend
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing(backend, shape):
    found, lengths, repeated = list_hits(np.zeros(shape, np.int64), Rows.empty(2), backend=backend)
    assert found.shape == shape
    assert lengths.tolist() == [0] * shape[0] and repeated.tolist() == [-1] * shape[0]


@pytest.mark.parametrize(
    ("shape", "rows", "message"),
    [
        ((3,), None, r"lists must be of shape \(U, K\), got \(3,\)"),
        ((3, 1), None, r"rows must lie in \[0, 2\), got 0 .. 2"),
        ((2, 1), [0], r"rows must be of shape \(2,\), one for each list, got \(1,\)"),
        ((1, 1), [-1], r"rows must lie in \[0, 2\), got -1 .. -1"),
    ],
)
def test_bad_input(shape, rows, message):
    with pytest.raises(ValueError, match=message):
        list_hits(np.zeros(shape, np.int64), Rows.empty(2), None if rows is None else np.array(rows))
