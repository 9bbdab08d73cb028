"""What `evaluate` returns: a value per user, means, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation.bootstrap import bootstrap_intervals


@dataclass(frozen=True)
class Measured:
    """One metric.

    Attributes:
        values: (U,) of each user; NaN where the metric is not defined.
        weights: (U,) of the users in the mean, or None for equal ones.
        squared: the metric is the root of the mean of values, which are squares.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64] | None = None
    squared: bool = False

    def known_weights(self) -> NDArray[np.float64]:
        """Return the weights, 0 where the metric is not defined."""
        weights = np.ones(len(self.values)) if self.weights is None else self.weights
        return np.where(np.isnan(self.values), 0.0, weights)

    def mean(self) -> float:
        """Return the mean over the users for whom the metric is defined; NaN if it is for none."""
        weights = self.known_weights()
        if weights.sum() == 0:
            return float("nan")
        known = weights > 0
        mean = float(np.average(self.values[known], weights=weights[known]))
        return float(np.sqrt(mean)) if self.squared else mean


class Evaluation(Mapping[str, float]):
    """The metrics of a model: a mapping from names, as "ndcg@10", to means.

    Attributes:
        users: int64 (U,), the users with test items, ascending; for sequences their positions.
        per_user: the values of each metric, float64 (U,), in the order of `users`; NaN where a metric is not defined
            for a user, who is left out of the mean then. Coverage has none.
        intervals: (low, high) of each mean, by the bootstrap over users; NaN for coverage.
        confidence: how sure the intervals are, as 0.95.
        num_evaluated, num_skipped: how many users have test items, and how many have none.
        dialect, ties: as passed to `evaluate`.
    """

    users: NDArray[np.int64]
    per_user: dict[str, NDArray[np.float64]]
    intervals: dict[str, tuple[float, float]]

    def __init__(
        self,
        users: NDArray[np.int64],
        measured: dict[str, Measured],
        totals: dict[str, float],
        names: list[str],
        *,
        num_skipped: int,
        dialect: str,
        ties: str | None,
        confidence: float,
        seed: int,
    ) -> None:
        self.users, self.num_evaluated, self.num_skipped = users, len(users), num_skipped
        self.dialect, self.ties, self.confidence = dialect, ties, confidence
        self.per_user = {
            name: np.sqrt(measured[name].values) if measured[name].squared else measured[name].values
            for name in names
            if name in measured
        }
        means = {**{name: each.mean() for name, each in measured.items()}, **totals}
        self._means = {name: means[name] for name in names}
        self.intervals = {name: (float("nan"), float("nan")) for name in names}
        if measured:
            values = np.stack([each.values for each in measured.values()], axis=1)
            weights = np.stack([each.known_weights() for each in measured.values()], axis=1)
            ends = bootstrap_intervals(values, weights, confidence, seed)
            for (name, each), (low, high) in zip(measured.items(), ends, strict=True):
                found = np.sqrt([low, high]) if each.squared else (low, high)
                self.intervals[name] = float(found[0]), float(found[1])

    def __getitem__(self, name: str) -> float:
        if name not in self._means:
            raise KeyError(f"{name!r} is none of {', '.join(self)}")
        return self._means[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._means)

    def __len__(self) -> int:
        return len(self._means)

    def __repr__(self) -> str:
        ties = "" if self.ties is None else f', ties "{self.ties}"'
        skipped = f", {self.num_skipped:,} without test items skipped" if self.num_skipped else ""
        width = max(len(name) for name in [*self, "metric"])
        lines = [
            f'<Evaluation: {self.num_evaluated:,} users{skipped}, dialect "{self.dialect}"{ties}>',
            f"{'metric':<{width}}  {'mean':>9}  {self.confidence:.0%} interval",
        ]
        for name, mean in self.items():
            low, high = self.intervals[name]
            interval = "-" if np.isnan(low) else f"{low:.4f} .. {high:.4f}"
            lines.append(f"{name:<{width}}  {mean:>9.4f}  {interval}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return means, intervals and counts as plain numbers, ready for JSON except that NaN stays NaN."""
        return {
            "metrics": {
                name: {"mean": mean, "low": self.intervals[name][0], "high": self.intervals[name][1]}
                for name, mean in self.items()
            },
            "confidence": self.confidence,
            "num_evaluated": self.num_evaluated,
            "num_skipped": self.num_skipped,
            "dialect": self.dialect,
            "ties": self.ties,
        }
