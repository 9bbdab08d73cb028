"""The values of all metrics, collected from one block of users to the next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.evaluation import metrics
from spotfast.evaluation.plan import OF_HITS, OF_RANKS, Plan
from spotfast.evaluation.popularity import of_all_items
from spotfast.evaluation.ranked import Ranked
from spotfast.evaluation.ranking import Lost
from spotfast.evaluation.result import Measured


class Measuring:
    """Computes the metrics of a plan, block by block.

    Args:
        plan: which metrics.
        total: how many users or sequences there will be.
        verbose: show a progress bar.
        popularity: (I,) of each item, for "mean_popularity".

    Attributes:
        measured: the values of each metric, once all blocks are in.
        num_evaluated: how many users or sequences there were.
    """

    def __init__(self, plan: Plan, total: int, verbose: bool, popularity: NDArray[np.float64] | None = None) -> None:
        self.measured: dict[str, Measured] = {}
        self.num_evaluated = 0
        self._plan, self._total, self._verbose, self._popularity = plan, total, verbose, popularity
        self._seen: dict[int, NDArray[np.bool_]] = {}  # by cut-off: the items in lists
        self._lost = Lost()

    def add_all(self, blocks: Iterable[Ranked]) -> None:
        """Take in all users."""
        parts = []
        bar: Any = None
        if self._verbose:
            from tqdm import tqdm

            bar = tqdm(total=self._total, desc="Evaluating", unit="users", unit_scale=True, leave=False)
        try:
            for block in blocks:
                parts.append(self._measure(block))
                self.num_evaluated += len(block.targets)
                if bar is not None:
                    bar.update(len(block.targets))
        finally:
            if bar is not None:
                bar.close()
        self.measured = _joined(parts) if parts else self._nothing()
        self._lost.warn(stacklevel=5)

    def totals(self) -> dict[str, float]:
        """Return the metrics that are no means over users."""
        if "coverage" not in self._plan.metrics:
            return {}
        return {
            f"coverage@{k}": metrics.coverage(self._seen[k]) if k in self._seen else float("nan")
            for k in self._plan.cutoffs
        }

    def _measure(self, block: Ranked) -> dict[str, Measured]:
        plan = self._plan
        found: dict[str, Measured] = {}
        if plan.needs_counts():
            _ = block.counts  # first: ranks follow from them
        for name in [name for name in plan.metrics if name in (*OF_HITS, *OF_RANKS)]:
            ties = plan.ties_of(name)
            if plan.has_cutoff(name):
                for k in plan.cutoffs:
                    found[f"{name}@{k}"] = plan.measure_hits(name, block.hits(ties), k)
            elif name == "auc":
                values = metrics.auc(block.ranks(ties), block.targets, block.candidates)
                weighted = plan.dialect.auc == "weighted"
                found["auc"] = Measured(values, block.targets.counts().astype(np.float64) if weighted else None)
            elif ties == "expected":
                found["mrr"] = Measured(metrics.expected_mrr(block.counts, block.targets, block.candidates))
            else:
                found["mrr"] = Measured(metrics.mrr(block.ranks(ties), block.targets))
        self._look_at_lists(block, found)
        self._lost.count(block.block)
        return found

    def _look_at_lists(self, block: Ranked, found: dict[str, Measured]) -> None:
        asked = [name for name in ("coverage", "mean_popularity") if name in self._plan.metrics]
        if not asked:
            return
        lists = block.lists()
        for k in self._plan.cutoffs:
            if "coverage" in asked:
                seen = self._seen.setdefault(k, np.zeros(block.num_items, np.bool_))
                seen |= metrics.recommended(lists, block.num_items, k)
            if self._popularity is not None:
                known = of_all_items(self._popularity, block.num_items)
                found[f"mean_popularity@{k}"] = Measured(metrics.mean_popularity(lists, known, k))

    def _nothing(self) -> dict[str, Measured]:
        names = [name for name in self._plan.names() if not name.startswith(("coverage", "rmse", "mae"))]
        return {name: Measured(np.zeros(0)) for name in names}


def _joined(parts: list[dict[str, Measured]]) -> dict[str, Measured]:
    """Put the values of consecutive users together."""

    def join(name: str) -> Measured:
        every = [part[name] for part in parts]
        weights = [each.weights for each in every if each.weights is not None]
        values = np.concatenate([each.values for each in every])
        return Measured(values, np.concatenate(weights) if weights else None)

    return {name: join(name) for name in parts[0]}
