"""Blocks of final states: ranked as rows of scores in which padding, item 0, is minus infinity."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast.evaluation.padded import PaddedBlock
from spotfast.evaluation.ranking import ScoredBlock
from spotfast.ops.scores import scores
from spotfast.rows import Rows


def rows_of(mask):
    return Rows.from_ids(*np.nonzero(mask), *mask.shape)


def blocks(items, share, seed, users=40):
    """The same sequences as a block of each kind: with ties, and padding among the targets and what is excluded."""
    rng = np.random.default_rng(seed)
    states, vectors = (torch.from_numpy(rng.integers(-2, 3, (rows, 2)).astype(np.float32)) for rows in (users, items))
    biases = torch.from_numpy(rng.integers(-1, 2, items).astype(np.float32))
    biases[0] = -torch.inf
    targets, out = (rng.random((users, items)) < each for each in (0.3, share))
    out[0], out[1], out[2, 1:] = True, False, True
    targets[::3, 0] = out[::4, 0] = True
    excluded = None if share == 0 else rows_of(out)
    table = scores(states, None, vectors, biases).numpy()
    padded = PaddedBlock((states, None, vectors[1:], biases[1:]), rows_of(targets), excluded)
    return padded, ScoredBlock(table, rows_of(targets), excluded)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("share", [0, 0.3, 0.9])
@pytest.mark.parametrize("items", [2, 3, 30, 700])
class TestAsRowsOfScores:
    def test_counts_and_ranks(self, items, share, seed):
        padded, scored = blocks(items, share, seed)
        assert padded.num_items == scored.num_items == items
        for name in ("above", "equal", "before"):
            found, expected = (getattr(block.counts(), name) for block in (padded, scored))
            np.testing.assert_array_equal(found, expected, strict=True)
        np.testing.assert_array_equal(padded.ranks(), scored.ranks(), strict=True)

    @pytest.mark.parametrize("k", [1, 2, 5, 30])
    def test_lists(self, items, share, seed, k):
        """Where they reach so far, padding comes last."""
        padded, scored = blocks(items, share, seed)
        np.testing.assert_array_equal(padded.topk(min(k, items)), scored.topk(min(k, items)), strict=True)
