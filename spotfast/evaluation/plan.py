"""Which metrics are asked for, at which cut-offs, by whose definitions; and their values for some rankings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.evaluation import dialects, metrics
from spotfast.evaluation.dialects import Dialect
from spotfast.evaluation.hits import Hits
from spotfast.evaluation.result import Measured

OF_HITS = ("reciprocal_rank", "precision", "recall", "hit_rate", "ndcg", "map")
OF_RANKS = ("mrr", "auc")
OF_LISTS = ("coverage", "mean_popularity")
OF_RATINGS = ("rmse", "mae")
METRICS = (*OF_RANKS, *OF_HITS, *OF_LISTS, *OF_RATINGS)
DEFAULT = ("mrr", "reciprocal_rank", "precision", "recall", "hit_rate", "ndcg", "map", "auc")
TIES = ("average", "expected", "pessimistic", "id")


@dataclass(frozen=True)
class Plan:
    """What is to be computed.

    Attributes:
        metrics: names, of `METRICS`.
        cutoffs: ascending.
        dialect: the definitions.
        ties: one of `TIES`, or None: as the dialect does for each metric.
    """

    metrics: tuple[str, ...]
    cutoffs: tuple[int, ...]
    dialect: Dialect
    ties: str | None

    @classmethod
    def of(cls, names: str | Sequence[str], k: Any, dialect: str, ties: str | None, allowed: Sequence[str]) -> Plan:
        """Check the arguments of `evaluate`, and take out what is asked for twice.

        Raises:
            ValueError: for unknown names, no metric or cut-off at all, and cut-offs below 1.
            TypeError: for metrics that are no names, and cut-offs that are not integers.
        """
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, Iterable):
            raise TypeError(f"metrics must be a name or several, of {', '.join(map(repr, allowed))}, got {names!r}")
        names = list(names)
        if not names:
            raise ValueError(f"metrics must name at least one of {', '.join(map(repr, allowed))}, got none")
        for name in names:
            validation.choice("metrics", name, allowed)
        if np.ndim(k) > 1 or np.size(k) == 0:
            raise ValueError(f"k must be an integer or a sequence of at least one, got shape {np.shape(k)}")
        cutoffs = {validation.integer("k", value, 1) for value in ([k] if np.ndim(k) == 0 else k)}
        if ties is not None:
            validation.choice("ties", ties, TIES)
        return cls(tuple(dict.fromkeys(names)), tuple(sorted(cutoffs)), dialects.find(dialect), ties)

    def has_cutoff(self, name: str) -> bool:
        """Whether the metric is of the best k items."""
        if name == "mrr":
            return self.dialect.first_hit_mrr
        if name == "auc":
            return self.dialect.auc == "list"
        return name not in OF_RATINGS

    def names(self) -> list[str]:
        """Return the names in the result, as "ndcg@10", in the order of the metrics."""
        return [
            name
            for metric in self.metrics
            for name in ([f"{metric}@{k}" for k in self.cutoffs] if self.has_cutoff(metric) else [metric])
        ]

    def ties_of(self, name: str) -> str:
        """Return what is done about equal scores for a metric."""
        return self.ties or ("average" if name in self.dialect.average_ties else "expected")

    def needs_counts(self) -> bool:
        """Whether ties must be told apart: average ranks do not suffice."""
        return any(self.ties_of(name) != "average" for name in self.metrics if name in (*OF_HITS, *OF_RANKS))

    def measure_hits(self, name: str, hits: Hits, k: int) -> Measured:
        """Compute a metric with a cut-off."""
        dialect = self.dialect
        formulas: dict[str, Callable[[Hits, int], NDArray[np.float64]]] = {
            "mrr": metrics.reciprocal_rank,
            "reciprocal_rank": metrics.reciprocal_rank,
            "precision": partial(metrics.precision, divide_by=dialect.precision),
            "recall": partial(metrics.recall, divide_by=dialect.recall),
            "hit_rate": metrics.hit_rate,
            "ndcg": partial(metrics.ndcg, discount=dialect.discount),
            "map": partial(metrics.average_precision, divide_by=dialect.average_precision),
            "auc": metrics.auc_at,
        }
        pooled = name == "precision" and dialect.pooled_precision
        weights = metrics.divisor(hits, k, dialect.precision).astype(np.float64) if pooled else None
        return Measured(formulas[name](hits, k), weights)

    def popularity(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the popularity of each item (I,) from how many users it has.

        Quantiles run from 0, for an item without users, to 1; equal numbers share their average.
        """
        if self.dialect.popularity == "counts":
            return counts.astype(np.float64)
        ordered = np.sort(counts[counts > 0])
        below, up_to = (np.searchsorted(ordered, counts, side) for side in ("left", "right"))
        return np.where(counts > 0, (below + up_to + 1) / 2 / max(len(ordered), 1), 0.0)
