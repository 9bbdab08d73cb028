"""Relevant items near the top of rankings: what every metric with a cut-off is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.ops.rank_counts import RankCounts
from spotfast.rows import Rows


@dataclass(frozen=True)
class Hits:
    """Relevant items among the first positions of U rankings, sorted by row, then by rank.

    Where ties are broken at random, a hit is the event that a position holds a relevant item.

    Attributes:
        rows: (H,) the ranking of each hit, in [0, U).
        ranks: (H,) float64, from 1.
        probabilities: (H,) of the hit: 1 without random ties.
        preceding: (H,) how many relevant items come before it in its ranking: the expectation, given the hit.
        first: (H,) the probability that it is the first hit of its ranking.
        relevant: (U,) how many items are relevant in each ranking, wherever they stand.
        candidates: (U,) how many items each ranking holds.
        num_items: how many items there are, those that cannot be ranked among them; None if that is not known.
    """

    rows: NDArray[np.int64]
    ranks: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    preceding: NDArray[np.float64]
    first: NDArray[np.float64]
    relevant: NDArray[np.int64]
    candidates: NDArray[np.int64]
    num_items: int | None = None

    @classmethod
    def from_ranks(
        cls,
        rows: NDArray[np.int64],
        ranks: NDArray[Any],
        relevant: NDArray[np.int64],
        candidates: NDArray[np.int64],
        num_items: int | None = None,
    ) -> Hits:
        """Make hits that are certain. Hits of one row must follow each other, in any order.

        Example:
            >>> hits = Hits.from_ranks(np.array([0, 0, 1]), np.array([3, 1, 2]), np.array([2, 1]), np.array([9, 9]))
            >>> hits.ranks, hits.preceding, hits.first
            (array([1., 3., 2.]), array([0., 1., 0.]), array([1., 0., 1.]))
        """
        order = np.lexsort((ranks, rows))
        rows, ranks = rows[order], ranks[order].astype(np.float64)
        preceding = _place_in_run(rows).astype(np.float64)
        return cls(
            rows, ranks, np.ones(len(rows)), preceding, (preceding == 0).astype(np.float64),
            relevant, candidates, num_items,
        )  # fmt: skip

    def sums(self, values: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        """Add up values (H,) over the first k positions of each row: (U,)."""
        counted = self.ranks <= k
        sums = np.bincount(self.rows[counted], values[counted], minlength=len(self.relevant))
        return sums.astype(np.float64, copy=False)  # of nothing, they are integers

    def lengths(self, k: int) -> NDArray[np.int64]:
        """Return the length of each list of the best k, which is shorter where fewer items can be ranked."""
        return np.minimum(self.candidates, k)


def certain_hits(
    ranks: NDArray[np.float64], targets: Rows, candidates: NDArray[np.int64], num_items: int, most: int
) -> Hits:
    """Find the relevant items among the first positions of rankings.

    Args:
        ranks: (T,) of the relevant items.
        targets: U rows of them.
        candidates: (U,) how many items are ranked: those that are not excluded.
        num_items: how many items there are.
        most: no position beyond this one is needed.
    """
    relevant = targets.counts()
    rows = np.repeat(np.arange(len(targets)), relevant)
    near = np.flatnonzero(ranks <= np.minimum(candidates, most)[rows])  # excluded items are behind all candidates
    return Hits.from_ranks(rows[near], ranks[near], relevant, candidates, num_items)


def expected_hits(counts: RankCounts, targets: Rows, candidates: NDArray[np.int64], num_items: int, most: int) -> Hits:
    """Find the positions that relevant items may take among the first where ties are broken at random.

    In a group of e items with equal scores, m of them relevant, each position holds a relevant one with probability
    m / e. Given that, another position of the group does so with probability (m - 1) / (e - 1). The first relevant one
    of the group is its j-th item with probability C(e - j, m - 1) / C(e, m).

    Args:
        counts: of the relevant items.
        targets: U rows of them.
        candidates: (U,) how many items are ranked.
        num_items: how many items there are.
        most: no position beyond this one is needed.
    """
    relevant = targets.counts()
    rows = np.repeat(np.arange(len(targets)), relevant)
    near = np.flatnonzero(counts.above < np.minimum(candidates, most)[rows])
    rows, above, equal = rows[near], counts.above[near], counts.equal[near]
    order = np.lexsort((above, rows))
    rows, above, equal = rows[order], above[order], equal[order]
    starts = np.flatnonzero(_is_new(rows, above))  # of the groups
    sizes = np.diff(starts, append=len(rows))
    earlier = _place_in_run(rows)[starts]  # relevant items in better groups of the same row
    rows, above, equal = rows[starts], above[starts], equal[starts]
    positions = np.minimum(equal, most - above)
    member = np.repeat(np.arange(len(starts)), positions)
    place = np.arange(len(member)) - np.repeat(np.cumsum(positions) - positions, positions)  # from 0
    e, m, earlier = equal[member], sizes[member], earlier[member]
    first = ((earlier == 0) & (place == 0)).astype(np.float64)  # where all of the group are relevant
    chance = np.flatnonzero((earlier == 0) & (e > m))
    first[chance] = _first_of_group(e[chance], m[chance], place[chance])
    preceding = earlier + place * (m - 1) / np.maximum(e - 1, 1)
    ranks = above[member] + place + 1.0
    return Hits(rows[member], ranks, m / e, preceding, first, relevant, candidates, num_items)


def ordered_ranks(
    rows: NDArray[np.int64],
    above: NDArray[np.int64],
    equal: NDArray[np.int64],
    before: NDArray[np.int64],
    ties: str,
) -> NDArray[np.float64]:
    """Return the ranks of relevant items, in rows that ascend, where ties are not broken at random.

    Args:
        rows: (T,) the ranking of each.
        above: (T,) as in `RankCounts`.
        equal: (T,) as in `RankCounts`.
        before: (T,) as in `RankCounts`.
        ties: "average", "id" or "pessimistic".

    Example:
        >>> counts = np.array([0, 2, 2]), np.array([1, 5, 5]), np.array([0, 0, 1])
        >>> [ordered_ranks(np.zeros(3, int), *counts, ties).tolist() for ties in ("average", "id", "pessimistic")]
        [[1.0, 5.0, 5.0], [1.0, 3.0, 4.0], [1.0, 6.0, 7.0]]
    """
    if ties == "average":
        return np.asarray(above + (equal + 1) / 2, np.float64)
    if ties == "id":
        return np.asarray(above + before + 1.0, np.float64)
    group, sizes, place = _groups(rows, above)
    return np.asarray(above + equal - sizes[group] + place + 1.0, np.float64)


def _groups(
    rows: NDArray[np.int64], above: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the targets of a row with equal scores: the group of each, the groups' sizes, the place of each in its."""
    order = np.lexsort((above, rows))
    numbers = np.cumsum(_is_new(rows[order], above[order])) - 1
    group, place = np.empty_like(rows), np.empty_like(rows)
    group[order], place[order] = numbers, _place_in_run(numbers)
    return group, np.bincount(numbers), place


def _is_new(rows: NDArray[np.int64], above: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which of sorted targets are the first of their row with their score."""
    new: NDArray[np.bool_] = np.diff(rows, prepend=-1) != 0
    return new | (np.diff(above, prepend=-1) != 0)


def _place_in_run(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each value, from 0, in the run of equal values that it belongs to."""
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    return np.arange(len(values)) - np.repeat(starts, np.diff(starts, append=len(values)))


def _first_of_group(e: NDArray[np.int64], m: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the probability that, of e items in any order, m of them relevant, the first relevant is at a place."""
    room = e - place - 1  # for the others
    probability = np.exp(_log_choose(np.maximum(room, m - 1), m - 1) - _log_choose(e, m))
    return np.where(room >= m - 1, probability, 0.0)


def _log_choose(n: NDArray[np.int64], k: NDArray[np.int64]) -> NDArray[np.float64]:
    from scipy.special import gammaln  # not needed before ties are broken at random

    return gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
