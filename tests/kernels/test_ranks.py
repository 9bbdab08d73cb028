"""Counts and ranks in Triton: those of the reference, to the bit, whatever ties and whatever is left out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from vector_patterns import PATTERNS

from spotfast.kernels import ranks as kernels
from spotfast.kernels import scored_tiles
from spotfast.ops.rank_counts import vector_rank_counts
from spotfast.ops.ranks import vector_ranks
from spotfast.ops.scores import pair_scores
from spotfast.rows import Rows

pytestmark = pytest.mark.interpreter

# Every pair of values of two columns occurs in some row.
CASES = [
    # dim, users, items, pattern, biases
    (1, 1, 1, "random", True),
    (1, 9, 129, "tied", False),
    (3, 1, 127, "constant", False),
    (3, 17, 1, "tied", True),
    (3, 9, 260, "neighbours", True),
    (32, 9, 128, "random", False),
    (32, 9, 260, "tied", True),
    (33, 1, 129, "neighbours", False),
    (33, 9, 1, "constant", True),
    (33, 8, 200, "random", True),
    (128, 9, 129, "random", True),
    (128, 1, 127, "tied", False),
    (130, 2, 5, "random", False),
]


def problem(dim, users, items, pattern, biases):
    """Vectors, and biases or None."""
    generator = torch.Generator().manual_seed(dim + users + items)
    shapes = (users, dim), (users,), (items, dim), (items,)
    parts = [PATTERNS[pattern](*shape, generator=generator) for shape in shapes]
    return parts if biases else [parts[0], None, parts[2], None]


def some(users, items, share, seed=0):
    """Rows with none, few or all of the items, in turn with a share of them."""
    rng = np.random.default_rng(seed)
    shares = np.where(np.arange(users) % 3 == 2, [0.0, 3 / items, 1.0][seed % 3], share)
    return Rows.from_matrix("mask", sp.csr_matrix(rng.random((users, items)) < shares[:, np.newaxis]))


def equal(parts, targets, excluded):
    """The counts of the kernels, after asserting that they are those of the reference."""
    own, theirs = (vector_rank_counts(*parts, targets, excluded, backend=name) for name in ("triton", "reference"))
    for name in ("above", "equal", "before"):
        np.testing.assert_array_equal(getattr(own, name), getattr(theirs, name), name, strict=True)
    return own


@pytest.mark.parametrize(("dim", "users", "items", "pattern", "biases"), CASES)
def test_against_the_reference(dim, users, items, pattern, biases):
    """Targets among what is excluded, too; users with many have several rows of the kernel."""
    parts = problem(dim, users, items, pattern, biases)
    targets = some(users, items, min(0.5, 20 / items))
    for share in (None, 0.1, 1.0):
        equal(parts, targets, None if share is None else some(users, items, share, seed=1))


@pytest.mark.parametrize("seed", [0, 2])
def test_all_items_are_targets(seed):
    parts = problem(3, 4, 140, "tied", True)
    every = some(4, 140, 1.0, seed=2)
    counts = equal(parts, every, some(4, 140, 0.3, seed))
    assert (counts.before < counts.equal).all()
    if not seed:
        ordered = np.sort((counts.above + counts.before)[:140])
        np.testing.assert_array_equal(ordered, np.arange(140))  # each place once


def test_one_user_has_far_more_targets_than_the_others():
    parts = problem(3, 9, 200, "random", True)
    counts = np.ones((9, 200), bool)
    counts[1:, 1:] = False
    equal(parts, Rows.from_matrix("mask", sp.csr_matrix(counts)), None)


@pytest.mark.parametrize("users", [0, 3])
def test_nothing_to_rank(users):
    parts = problem(3, users, 5, "random", True)
    assert len(vector_ranks(*parts, Rows.empty(users), backend="triton")) == 0


def test_a_target_has_the_bits_of_its_tile():
    """Each of many scores that differ in the last bits is equal to itself, and to no other."""
    parts = problem(33, 3, 256, "random", True)
    every = Rows.from_matrix("mask", sp.csr_matrix(np.ones((3, 256), bool)))
    counts = vector_rank_counts(*parts, every, backend="triton")
    assert (counts.equal == 1).all()


def test_scores_of_pairs_are_those_of_predictions():
    parts = problem(33, 5, 7, "random", True)
    users, items = torch.arange(300) % 5, torch.arange(300) % 7
    own = torch.empty(300)
    kernels.pair_scores_kernel[(3,)](own, *parts, users, items, 300, 33, LANES=kernels.LANES)
    assert torch.equal(own, pair_scores(*parts, users, items))


def test_the_order_of_programs_and_the_size_of_chunks_do_not_matter(monkeypatch):
    """Items in many launches, users in many, and all items for one program: the same counts."""
    parts = problem(3, 12, 400, "tied", True)
    targets, excluded = some(12, 400, 0.05), some(12, 400, 0.1, seed=1)
    whole = equal(parts, targets, excluded)
    monkeypatch.setattr(scored_tiles, "MOST_NUMBERS", 2 * 3 * 128)
    monkeypatch.setattr(kernels, "MOST_NUMBERS", 8 * 3)
    monkeypatch.setattr(scored_tiles, "PROGRAMS", 1)
    parted = vector_rank_counts(*parts, targets, excluded, backend="triton")
    for name in ("above", "equal", "before"):
        np.testing.assert_array_equal(getattr(parted, name), getattr(whole, name))


def test_large_ids_are_compared_in_64_bits():
    """A tile beyond 2^31 items: ids of targets and of what is excluded are not cut."""
    first = (1 << 33) + 5 * 128
    items, users = torch.arange(128).float().unsqueeze(1), torch.ones(1, 1)
    tiles = next(scored_tiles.item_tiles(items, None))
    counts = [torch.zeros(8, 16, dtype=torch.int64) for _ in range(3)]
    targets, scores = torch.zeros(8, 16, dtype=torch.int64), torch.full((8, 16), torch.inf)
    targets[0, :2], scores[0, :2] = torch.tensor([first + 3, first + 100]), torch.tensor([3.0, 100.0])
    excluded = torch.tensor([7, first + 50, first + 127])
    kernels.rank_counts_kernel[(1, 1)](
        *counts, targets, scores, torch.tensor([0]), torch.tensor([2]), torch.tensor([0, 3]), excluded,
        scored_tiles.tiled(users, 8), torch.zeros(1), tiles.vectors, tiles.biases, first, 1, 1, 1, 1,
    )  # fmt: skip
    assert [count[0, :2].tolist() for count in counts] == [[122, 26], [1, 1], [0, 0]]
