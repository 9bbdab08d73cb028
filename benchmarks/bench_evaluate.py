"""`evaluate` with eight metrics at three cut-offs against `mrr_score` alone; metrics of given lists against `ranx`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import partial
from typing import Any

import fitted
import harness
import numpy as np
import shapes
from numpy.typing import NDArray

from spotfast.evaluation import Evaluation, evaluate, evaluate_lists, mrr_score
from spotfast.interactions import Interactions

EVALUATE_FLOOR = 1 / 1.3
LISTS_FLOOR = 5.0
CUTOFFS = (5, 10, 20)
NAMED_USERS = 200  # with ranx's dictionaries, a millisecond each
RANX = {"mrr": "reciprocal_rank", "precision": "precision", "recall": "recall", "hit_rate": "hit_rate", "ndcg": "ndcg"}
RANX["map"] = "map"


def of_model(some: fitted.Evaluation, ties: str | None) -> Evaluation:
    return evaluate(some.model, some.test, some.train, k=CUTOFFS, ties=ties)


def of_lists(lists: NDArray[np.int64], test: Interactions) -> Evaluation:
    return evaluate_lists(lists, test, list(RANX.values()), CUTOFFS)


def ranx_metrics() -> list[str]:
    return [f"{name}@{k}" for name in RANX for k in CUTOFFS]


def ranx_arrays(lists: NDArray[np.int64], test: Interactions, means: bool = True) -> Any:
    """Hand ranx what its kernels take, without the dictionaries that it usually takes."""
    import numba
    import ranx

    run = np.stack([lists, np.broadcast_to(np.arange(lists.shape[1], 0, -1), lists.shape)], axis=2).astype(np.float64)
    order = np.argsort(test.user_ids, kind="stable")
    pairs = np.stack([test.item_ids[order], np.ones(len(order))], axis=1).astype(np.float64)
    ends = np.cumsum(np.bincount(test.user_ids, minlength=len(lists)))
    relevant = numba.typed.List(np.split(pairs, ends[:-1]))
    return ranx.evaluate(relevant, run, ranx_metrics(), return_mean=means)


def ranx_dictionaries(lists: NDArray[np.int64], test: Interactions) -> Any:
    """Hand ranx what its documentation says: dictionaries of names."""
    import ranx

    relevant: dict[str, dict[str, int]] = {}
    for user, item in zip(test.user_ids.tolist(), test.item_ids.tolist(), strict=True):
        relevant.setdefault(str(user), {})[str(item)] = 1
    length = lists.shape[1]
    run = {
        str(user): {str(item): float(length - place) for place, item in enumerate(row)}
        for user, row in enumerate(lists.tolist())
    }
    return ranx.evaluate(ranx.Qrels(relevant), ranx.Run(run), ranx_metrics())


def make_lists(users: int) -> tuple[NDArray[np.int64], Interactions]:
    """Draw lists of 20 different items, a few of which are relevant, and test sets that are never empty."""
    rng = np.random.default_rng(0)
    shape = shapes.MOVIELENS_20M
    user_ids, item_ids = shapes.distinct_pairs(shape, shapes.activity(shape, users, rng) // 5, rng)
    test = Interactions(user_ids, item_ids, num_users=users, num_items=shape.items)
    first = rng.integers(0, shape.items, users)
    lists = (first[:, np.newaxis] + np.arange(20) * 7) % shape.items
    starts = np.searchsorted(user_ids, np.arange(users))
    place = rng.integers(0, 20, users)
    found = rng.random(users) < 0.7
    relevant = item_ids[starts]
    found &= (lists != relevant[:, np.newaxis]).all(axis=1)
    lists[found, place[found]] = relevant[found]
    return lists, test


def check_lists(lists: NDArray[np.int64], test: Interactions) -> None:
    ours, theirs = of_lists(lists, test), ranx_arrays(lists, test, means=False)
    relevant = np.bincount(test.user_ids)
    for name, own in RANX.items():
        for k in CUTOFFS:
            # ranx divides the sum of precisions by the relevant items even if they are more than k.
            factor = np.minimum(relevant, k) / relevant if name == "map" else 1.0
            difference = np.abs(ours.per_user[f"{own}@{k}"] * factor - theirs[f"{name}@{k}"]).max()
            harness.require(bool(difference <= 1e-12), f"{own}@{k} differs by up to {difference:.3g}")


def measure(quick: bool) -> Iterator[harness.Case]:
    repetitions = 2 if quick else 9
    some = fitted.make(users=300 if quick else 20_000)
    scores = partial(mrr_score, some.model, some.test, some.train)
    for ties in (None, "average"):
        whole = partial(of_model, some, ties)
        harness.require(bool((whole().per_user["mrr"] == scores()).all()), "mrr differs")
        alone, all_metrics = harness.alternate([scores, whole], repetitions)
        name = f"evaluate, 8 metrics x 3 k, ties {ties or 'by default'}: mrr_score"
        yield harness.ratio(name, alone, all_metrics, EVALUATE_FLOOR)
    if importlib.util.find_spec("ranx") is None:
        print("ranx is not installed (pip install ranx): its cases are not judged")
        return
    lists, test = make_lists(300 if quick else 50_000)
    check_lists(lists, test)
    few = lists[:NAMED_USERS], test.take(test.user_ids < NAMED_USERS)
    difference = abs(ranx_dictionaries(*few)["ndcg@10"] - of_lists(*few)["ndcg@10"])
    harness.require(bool(difference <= 1e-12), f"ndcg@10 differs by {difference:.3g}")
    candidates = [partial(each, lists, test) for each in (ranx_arrays, of_lists)]
    arrays, ours = harness.alternate(candidates, repetitions)
    yield harness.ratio("evaluate_lists, 6 metrics x 3 k: ranx, from arrays", arrays, ours, LISTS_FLOOR)
    dictionaries, ours = harness.alternate([partial(each, *few) for each in (ranx_dictionaries, of_lists)], 2)
    yield harness.ratio(f"the same, {NAMED_USERS} lists: ranx, from dictionaries", dictionaries, ours, None)


if __name__ == "__main__":
    harness.run(measure)
