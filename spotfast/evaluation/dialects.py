"""How libraries define the metrics that share a name: divisors, discounts, ties, and what a mean is taken of.

Read from the sources of Spotlight 0.1.6, implicit 0.7, RecBole 1.2.1 and LensKit 2025.8. `docs/evaluation.md` has the
table. What a library does not have is defined as in "spotlight", which takes the usual definition where Spotlight has
none, either.
"""

from __future__ import annotations

from dataclasses import dataclass

from spotfast import validation


@dataclass(frozen=True)
class Dialect:
    """The definitions of one library. Names of divisors and discounts are those of `spotfast.evaluation.metrics`.

    Attributes:
        precision, recall, average_precision: what the sum of hits, or of precisions at hits, is divided by.
        pooled_precision: precision is `all hits of all users / all divisors`, not the mean of the users' precisions.
        discount: of the discounted cumulative gain.
        first_hit_mrr: "mrr" is the reciprocal rank of the first hit among the first k, not a mean over all test items.
        auc: "pairs", the mean over users; "weighted", users weighted with their numbers of test items; "list", that of
            the first k items (`auc_at`).
        popularity: "counts", how many users an item has in the training set; "quantiles", the rank of that number.
        average_ties: the metrics for which items with equal scores share their average rank. All others are the
            expectation over the orders of those items: libraries take the one that their partial sort happens to give,
            which defines nothing, and an order by id makes a constant scorer look good where low ids are popular.
    """

    precision: str = "k"
    recall: str = "relevant"
    average_precision: str = "ideal"
    pooled_precision: bool = False
    discount: str = "shifted"
    first_hit_mrr: bool = False
    auc: str = "pairs"
    popularity: str = "counts"
    average_ties: tuple[str, ...] = ("mrr", "auc")


DIALECTS = {
    "spotlight": Dialect(precision="items"),
    "implicit": Dialect(precision="ideal", pooled_precision=True, auc="list", average_ties=("mrr",)),
    "recbole": Dialect(first_hit_mrr=True, auc="weighted", average_ties=("auc",)),
    "lenskit": Dialect(
        precision="list",
        recall="ideal",
        average_precision="list",
        discount="clipped",
        first_hit_mrr=True,
        popularity="quantiles",
        average_ties=("auc",),
    ),
}


def find(name: str) -> Dialect:
    """Return the dialect of a name.

    Raises:
        ValueError: for a name that is none, naming those that are.

    Example:
        >>> find("implicit").precision
        'ideal'
    """
    validation.choice("dialect", name, list(DIALECTS))
    return DIALECTS[name]
