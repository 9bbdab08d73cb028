"""Metrics of given lists of recommendations, whoever made them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import validation
from spotfast.evaluation.bootstrap import check_options
from spotfast.evaluation.hits import Hits
from spotfast.evaluation.metrics import coverage, mean_popularity, recommended
from spotfast.evaluation.plan import OF_HITS, OF_LISTS, OF_RANKS, Plan
from spotfast.evaluation.popularity import of_all_items, popularity_of
from spotfast.evaluation.result import Evaluation, Measured
from spotfast.ops.list_hits import list_hits
from spotfast.rows import Rows


def evaluate_lists(
    lists: ArrayLike,
    test: Any,
    metrics: str | Sequence[str] = OF_HITS,
    k: int | Sequence[int] | NDArray[np.integer[Any]] | None = None,
    *,
    train: Any = None,
    users: ArrayLike | None = None,
    num_items: int | None = None,
    dialect: str = "spotlight",
    confidence: float = 0.95,
    seed: int = 0,
) -> Evaluation:
    """Compute metrics of the best k from lists of ids, best first, as `model.recommend` returns them.

    Args:
        lists: (U, K) integers, -1 where a list is shorter. Every cut-off is at most K.
        test: `Interactions`, or anything with `.tocsr()`: users x items, the relevant ones.
        metrics: "precision", "recall", "hit_rate", "ndcg", "map", "reciprocal_rank", "coverage" and "mean_popularity"
            (in `train`); in dialects that compute them from lists also "mrr" (recbole, lenskit) and "auc" (implicit).
        k: cut-offs, from 1 to K. Default: 5, 10 and 20, as far as lists go, or K where that is below 5.
        train: users x items, or None; only "mean_popularity" needs it.
        users: (U,) the row of `test` for each list, all different. Default: list i is that of user i.
        num_items: above all items of the lists and of `test`. Default: as many as `test` has columns.
        dialect: as in `evaluate`.
        confidence: as in `evaluate`.
        seed: as in `evaluate`.

    Returns:
        An `Evaluation`. Lists of users without test items are skipped and counted.

    Raises:
        ValueError: for names that need whole rankings, ids and numbers out of range, and a list with the same relevant
            item twice, naming the user.
        TypeError: for ids that are not integers and a `test` without `.tocsr()`.

    Example:
        >>> from spotfast.interactions import Interactions
        >>> test = Interactions([0, 0], [0, 1], num_users=2, num_items=3)
        >>> result = evaluate_lists([[2, 0], [1, -1]], test, "recall", k=2)
        >>> result["recall@2"], result.num_skipped
        (0.5, 1)
    """
    relevant = Rows.from_matrix("test", test)
    table, rows = _lists_and_rows(lists, users, len(relevant))
    plan = Plan.of(metrics, _cutoffs(k, table.shape[1]), dialect, None, (*OF_HITS, *OF_RANKS, *OF_LISTS))
    if table.shape[1] < plan.cutoffs[-1]:
        raise ValueError(f"k must be at most {table.shape[1]}, the length of the lists, got {plan.cutoffs[-1]}")
    whole = [name for name in plan.metrics if not plan.has_cutoff(name)]
    if whole:
        raise ValueError(f"metrics must be of the best k items, got {whole[0]!r}, which needs the whole ranking")
    check_options(confidence, seed)
    if num_items is None:
        num_items = test.num_items if hasattr(test, "num_items") else test.shape[1]
    else:
        num_items = validation.integer("num_items", num_items, 1)
    popularity = popularity_of(plan, train)
    _check_items("lists", table, num_items)
    _check_items("test", relevant.items, num_items)
    wanted = np.flatnonzero(relevant.counts()[rows])
    num_skipped = len(rows) - len(wanted)
    table, rows = table[wanted], rows[wanted]
    hits = _hits(table, rows, relevant, num_items)
    measured = {
        f"{name}@{cut}": plan.measure_hits(name, hits, cut)
        for name in plan.metrics
        if name not in OF_LISTS
        for cut in plan.cutoffs
    }
    totals: dict[str, float] = {}
    for cut in plan.cutoffs:
        if popularity is not None:
            known = of_all_items(popularity, num_items)
            measured[f"mean_popularity@{cut}"] = Measured(mean_popularity(table, known, cut))
        if "coverage" in plan.metrics:
            totals[f"coverage@{cut}"] = coverage(recommended(table, num_items, cut)) if len(table) else np.nan
    return Evaluation(
        rows, measured, totals, plan.names(),
        num_skipped=num_skipped, dialect=dialect, ties=None, confidence=confidence, seed=seed,
    )  # fmt: skip


def _cutoffs(k: Any, length: int) -> Any:
    """Return the cut-offs asked for, by default those of `evaluate` that lists of this length have."""
    if k is not None:
        return k
    return [cut for cut in (5, 10, 20) if cut <= length] or [max(length, 1)]


def _lists_and_rows(
    lists: ArrayLike, users: ArrayLike | None, num_users: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    table = validation.as_integers("lists", lists).astype(np.int64, copy=False)
    if table.ndim != 2:
        raise ValueError(f"lists must be of shape (U, K), got {table.shape}")
    if table.size and table.min() < -1:
        raise ValueError(f"lists must hold ids of at least 0, or -1 for none, got {table.min()}")
    if users is None:
        if len(table) > num_users:
            raise ValueError(f"lists must be at most as many as test has users, {num_users}, got {len(table)}")
        return table, np.arange(len(table))
    rows = validation.ids("users", users, num_users, "the number of users in test").astype(np.int64)
    if len(rows) != len(table):
        raise ValueError(f"users must have one value per list ({len(table)}), got {len(rows)}")
    if len(np.unique(rows)) < len(rows):
        values, counts = np.unique(rows, return_counts=True)
        raise ValueError(f"users must be different, got {values[counts > 1][0]} more than once")
    return table, rows


def _check_items(name: str, items: NDArray[np.int64], num_items: int) -> None:
    if items.size and items.max() >= num_items:
        raise ValueError(
            f"{name} must hold items below num_items = {num_items}, by default the columns of test, got {items.max()}"
        )


def _hits(table: NDArray[np.int64], rows: NDArray[np.int64], relevant: Rows, num_items: int) -> Hits:
    found, lengths, repeated = list_hits(table, relevant, rows)
    twice = np.flatnonzero(repeated >= 0)
    if len(twice):
        raise ValueError(f"lists must not repeat an item, got {repeated[twice[0]]} twice for user {rows[twice[0]]}")
    places, positions = np.nonzero(found)
    return Hits.from_ranks(places, positions + 1, relevant.counts()[rows], lengths, num_items)
