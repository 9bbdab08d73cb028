"""`precision_recall_score` against one `predict` and one `numpy.argsort` per user, as Spotlight computes it.

The `predict` is Spotlight's, as people have it today; for information spotfast's own, too. And, for information,
against the bare matrix product that the scores are computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fitted
import harness
import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation import precision_recall_score

FLOOR = 250.0
K = 10


def loop(predict: Callable[[fitted.Evaluation, int], NDArray[Any]], evaluation: fitted.Evaluation) -> NDArray[Any]:
    """Precision and recall, with all items sorted user by user."""
    train, test = evaluation.train.tocsr(), evaluation.test.tocsr()
    results = []
    for user in np.flatnonzero(np.diff(test.indptr)):
        scores = -predict(evaluation, int(user))
        scores[train.indices[train.indptr[user] : train.indptr[user + 1]]] = np.inf
        targets = test.indices[test.indptr[user] : test.indptr[user + 1]]
        hits = len(np.intersect1d(np.argsort(scores)[:K], targets, assume_unique=True))
        results.append((hits / K, hits / len(targets)))
    return np.array(results).T


def library(evaluation: fitted.Evaluation) -> NDArray[Any]:
    return np.array(precision_recall_score(evaluation.model, evaluation.test, evaluation.train, K))


def measure(quick: bool) -> Iterator[harness.Case]:
    some = fitted.make(users=200 if quick else 40_000)
    few = some.of_first(20 if quick else 250)
    fitted.check_predictions(few)
    expected, got = loop(fitted.predict, few), library(some)
    harness.require(np.array_equal(expected, got[:, : expected.shape[1]]), "precision or recall differs")
    harness.require(bool(got.any()), "no user has a hit, so nothing has been compared")
    loops = [partial(loop, predict, few) for predict in (fitted.spotlight_predict, fitted.predict)]
    candidates = [*loops, partial(fitted.product, some), partial(library, some)]
    *slow, product, fast = harness.alternate(candidates, 2 if quick else 9)
    baselines = [*(fitted.per_1000(few, times) for times in slow), fitted.per_1000(some, product)]
    name = f"precision and recall, {some.test.num_items:,} items"
    for against, baseline, floor in zip(
        ("Spotlight's predict", "our predict", "torch.mm"), baselines, (FLOOR, None, None), strict=True
    ):
        yield harness.ratio(f"{name}: {against}", baseline, fitted.per_1000(some, fast), floor)


if __name__ == "__main__":
    harness.run(measure)
