"""Every metric of a model in one pass over its users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast.evaluation.bootstrap import check_options
from spotfast.evaluation.errors import rating_errors
from spotfast.evaluation.measuring import Measuring
from spotfast.evaluation.plan import DEFAULT, METRICS, OF_RATINGS, Plan
from spotfast.evaluation.ranked import ranked_sequences, ranked_users
from spotfast.evaluation.result import Evaluation, Measured
from spotfast.evaluation.scoring import check_of_users
from spotfast.evaluation.subset import TestUsers
from spotfast.interactions import SequenceInteractions, SequenceWindows
from spotfast.rows import Rows
from spotfast.sequence.implicit import ImplicitSequenceModel


def evaluate(
    model: Any,
    test: Any,
    train: Any = None,
    metrics: str | Sequence[str] = DEFAULT,
    k: int | Sequence[int] | NDArray[np.integer[Any]] = (5, 10, 20),
    *,
    dialect: str = "spotlight",
    ties: str | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    users: ArrayLike | None = None,
    exclude_preceding: bool = False,
    verbose: bool = False,
) -> Evaluation:
    """Compute many metrics from one ranking of the test items, with confidence intervals.

    Items are ranked by descending score among those that are not in `train`, all items and not a sample. Formulas are
    in `spotfast.evaluation.metrics`; `docs/evaluation.md` compares libraries.

    Args:
        model: a fitted model, or anything whose `predict(user)`, or `predict(sequence)`, gives the scores of all items.
        test: `Interactions`, or anything with `.tocsr()`: users x items. For a model of sequences sequences of at least
            2 items, the last of which is predicted from the others.
        train: users x items to leave out of each user's ranking, or None; for sequences it must be None.
        metrics: names. Of the best k: "precision", "recall", "hit_rate", "ndcg", "map", "reciprocal_rank" (of the first
            hit), "coverage", "mean_popularity" (in `train`). Of whole rankings: "mrr", "auc". Of ratings, predicted by
            `predict(user_ids, item_ids)`: "rmse", "mae".
        k: cut-offs, at least 1.
        dialect: whose definitions: "spotlight", "implicit", "recbole" or "lenskit".
        ties: what is done about equal scores. None: the dialect's own. "average": they share the mean of their ranks;
            "expected": the expectation over all orders, for every metric in closed form; "pessimistic": relevant items
            come last; "id": the lower id comes first, as in lists.
        confidence: of the intervals, in (0, 1).
        seed: of the bootstrap, at least 0.
        users: the only users to evaluate, any order; None: all.
        exclude_preceding: for sequences: leave the items before the last out of the ranking.
        verbose: show a progress bar on standard error.

    Returns:
        An `Evaluation`: a mapping from names, as "ndcg@10", to means, with values per user and intervals. Users without
        test items are skipped and counted.

    Raises:
        ValueError: for unknown names, numbers out of range, ids beyond the model, and predictions that are NaN, naming
            the user or the sequence.
        TypeError: for a `test` that does not fit the model, and for `train` or `users` with sequences.

    Warns:
        UserWarning: if test items are in `train`, too, where they can never be found.

    Example:
        >>> from spotfast.interactions import Interactions
        >>> class Popularity:
        ...     def predict(self, user):
        ...         return np.array([0.1, 0.7, 0.2])
        >>> result = evaluate(Popularity(), Interactions([0, 2], [2, 1], num_items=3), metrics=["mrr", "recall"], k=1)
        >>> result["recall@1"], result.per_user["mrr"]
        (0.5, array([0.5, 1. ]))
        >>> result
        <Evaluation: 2 users, 1 without test items skipped, dialect "spotlight">
        metric         mean  95% interval
        mrr          0.7500  0.5000 .. 1.0000
        recall@1     0.5000  0.0000 .. 1.0000
    """
    plan = Plan.of(metrics, k, dialect, ties, METRICS)
    check_options(confidence, seed)
    most = plan.cutoffs[-1]
    if isinstance(model, ImplicitSequenceModel) or isinstance(test, SequenceInteractions | SequenceWindows):
        _check_sequences(plan, train, users)
        measuring = Measuring(plan, len(test) if hasattr(test, "__len__") else 0, verbose)
        measuring.add_all(ranked_sequences(model, test, exclude_preceding, most))
        evaluated, skipped = np.arange(measuring.num_evaluated), 0
    else:
        check_of_users(model, "predict(user)")
        chosen = TestUsers(test, users)
        evaluated, skipped = chosen.users, chosen.num_skipped
        measuring = Measuring(plan, len(evaluated), verbose, _popularity(plan, train))
        if any(name not in OF_RATINGS for name in plan.metrics):
            measuring.add_all(ranked_users(model, chosen.test, train, most))
        measuring.measured.update(_rating_metrics(plan, model, chosen))
    return Evaluation(
        evaluated, measuring.measured, measuring.totals(), plan.names(),
        num_skipped=skipped, dialect=dialect, ties=ties, confidence=confidence, seed=seed,
    )  # fmt: skip


def _check_sequences(plan: Plan, train: Any, users: Any) -> None:
    if train is not None:
        raise TypeError("train must be None for sequences, whose own items exclude_preceding leaves out")
    if users is not None:
        raise TypeError("users must be None for sequences: take those that are to be evaluated")
    for name in plan.metrics:
        if name in (*OF_RATINGS, "mean_popularity"):
            raise ValueError(f"metrics must not hold {name!r} for sequences, which have no ratings and no training set")


def _popularity(plan: Plan, train: Any) -> NDArray[np.float64] | None:
    """Return the popularity of the items in the training set, if it is asked for."""
    if "mean_popularity" not in plan.metrics:
        return None
    if train is None:
        raise ValueError("train is needed for 'mean_popularity', got None")
    return plan.popularity(np.bincount(Rows.from_matrix("train", train).items))


def _rating_metrics(plan: Plan, model: Any, chosen: TestUsers) -> dict[str, Measured]:
    """Compute the errors of predicted ratings: users weigh as much as they have ratings."""
    asked = [name for name in plan.metrics if name in OF_RATINGS]
    if not asked:
        return {}
    errors = rating_errors(model, chosen.test)
    place = np.searchsorted(chosen.users, chosen.test.user_ids)
    counts = np.bincount(place, minlength=len(chosen.users)).astype(np.float64)

    def mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.bincount(place, values, minlength=len(chosen.users)) / counts

    found = {
        "rmse": Measured(mean(errors**2), counts, squared=True),
        "mae": Measured(mean(np.abs(errors)), counts),
    }
    return {name: found[name] for name in asked}
