"""The metrics, one function each: values of U rankings from the ranks of their relevant items.

Metrics with a cut-off are computed from `Hits`, in formulas: h(i) = 1 where the item at rank i is relevant, else 0;
R relevant items; k the cut-off. Where ties are broken at random the value is the expectation over all orders. Means,
and what libraries do differently, are in `spotfast.evaluation.dialects`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.evaluation.hits import Hits
from spotfast.ops.rank_counts import RankCounts
from spotfast.rows import Rows

Values = NDArray[np.float64]

DIVISORS = ("k", "items", "list", "relevant", "ideal")
DISCOUNTS = ("shifted", "clipped")


def divisor(hits: Hits, k: int, name: str) -> NDArray[Any]:
    """Return what a number of hits among the first k is divided by, (U,).

    Args:
        hits: of U rankings.
        k: the cut-off.
        name: "k"; "items", min(k, items there are); "list", min(k, items that can be ranked); "relevant", R; "ideal",
            min(k, R).

    Raises:
        ValueError: for another name.

    Example:
        >>> hits = Hits.from_ranks(np.array([0]), np.array([2]), relevant=np.array([3]), candidates=np.array([4]))
        >>> [divisor(hits, 5, name).item() for name in ("k", "list", "relevant", "ideal")]
        [5, 4, 3, 3]
    """
    validation.choice("divisor", name, DIVISORS)
    if name == "list":
        return hits.lengths(k)
    if name == "relevant":
        return hits.relevant
    if name == "ideal":
        return np.minimum(hits.relevant, k)
    most = k if name == "k" or hits.num_items is None else min(k, hits.num_items)
    return np.full(len(hits.relevant), most)


def precision(hits: Hits, k: int, divide_by: str = "k") -> Values:
    """Precision: `sum of h(i) over i <= k, divided by k`, or by another `divisor`. NaN for an empty list.

    Example:
        >>> hits = Hits.from_ranks(np.array([0, 0]), np.array([2, 3]), np.array([4]), np.array([9]))
        >>> precision(hits, 2), precision(hits, 4)
        (array([0.5]), array([0.5]))
    """
    return _ratio(hits.sums(hits.probabilities, k), divisor(hits, k, divide_by))


def recall(hits: Hits, k: int, divide_by: str = "relevant") -> Values:
    """Recall: `sum of h(i) over i <= k, divided by R`, or by another `divisor`.

    Example:
        >>> hits = Hits.from_ranks(np.array([0, 0]), np.array([2, 3]), np.array([4]), np.array([9]))
        >>> recall(hits, 2), recall(hits, 2, divide_by="ideal")
        (array([0.25]), array([0.5]))
    """
    return _ratio(hits.sums(hits.probabilities, k), divisor(hits, k, divide_by))


def hit_rate(hits: Hits, k: int) -> Values:
    """Hit rate: `1 if there is an i <= k with h(i) = 1, else 0`.

    Example:
        >>> hits = Hits.from_ranks(np.array([0, 0]), np.array([2, 3]), np.array([4]), np.array([9]))
        >>> hit_rate(hits, 1), hit_rate(hits, 2)
        (array([0.]), array([1.]))
    """
    return hits.sums(hits.first, k)


def reciprocal_rank(hits: Hits, k: int) -> Values:
    """Reciprocal rank of the first hit: `1 / min{i : h(i) = 1}, 0 if that is above k`.

    Example:
        >>> hits = Hits.from_ranks(np.array([0, 0]), np.array([2, 3]), np.array([4]), np.array([9]))
        >>> reciprocal_rank(hits, 1), reciprocal_rank(hits, 2)
        (array([0.]), array([0.5]))
    """
    return hits.sums(hits.first / hits.ranks, k)


def ndcg(hits: Hits, k: int, discount: str = "shifted") -> Values:
    """Normalised discounted cumulative gain: `sum of h(i) / d(i) over i <= k, divided by the best possible sum`.

    The best possible has relevant items at the ranks 1 to min(k, R).

    Args:
        hits: of U rankings.
        k: the cut-off.
        discount: "shifted", d(i) = log2(i + 1); "clipped", d(i) = max(1, log2(i)), as Järvelin and Kekäläinen (2002).

    Example:
        >>> hits = Hits.from_ranks(np.array([0]), np.array([2]), np.array([1]), np.array([9]))
        >>> ndcg(hits, 5), ndcg(hits, 5, discount="clipped")
        (array([0.63092975]), array([1.]))
    """
    validation.choice("discount", discount, DISCOUNTS)
    most = min(k, int(hits.relevant.max(initial=0)))
    ideal = np.concatenate([[0.0], np.cumsum(_gains(np.arange(1.0, most + 1), discount))])
    gains = hits.sums(hits.probabilities * _gains(hits.ranks, discount), k)
    return _ratio(gains, ideal[np.minimum(hits.relevant, k)])


def average_precision(hits: Hits, k: int, divide_by: str = "ideal") -> Values:
    """Average precision: `sum of h(i) * precision at i over i <= k, divided by min(k, R)`, or by another `divisor`.

    Example:
        >>> hits = Hits.from_ranks(np.array([0, 0]), np.array([2, 4]), np.array([4]), np.array([9]))
        >>> average_precision(hits, 4)  # (1 / 2 + 2 / 4) / 4
        array([0.25])
    """
    sums = hits.sums(hits.probabilities * (1.0 + hits.preceding) / hits.ranks, k)
    if divide_by == "list":  # of the relevant items as many count as the list could hold
        return _ratio(sums, np.minimum(hits.lengths(k), hits.relevant))
    return _ratio(sums, divisor(hits, k, divide_by))


def auc_at(hits: Hits, k: int) -> Values:
    """AUC of a list of k items: items that are not in it come behind, in any order.

    The share of pairs of a relevant and another item, of all items there are, in which the relevant one stands higher;
    relevant items outside the list are as likely as not above others outside. This is what `implicit` calls AUC.

    Raises:
        ValueError: if the number of items is not known.

    Example:
        >>> hits = Hits.from_ranks(np.array([0]), np.array([2]), np.array([1]), np.array([9]), num_items=9)
        >>> auc_at(hits, 3)  # above 7 of the 8 others
        array([0.875])
    """
    if hits.num_items is None:
        raise ValueError("num_items must be known for auc, got None")
    found = hits.sums(hits.probabilities, k)
    others = hits.num_items - hits.relevant
    # Of f hits, each is above the k - i items behind it, less the f (f - 1) / 2 pairs of hits: (k - i summed) - that.
    # And f of them are above all items outside the list, the R - f relevant ones there above half of the others there:
    # (f + R) (others - (k - f)) / 2. In the sum of both f squared cancels, so that an expectation of f will do.
    behind = hits.sums(hits.probabilities * (k - hits.ranks), k)
    pairs = behind + (found * (hits.relevant + others - k + 1) + hits.relevant * (others - k)) / 2
    return _ratio(pairs, hits.relevant * others)


def mrr(ranks: Values, targets: Rows) -> Values:
    """Mean reciprocal rank of ALL relevant items: `mean of 1 / rank`, as Spotlight's `mrr_score`.

    Excluded items count with their rank, which is behind all others where ties share their average, and else infinite.

    Args:
        ranks: (T,) of the relevant items.
        targets: U rows of them, none empty.

    Example:
        >>> mrr(np.array([1.0, 2.5]), Rows(np.array([0, 2]), np.array([0, 7])))
        array([0.7])
    """
    return _row_sums(1.0 / ranks, targets) / targets.counts()


def expected_mrr(counts: RankCounts, targets: Rows, candidates: NDArray[np.int64]) -> Values:
    """Compute `mrr` where ties are broken at random: of e items below a others, the mean of `1 / i, a < i <= a + e`.

    Excluded items have no rank, and count 0.

    Args:
        counts: of the relevant items.
        targets: U rows of them, none empty.
        candidates: (U,) how many items are ranked.

    Example:
        >>> counts = RankCounts(above=np.array([1]), equal=np.array([2]), before=np.array([0]))
        >>> expected_mrr(counts, Rows(np.array([0, 1]), np.array([7])), np.array([9]))  # (1 / 2 + 1 / 3) / 2
        array([0.41666667])
    """
    from scipy.special import digamma

    reciprocals = 1.0 / (counts.above + 1)
    tied = counts.equal > 1
    above, equal = counts.above[tied], counts.equal[tied]
    reciprocals[tied] = (digamma(above + equal + 1.0) - digamma(above + 1.0)) / equal
    reciprocals[counts.above >= np.repeat(candidates, targets.counts())] = 0.0
    return _row_sums(reciprocals, targets) / targets.counts()


def auc(ranks: Values, targets: Rows, candidates: NDArray[np.int64]) -> Values:
    """AUC: the share of pairs of a relevant and another item, of those ranked, in which the relevant stands higher.

    `(n (N + 1) - n (n + 1) / 2 - sum of ranks) / (R (N - n))`, with n of the R relevant items among the N ranked ones;
    excluded relevant items lose to all. Pairs with equal scores count half where ranks are averages, which is also the
    expectation over all orders. NaN where there are no other items.

    Args:
        ranks: (T,) of the relevant items.
        targets: U rows of them, none empty.
        candidates: (U,) how many items are ranked.

    Example:
        >>> auc(np.array([1.0, 3.0]), Rows(np.array([0, 2]), np.array([0, 7])), candidates=np.array([4]))
        array([0.75])
    """
    ranked = ranks <= np.repeat(candidates, targets.counts())
    found = _row_sums(ranked.astype(np.float64), targets)
    sums = _row_sums(np.where(ranked, ranks, 0.0), targets)
    pairs = found * (candidates + 1) - found * (found + 1) / 2 - sums
    return _ratio(pairs, targets.counts() * (candidates - found))


def recommended(lists: NDArray[np.int64], num_items: int, k: int) -> NDArray[np.bool_]:
    """Tell which items (I,) are among the first k of any list.

    Args:
        lists: (U, K) ids, -1 where a list is shorter.
        num_items: how many items there are.
        k: the cut-off, at most K counts.

    Example:
        >>> recommended(np.array([[0, 1], [0, -1]]), num_items=4, k=2)
        array([ True,  True, False, False])
    """
    seen = np.zeros(num_items + 1, np.bool_)
    seen[lists[:, :k]] = True  # -1 marks the last
    return seen[:num_items]


def coverage(seen: NDArray[np.bool_]) -> float:
    """Coverage: `items that are in any list / all items`, of the first k of each list.

    Args:
        seen: (I,) whether each item is `recommended`.

    Example:
        >>> coverage(recommended(np.array([[0, 1], [0, -1]]), num_items=4, k=2))  # the items 0 and 1
        0.5
    """
    return float(seen.mean())


def mse(errors: Values, rows: NDArray[np.int64], count: int) -> Values:
    """Mean squared error of each user, whose root is the RMSE: `sqrt(mean of (rating - prediction)^2)`.

    Of all users it is the root of their mean, each with the weight of its number of ratings: that of all ratings.

    Args:
        errors: (N,) `rating - prediction`, in units of the ratings.
        rows: (N,) the user of each, in [0, count); each has one at least.
        count: how many users there are.

    Example:
        >>> np.sqrt(mse(np.array([1.0, -7.0, 2.0]), np.array([0, 0, 1]), 2))  # (1 + 49) / 2 = 25
        array([5., 2.])
    """
    return np.bincount(rows, np.square(errors), count) / np.bincount(rows, minlength=count)


def mae(errors: Values, rows: NDArray[np.int64], count: int) -> Values:
    """MAE, the mean absolute error, of each user: `mean of |rating - prediction|`; of all users, weighted as `mse`.

    Args:
        errors: (N,) as in `mse`, as the others.
        rows: (N,) the user of each.
        count: how many users there are.

    Example:
        >>> mae(np.array([1.0, -7.0, 2.0]), np.array([0, 0, 1]), 2)
        array([4., 2.])
    """
    return np.bincount(rows, np.abs(errors), count) / np.bincount(rows, minlength=count)


def mean_popularity(lists: NDArray[np.int64], popularity: Values, k: int) -> Values:
    """Mean popularity: `sum of the popularity of the first k items / how many they are`. NaN for an empty list.

    The popularity of an item is how many users have it in the training set, or its quantile (`Plan.popularity`).

    Args:
        lists: (U, K) ids, -1 where a list is shorter.
        popularity: (I,) of each item.
        k: the cut-off, at most K counts.

    Example:
        >>> mean_popularity(np.array([[0, 1], [0, -1]]), np.array([4.0, 2.0]), k=2)
        array([3., 4.])
    """
    best = lists[:, :k]
    return _ratio(np.where(best >= 0, popularity[best], 0.0).sum(axis=1), (best >= 0).sum(axis=1))


def _gains(ranks: Values, discount: str) -> Values:
    return 1.0 / np.log2(ranks + 1 if discount == "shifted" else np.maximum(ranks, 2.0))


def _row_sums(values: Values, targets: Rows) -> Values:
    return np.add.reduceat(values, targets.indptr[:-1]) if len(targets) else np.zeros(0)


def _ratio(numerator: Values, denominator: NDArray[Any]) -> Values:
    return np.divide(numerator, denominator, out=np.full(len(numerator), np.nan), where=denominator != 0)
