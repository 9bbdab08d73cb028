"""The model of memory traffic: what it expects of a batch, and what docs/gpu.md says of it.

`tests/kernels/test_traffic.py` holds it against the kernels.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spotfast import epoch_traffic, traffic
from spotfast.traffic import Access, Entries, Training

ROOT = Path(__file__).parent.parent


def zipf(size):
    shares = 1.0 / (10 + np.arange(size))
    return shares / shares.sum()


def test_an_access():
    access = Access(10, 12, scattered=True, distinct=4, again=3)
    assert access.requested == 13 * 12
    assert access.moved == 10 * 32
    assert access.least == 4 * 32
    assert Access(10, 12).moved == Access(10, 12).least == 120


def test_entries_are_counted():
    ids = np.array([5] * 33 + [2] * 32 + [9])
    charged = np.ones(66, bool)
    charged[[0, 65]] = False
    assert Entries.of(ids, charged) == Entries(66, 3, 64, 2, 2, 33, 32)


def test_expected_entries_are_those_of_drawn_ones():
    shares, uniform = zipf(500), np.full(500, 1 / 500)
    expected = Entries.expected((2000, shares), (2000, uniform))
    rng = np.random.default_rng(0)
    drawn = [
        Entries.of(np.concatenate([rng.choice(500, 2000, p=shares), rng.integers(0, 500, 2000)])) for _ in range(20)
    ]
    for name, error in (("count", 0), ("rows", 0.01), ("moving", 0.01), ("pieces", 0.15), ("in_pieces", 0.15)):
        mean = np.mean([getattr(entries, name) for entries in drawn])
        assert getattr(expected, name) == pytest.approx(mean, rel=error), name


@pytest.mark.parametrize("rule", ["adam", "sgd", "sparse_adam", "momentum", "adagrad", "rowwise_adagrad"])
def test_an_epoch_moves_at_least_what_it_must(rule):
    """And a cache can only help; both figures fall with the batch, as rows repeat in it."""
    found = []
    for batch_size in (256, 4096):
        total, perfect = epoch_traffic.epoch_of(Training(batch_size, 2, 32, rule), zipf(3000), zipf(2000), 100_000)
        moved, least = (sum(getattr(access, name) for access in total.values()) for name in ("moved", "least"))
        assert moved > least > perfect > 0
        found.append((moved, least, perfect))
    assert all(few > many for few, many in zip(*found, strict=True))


def test_targets_are_within_what_memory_allows():
    """0.4 G samples per second for Adam at MovieLens-20M's size, batch 65,536, D 64, one negative; 0.6 G for SGD."""
    for rule, target in (("adam", 0.4e9), ("sgd", 0.6e9)):
        total, _ = epoch_traffic.epoch_of(Training(65_536, 2, 64, rule), zipf(138_493), zipf(26_744), 20_000_263)
        assert traffic.rate(sum(access.moved for access in total.values())) > target


def test_the_docs_have_the_models_tables():
    command = [sys.executable, ROOT / "benchmarks" / "gpu" / "traffic_table.py"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    documented = (ROOT / "docs" / "gpu.md").read_text().splitlines()
    assert [line for line in printed.splitlines() if line not in documented] == []
