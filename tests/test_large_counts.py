"""More than 32 bits can count: positions, candidates, batches, entries of a gradient."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from spotfast.ops import row_update
from spotfast.ops.pooling_epoch import pooling_epoch
from spotfast.ops.tables import EpochRange, Table, UpdateRule, check_batches
from spotfast.training.native import Reporter

SGD = UpdateRule("sgd", 0.1)


def at(batch_size):
    return EpochRange(5, 0, batch_size, 0)


@pytest.mark.parametrize("start", [2**31 - 3, 2**32 - 3, 2**40])
@pytest.mark.parametrize("slots", [1, 3])
def test_sequences_at_positions_beyond(start, slots):
    """The draws of a sequence are numbered from its position, times the steps and the slots."""
    generator = torch.Generator().manual_seed(0)
    vectors, sequences = torch.randn(1000, 5, generator=generator), torch.randint(0, 1000, (6, 7), dtype=torch.int32)
    trained = []
    for backend in ("native", "reference"):
        items = Table(vectors.clone(), torch.zeros(1000, 1))
        loss = "adaptive_hinge" if slots > 1 else "bpr"
        pooling_epoch(items, sequences, slots, 1000, loss, SGD, at(6), start=start, backend=backend)
        trained.append(items.vectors)
    assert not torch.equal(trained[1], vectors)
    torch.testing.assert_close(*trained, rtol=1e-5, atol=1e-5)


def test_progress_of_a_long_epoch():
    moved = []
    report = Reporter(SimpleNamespace(advance=moved.append), threading.Event(), batch_size=256)
    for positions in (2**31 - 1, 2**32 + 5, 2**40):
        assert report(positions)
    assert moved == [2**31 - 1, 2**31 + 6, 2**40 - 2**32 - 5]
    assert report.steps == 2**32


def test_batches_of_an_epoch():
    check_batches(at(2**30), count=2**40, candidates=1)
    check_batches(at(1), count=2**32 - 2, candidates=2**31 - 1)
    with pytest.raises(ValueError, match=r"at.batch_size must .*, got 1 for 1 candidates and 4294967295 batches"):
        check_batches(at(1), count=2**32 - 1, candidates=1)
    with pytest.raises(ValueError, match=r"at.batch_size must .*, got 2 for 2 candidates and 4294967295 batches"):
        check_batches(at(2), count=2**33 - 3, candidates=1)
    with pytest.raises(ValueError, match=r"at.batch_size must .* for 2147483648 candidates and 1024 batches"):
        check_batches(at(2**30), count=2**40, candidates=2)


def deferred_rows():
    table = tuple(torch.zeros(3, 4, 2))
    return table, row_update.DeferredRows(table[0], (0.9, 0.999), 1e-8, 0.0, backend="native")


def test_a_gradient_of_too_many_entries_changes_nothing():
    """As a view of one: so many need 60 GB."""
    table, rows = deferred_rows()
    ids, gradient = torch.zeros(1, dtype=torch.int64).expand(2**31), torch.ones(1, 2).expand(2**31, 2)
    with pytest.raises(ValueError, match="ids must be at most 2147483647 in a step, got 2147483648"):
        rows.update(table, ids, gradient, 0.1)
    assert not rows.owing
    assert all(not tensor.any() for tensor in table)


def test_any_number_of_rows_is_looked_up(monkeypatch):
    monkeypatch.setattr(row_update, "MOST_ENTRIES", 2)
    results = []
    for looked_up in (torch.tensor([0, 3, 2, 3, 1]), torch.arange(4)):
        table, rows = deferred_rows()
        for row in (1, 3):
            rows.update(table, torch.tensor([row]), torch.ones(1, 2), 0.1)
        rows.catch_up(table, looked_up)
        results.append(table)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert results[0][0][1, 0] < results[0][0][3, 0] < 0
