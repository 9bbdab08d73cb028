"""`precision_recall_score` against one `predict` and one `numpy.argsort` per user, as Spotlight computes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import fitted
import harness
import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation import precision_recall_score

FLOOR = 100.0
K = 10


def loop(evaluation: fitted.Evaluation) -> NDArray[Any]:
    """Precision and recall, with all items sorted user by user."""
    train, test = evaluation.train.tocsr(), evaluation.test.tocsr()
    results = []
    for user in np.flatnonzero(np.diff(test.indptr)):
        scores = -evaluation.model.predict(int(user))
        scores[train.indices[train.indptr[user] : train.indptr[user + 1]]] = np.inf
        targets = test.indices[test.indptr[user] : test.indptr[user + 1]]
        hits = len(np.intersect1d(np.argsort(scores)[:K], targets, assume_unique=True))
        results.append((hits / K, hits / len(targets)))
    return np.array(results).T


def library(evaluation: fitted.Evaluation) -> NDArray[Any]:
    return np.array(precision_recall_score(evaluation.model, evaluation.test, evaluation.train, K))


def measure(quick: bool) -> Iterator[harness.Case]:
    some = fitted.make(users=200 if quick else 5_000)
    few = some.of_first(20 if quick else 250)
    expected, got = loop(few), library(some)
    harness.require(np.array_equal(expected, got[:, : expected.shape[1]]), "precision or recall differs")
    harness.require(bool(got.any()), "no user has a hit, so nothing has been compared")
    slow, fast = harness.alternate([partial(loop, few), partial(library, some)], 2 if quick else 9)
    name = f"precision_recall_score, k = {K}, 1,000 users x {some.test.num_items:,} items"
    yield harness.ratio(name, fitted.per_1000(few, slow), fitted.per_1000(some, fast), FLOOR)


if __name__ == "__main__":
    harness.run(measure)
