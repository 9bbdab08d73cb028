"""`mrr_score` against one `predict` and one `scipy.stats.rankdata` per user, as Spotlight computes it.

The `predict` is Spotlight's, as people have it today; for information spotfast's own, too. And against the bare matrix
product that the scores are computed with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fitted
import harness
import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from spotfast.evaluation import mrr_score

FLOOR, PRODUCT_FLOOR = 200.0, 0.4


def loop(predict: Callable[[fitted.Evaluation, int], NDArray[Any]], evaluation: fitted.Evaluation) -> NDArray[Any]:
    """Rank all items user by user."""
    train, test = evaluation.train.tocsr(), evaluation.test.tocsr()
    results = []
    for user in np.flatnonzero(np.diff(test.indptr)):
        scores = -predict(evaluation, int(user))
        scores[train.indices[train.indptr[user] : train.indptr[user + 1]]] = np.inf
        targets = test.indices[test.indptr[user] : test.indptr[user + 1]]
        results.append((1.0 / rankdata(scores)[targets]).mean())
    return np.array(results)


def library(evaluation: fitted.Evaluation) -> NDArray[Any]:
    return mrr_score(evaluation.model, evaluation.test, evaluation.train)


def measure(quick: bool) -> Iterator[harness.Case]:
    some = fitted.make(users=200 if quick else 40_000)
    few = some.of_first(20 if quick else 250)
    fitted.check_predictions(few)
    expected, got = loop(fitted.predict, few), library(some)
    difference = np.abs(expected - got[: len(expected)]).max()
    harness.require(bool(difference <= 1e-12), f"reciprocal ranks differ by up to {difference:.3g}")
    loops = [partial(loop, predict, few) for predict in (fitted.spotlight_predict, fitted.predict)]
    candidates = [*loops, partial(fitted.product, some), partial(library, some)]
    *slow, product, fast = harness.alternate(candidates, 2 if quick else 9)
    baselines = [*(fitted.per_1000(few, times) for times in slow), fitted.per_1000(some, product)]
    name = f"mrr_score, {some.test.num_items:,} items, 1,000 users"
    for against, baseline, floor in zip(
        ("Spotlight's predict", "our predict", "torch.mm"), baselines, (FLOOR, None, PRODUCT_FLOOR), strict=True
    ):
        yield harness.ratio(f"{name}: {against}", baseline, fitted.per_1000(some, fast), floor)


if __name__ == "__main__":
    harness.run(measure)
