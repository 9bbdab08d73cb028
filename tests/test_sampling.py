"""Sampling by numpy's generators."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spotfast.sampling import sample_items
from spotfast.seeding import draw_stream_seed


@pytest.mark.parametrize("seed", [0, 42])
def test_golden(golden, seed):
    expected = golden[f"sampling/sample_items-{seed}"]
    for source in (seed, np.int32(seed), np.random.RandomState(seed)):
        np.testing.assert_array_equal(sample_items(1000, (3, 4), source), expected, strict=True)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_distribution(make):
    source = make(3)
    drawn = sample_items(10, 5000, source)
    assert drawn.dtype == np.int64
    assert stats.chisquare(np.bincount(drawn, minlength=10)).pvalue > 0.001
    assert not np.array_equal(sample_items(10, 5000, source), drawn)  # advanced
    assert np.array_equal(sample_items(10, 5000, make(3)), drawn)


@pytest.mark.parametrize("shape", [5, (5,), [5, 2], (), (0, 3), np.array([2, 2]), np.array(4), np.int64(4)])
def test_shapes(shape):
    drawn = sample_items(1, shape)
    assert isinstance(drawn, np.ndarray)
    assert drawn.shape == (shape if isinstance(shape, tuple) else tuple(np.atleast_1d(shape)))
    assert not drawn.any()


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        (-1, ValueError),
        ((2, -1), ValueError),
        (2.0, TypeError),
        ("2", TypeError),
        (np.array([2.5]), TypeError),
        (np.ones((2, 2), int), ValueError),
        (None, TypeError),
    ],
)
def test_bad_shapes(shape, error):
    with pytest.raises(error, match="shape must be"):
        sample_items(3, shape)


@pytest.mark.parametrize(
    ("num_items", "error", "message"),
    [
        (0, ValueError, "num_items must be an integer of at least 1, got 0"),
        (-3, ValueError, "num_items .* got -3"),
        (2.0, TypeError, r"num_items .* got 2\.0"),
        ("2", TypeError, "num_items .* got '2'"),
    ],
)
def test_bad_input(num_items, error, message):
    with pytest.raises(error, match=message):
        sample_items(num_items, 3)


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_stream_seeds(make):
    """63 bits, all of them used, and another at every call."""
    source = make(3)
    seeds = [draw_stream_seed(source) for _ in range(200)]
    assert len(set(seeds)) == 200
    assert all(isinstance(seed, int) and 0 <= seed < 2**63 - 1 for seed in seeds)
    assert [any(seed >> bit & 1 for seed in seeds) for bit in range(64)] == [True] * 63 + [False]
    assert draw_stream_seed(make(3)) == seeds[0]


@pytest.mark.parametrize(("shape", "error"), [(-1, ValueError), ((2, -3), ValueError), (1.5, TypeError)])
def test_bad_shape(shape, error):
    with pytest.raises(error, match="shape must be an integer"):
        sample_items(5, shape)
