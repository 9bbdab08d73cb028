"""Every metric of a model in one pass over its users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import device_memory, validation
from spotfast.evaluation.bootstrap import check_options
from spotfast.evaluation.evaluated import Evaluated, EvaluatedSequences, EvaluatedUsers
from spotfast.evaluation.measuring import Measuring
from spotfast.evaluation.plan import DEFAULT, METRICS, Plan
from spotfast.evaluation.result import Evaluation
from spotfast.interactions import SequenceInteractions, SequenceWindows
from spotfast.memory import as_bytes, most_within
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
    memory_budget: int | str | None = None,
    verbose: bool = False,
) -> Evaluation:
    """Compute many metrics from one ranking of the test items, with confidence intervals.

    Items are ranked by descending score among those that are not in `train`, all items and not a sample. Formulas are
    in `spotfast.evaluation.metrics`; `docs/evaluation.md` compares libraries.

    Args:
        model: a fitted model; or anything with `user_vectors()` and `item_vectors()`, whose products are the scores, as
            `spotfast.recommendation.recommend` takes it; or anything whose `predict(user)`, or `predict(sequence)`,
            gives the scores of all items.
        test: `Interactions`, or anything with `.tocsr()`: users x items. For a model of sequences sequences of at least
            2 items, the last of which is predicted from the others.
        train: users x items to leave out of each user's ranking, or None; for sequences it must be None.
        metrics: names. Of the best k: "precision", "recall", "hit_rate", "ndcg", "map", "reciprocal_rank" (of the first
            hit), "coverage", "mean_popularity" (in `train`). Of whole rankings: "mrr", "auc". Of ratings, predicted by
            `predict(user_ids, item_ids)`, or by the vectors of a model without it: "rmse", "mae".
        k: cut-offs, at least 1.
        dialect: whose definitions: "spotlight", "implicit", "recbole" or "lenskit".
        ties: what is done about equal scores. None: what the dialect's library defines, else "expected". "average":
            they share the mean of their ranks; "expected": the expectation over all orders, for every metric in closed
            form; "pessimistic": relevant items come last; "id": the lower id comes first, as in lists.
        confidence: of the intervals, in (0, 1).
        seed: of the bootstrap, at least 0.
        users: the only users to evaluate, any order; None: all.
        exclude_preceding: for sequences: leave the items before the last out of the ranking.
        memory_budget: bytes, or a text as "512MB": what may be used beyond the model and the arguments, the result
            included. Memory inside a network or a `predict` of someone's own is not counted. Default: what
            `estimate_memory` returns.
        verbose: show a progress bar on standard error.

    Returns:
        An `Evaluation`: a mapping from names, as "ndcg@10", to means, with values per user and intervals. Users without
        test items are skipped and counted.

    Raises:
        ValueError: for unknown names, numbers out of range, ids beyond the model, an `id_map` of `test` or `train` that
            is not the model's, a budget that is too small, and predictions that are NaN, naming user or sequence.
        TypeError: for a `test` that does not fit the model, for `train` or `users` with sequences, and for
            `exclude_preceding` without.
        DeviceMemoryError: if a CUDA device has too little memory; a smaller `memory_budget` lowers what is taken.

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
    if memory_budget is not None:
        as_bytes("memory_budget", memory_budget)  # before any work

    def measure() -> tuple[NDArray[np.int64], Measuring, int]:  # so that tables of items are gone before intervals come
        evaluated = _evaluated(plan, model, test, train, users, exclude_preceding)
        at_once = most_within(memory_budget, evaluated.at_once, evaluated.num_bytes)
        return *evaluated.measure(at_once, verbose), evaluated.num_skipped

    with device_memory.explained_for(model, "the evaluation", device_memory.FOR_LISTS):
        who, measuring, num_skipped = measure()
    return Evaluation(
        who, measuring.measured, measuring.totals(), plan.names(),
        num_skipped=num_skipped, dialect=dialect, ties=ties, confidence=confidence, seed=seed,
    )  # fmt: skip


def estimate_memory(
    model: Any,
    test: Any,
    train: Any = None,
    metrics: str | Sequence[str] = DEFAULT,
    k: int | Sequence[int] | NDArray[np.integer[Any]] = (5, 10, 20),
    *,
    dialect: str = "spotlight",
    ties: str | None = None,
    users: ArrayLike | None = None,
    exclude_preceding: bool = False,
    memory_budget: int | str | None = None,
) -> int:
    """Return how many bytes `evaluate` would use at most, with the same arguments: its result included.

    What the model and the arguments hold already is not counted, nor is memory inside a network or a `predict` of
    someone's own, which is taken to predict as many items as `test` and `train` have.

    For a model on a CUDA device, tables and rows of scores there are counted as if they were on the CPU; what the
    ranking kernels take beside them is not: `docs/gpu.md` says how much that is.

    Raises:
        ValueError, TypeError: for arguments that `evaluate` refuses before it asks the model.

    Example:
        >>> from spotfast.interactions import Interactions
        >>> class Popularity:
        ...     def predict(self, user):
        ...         return np.array([0.1, 0.7, 0.2])
        >>> estimate_memory(Popularity(), Interactions([0, 2], [2, 1]), metrics="mrr") < 10_000_000
        True
    """
    plan = Plan.of(metrics, k, dialect, ties, METRICS)
    evaluated = _evaluated(plan, model, test, train, users, exclude_preceding)
    return evaluated.num_bytes(most_within(memory_budget, evaluated.at_once, evaluated.num_bytes))


def _evaluated(plan: Plan, model: Any, test: Any, train: Any, users: Any, exclude_preceding: bool) -> Evaluated:
    exclude_preceding = validation.flag("exclude_preceding", exclude_preceding)
    if not isinstance(model, ImplicitSequenceModel) and not isinstance(test, SequenceInteractions | SequenceWindows):
        if exclude_preceding:
            raise TypeError("exclude_preceding must be False for users, who have no sequences: train leaves out items")
        return EvaluatedUsers(plan, model, test, train, users)
    if train is not None:
        raise TypeError("train must be None for sequences, whose own items exclude_preceding leaves out")
    if users is not None:
        raise TypeError("users must be None for sequences: take those that are to be evaluated")
    return EvaluatedSequences(plan, model, test, exclude_preceding)
