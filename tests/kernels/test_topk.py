"""The best items in Triton: those of the reference, scores to the bit, whatever ties and whatever is left out."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from vector_patterns import PATTERNS

from spotfast.kernels import scored_tiles
from spotfast.kernels import topk as kernels
from spotfast.ops.topk import vector_topk
from spotfast.rows import Rows

pytestmark = pytest.mark.interpreter

# Every pair of values of two columns occurs in some row.
CASES = [
    # dim, users, items, pattern, biases
    (1, 1, 1, "random", True),
    (1, 9, 129, "tied", False),
    (3, 1, 127, "constant", False),
    (3, 17, 1, "tied", True),
    (3, 9, 600, "neighbours", True),
    (32, 9, 128, "random", False),
    (32, 9, 260, "tied", True),
    (33, 1, 129, "neighbours", False),
    (33, 9, 1, "constant", True),
    (33, 8, 260, "random", True),
    (128, 9, 129, "random", True),
    (128, 1, 127, "tied", False),
]


def problem(dim, users, items, pattern, biases):
    """Vectors, and biases or None."""
    generator = torch.Generator().manual_seed(dim + users + items)
    shapes = (users, dim), (users,), (items, dim), (items,)
    parts = [PATTERNS[pattern](*shape, generator=generator) for shape in shapes]
    return parts if biases else [parts[0], None, parts[2], None]


def left_out(users, items, share, seed=0):
    """A share of the items for two users of three, and nothing for the third."""
    shares = np.where(np.arange(users) % 3 == 2, 0.0, share)
    mask = np.random.default_rng(seed).random((users, items)) < shares[:, np.newaxis]
    return Rows.from_matrix("mask", sp.csr_matrix(mask))


def equal(parts, k, excluded=None):
    """The lists of the kernels, after asserting that they are those of the reference."""
    own, theirs = (vector_topk(*parts, k, excluded, backend=name) for name in ("triton", "reference"))
    for ours, expected in zip(own, theirs, strict=True):
        np.testing.assert_array_equal(ours, expected, strict=True)
    return own


@pytest.mark.parametrize(("dim", "users", "items", "pattern", "biases"), CASES)
def test_against_the_reference(dim, users, items, pattern, biases):
    """Groups of one item and of many; more than there are, and than are left."""
    parts = problem(dim, users, items, pattern, biases)
    for k, share in ((1, None), (5, 0.3), (items + 2, 0.9)):
        equal(parts, k, None if share is None else left_out(users, items, share))


def test_lists_of_a_thousand():
    ids, _ = equal(problem(3, 2, 1500, "neighbours", True), 1000, left_out(2, 1500, 0.1))
    assert (ids >= 0).all()
    ids, _ = equal(problem(1, 1, 1100, "random", False), 1050, left_out(1, 1100, 0.2))
    assert (ids[:, -1] == -1).all()


def test_nothing_is_left():
    ids, scores = equal(problem(3, 4, 200, "random", True), 5, left_out(4, 200, 1.0))
    assert ((ids == -1).all(1) == [True, True, False, True]).all()
    assert (np.isneginf(scores) == (ids == -1)).all()


@pytest.mark.parametrize("better", [slice(0, 12), slice(0, None, 128), slice(588, None), slice(5, None, 50)])
def test_the_best_items_share_groups(better):
    """Neighbours, all of a lane, the last, and some of every kind: with scores that differ, and that tie."""
    parts = problem(3, 3, 600, "random", True)
    for bonus in (100.0, 1e9):
        parts[3][better] = bonus
        for k in (3, 12):
            equal(parts, k, left_out(3, 600, 0.3))


@pytest.mark.parametrize("size", [1e-39, 1e-20, 1e17])
def test_scores_of_any_size(size):
    """Of both signs, denormal ones among them."""
    parts = problem(4, 3, 200, "random", True)
    equal([size * part for part in parts], 20)


@pytest.mark.parametrize(("users", "items"), [(0, 5), (3, 0), (0, 0)])
def test_nothing_to_choose_from(users, items):
    ids, scores = equal(problem(3, users, items, "random", True), 4)
    assert (ids == -1).all()
    assert ids.shape == scores.shape == (users, 4)


def test_the_size_of_chunks_does_not_matter(monkeypatch):
    """Items in several launches, with what is in a group in one of them, and users in several."""
    parts, excluded = problem(3, 9, 900, "tied", True), left_out(9, 900, 0.2)
    whole = equal(parts, 100, excluded)
    again = vector_topk(*parts, 100, excluded, backend="triton")
    monkeypatch.setattr(scored_tiles, "MOST_NUMBERS", 1)
    monkeypatch.setattr(kernels, "MOST_KEYS", 1)
    grouping = kernels.Grouping.of(900, 100, 3)
    assert len(list(scored_tiles.item_tiles(parts[2], None, grouping.depth))) == grouping.parts > 1
    parted = vector_topk(*parts, 100, excluded, backend="triton")
    for lists in zip(whole, again, parted, strict=True):
        assert all(each.tobytes() == lists[0].tobytes() for each in lists)


def test_keys_give_scores_and_ids_back():
    """Keys sort by score, then by id, and give both back."""
    ids = torch.tensor([0, 1, (1 << 31) - 2, 5, 6, -1])
    scores = torch.tensor([1.0, 1.0, 1.0, -1e-45, -2.5, -torch.inf])
    ordered = scores.view(torch.int32)
    keys = ((ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).long() << 32) + ((1 << 31) - 1 - ids)
    assert (keys.diff() < 0).all()
    assert torch.equal(kernels.scores_of(keys), scores)
    assert torch.equal(kernels.ids_of(keys), ids)


@pytest.mark.parametrize("k", [1, 10, 100, 1000, 26_744, 10**6])
@pytest.mark.parametrize("items", [1, 128, 26_744, 10**7])
def test_scratch_is_bounded(items, k):
    """Groups hold all items, enough are chosen, and the keys of a user are few."""
    for dim in (1, 32, 512):
        grouping = kernels.Grouping.of(items, k, dim)
        assert grouping.groups * grouping.depth >= items
        assert grouping.taken == min(k, grouping.groups)
        assert min(k, items) <= grouping.taken * grouping.depth
        assert grouping.depth * 128 * dim <= 1 << 24
        users = grouping.users(dim)
        assert users % 8 == 0
        assert users <= max(8, (1 << 25) // grouping.keys)
        if k <= items:
            assert grouping.keys <= 8 * (items * k) ** 0.5 + 128 * (grouping.depth + 8) + items // 256
