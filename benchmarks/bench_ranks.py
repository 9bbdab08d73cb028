"""`mrr_score` against one `predict` and one `scipy.stats.rankdata` per user, as Spotlight computes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import fitted
import harness
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from spotfast.evaluation import mrr_score

FLOOR = 100.0


def loop(evaluation: fitted.Evaluation) -> NDArray[Any]:
    """Rank all items user by user."""
    train, test = evaluation.train.tocsr(), evaluation.test.tocsr()
    results = []
    for user in np.flatnonzero(np.diff(test.indptr)):
        scores = -evaluation.model.predict(int(user))
        scores[train.indices[train.indptr[user] : train.indptr[user + 1]]] = np.inf
        targets = test.indices[test.indptr[user] : test.indptr[user + 1]]
        results.append((1.0 / rankdata(scores)[targets]).mean())
    return np.array(results)


def library(evaluation: fitted.Evaluation) -> NDArray[Any]:
    return mrr_score(evaluation.model, evaluation.test, evaluation.train)


def measure(quick: bool) -> Iterator[harness.Case]:
    some = fitted.make(users=200 if quick else 5_000)
    few = some.of_first(20 if quick else 250)
    expected, got = loop(few), library(some)
    difference = np.abs(expected - got[: len(expected)]).max()
    harness.require(bool(difference <= 1e-12), f"reciprocal ranks differ by up to {difference:.3g}")
    slow, fast = harness.alternate([partial(loop, few), partial(library, some)], 2 if quick else 9)
    name = f"mrr_score, 1,000 users x {some.test.num_items:,} items"
    yield harness.ratio(name, fitted.per_1000(few, slow), fitted.per_1000(some, fast), FLOOR)


if __name__ == "__main__":
    harness.run(measure)
