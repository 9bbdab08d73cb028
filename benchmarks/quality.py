"""How good the models are on real data, for every loss and sampler; a table in Markdown.

On MovieLens-100K (random splits of 80/20, batches of 1,024, vectors of 32, 10 epochs): MRR and precision@10 with
training items left out, RMSE of the explicit models; means over the splits with their standard errors. On Gowalla,
in a file that you have: BPR with every sampler.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import harness
import numpy as np
import shapes
from numpy.typing import NDArray

from spotfast.cross_validation import random_train_test_split
from spotfast.datasets.movielens import get_movielens_dataset
from spotfast.evaluation import mrr_score, precision_recall_score, rmse_score
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import NEGATIVES, ImplicitFactorizationModel
from spotfast.interactions import Interactions

K = 10
# The least mean MRR on MovieLens-100K, by loss and sampler ("unseen" is the default one).
MRR_FLOORS = {
    ("pointwise", "unseen"): 0.058,
    ("bpr", "unseen"): 0.082,
    ("hinge", "unseen"): 0.073,
    ("adaptive_hinge", "uniform"): 0.080,
    ("adaptive_hinge", "unseen"): 0.082,
}
RMSE_CEILINGS = {"regression": 1.00, "poisson": 0.96}

Split = tuple[Interactions, Interactions]  # training and test interactions


@dataclass(frozen=True)
class Measured:
    """A score over several splits.

    Attributes:
        values: one per split.
    """

    values: list[float]

    @property
    def mean(self) -> float:
        """The mean over the splits."""
        return float(np.mean(self.values))

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {np.std(self.values, ddof=1) / np.sqrt(len(self.values)):.4f}"


def ranking_scores(model: ImplicitFactorizationModel, train: Interactions, test: Interactions) -> tuple[float, float]:
    """Fit, and return the mean MRR and the mean precision@10 over the users with test items."""
    model.fit(train)
    precision, _ = precision_recall_score(model, test, train, K)
    return float(mrr_score(model, test, train).mean()), float(precision.mean())


def over_splits(score: Callable[[int], tuple[float, ...]], splits: int) -> list[Measured]:
    """Collect scores over the numbers of the splits, which are the models' seeds as well."""
    return [Measured(list(values)) for values in zip(*map(score, range(splits)), strict=True)]


def movielens(splits: list[Split], epochs: int) -> Iterator[bool]:
    """Print the tables of MovieLens-100K; yield for each floor whether it is met."""
    print(f"\n| loss | negatives | MRR | precision@{K} | floor of MRR |\n|---|---|---|---|---|")
    for loss in ImplicitFactorizationModel.LOSSES:
        for negatives in NEGATIVES:

            def implicit(split: int, loss: str = loss, negatives: str = negatives) -> tuple[float, float]:
                model = ImplicitFactorizationModel(
                    loss,
                    n_iter=epochs,
                    batch_size=1024,
                    l2=1e-6,
                    learning_rate=1e-2,
                    random_state=np.random.RandomState(split),
                    negatives=negatives,
                )
                return ranking_scores(model, *splits[split])

            mrr, precision = over_splits(implicit, len(splits))
            floor = MRR_FLOORS.get((loss, negatives))
            met = floor is None or mrr.mean >= floor
            print(
                f"| {loss} | {negatives} | {mrr} | {precision} | {'' if floor is None else format(floor, '.3f')} |",
                flush=True,
            )
            yield met
    print("\n| loss | RMSE | ceiling |\n|---|---|---|")
    for loss, ceiling in RMSE_CEILINGS.items():

        def explicit(split: int, loss: str = loss) -> tuple[float]:
            model = ExplicitFactorizationModel(
                loss,
                n_iter=epochs,
                batch_size=1024,
                l2=1e-5,
                learning_rate=1e-3,
                random_state=np.random.RandomState(split),
            )
            train, test = splits[split]
            model.fit(train)
            return (rmse_score(model, test),)

        (rmse,) = over_splits(explicit, len(splits))
        met = rmse.mean <= ceiling
        print(f"| {loss} | {rmse} | {ceiling:.2f} |", flush=True)
        yield met


def gowalla(train: Interactions, test: Interactions, seeds: int, epochs: int) -> None:
    """Print the table of Gowalla, whose split is fixed."""
    print(f"\n| loss | negatives | MRR | precision@{K} |\n|---|---|---|---|")
    for negatives in NEGATIVES:

        def bpr(seed: int, negatives: str = negatives) -> tuple[float, float]:
            model = ImplicitFactorizationModel(
                "bpr", n_iter=epochs, batch_size=8192, l2=1e-6, random_state=seed, negatives=negatives
            )
            return ranking_scores(model, train, test)

        mrr, precision = over_splits(bpr, seeds)
        print(f"| bpr | {negatives} | {mrr} | {precision} |", flush=True)


def read_gowalla(path: Path) -> Split:
    """Read compressed rows `train_indptr`, `train_items`, `test_indptr`, `test_items`, ids from 0."""
    with np.load(path) as arrays:
        rows = {side: (arrays[f"{side}_indptr"], arrays[f"{side}_items"]) for side in ("train", "test")}
    num_users = len(rows["train"][0]) - 1
    num_items = int(max(items.max() for _, items in rows.values())) + 1

    def unpack(indptr: NDArray[np.integer], items: NDArray[np.integer]) -> Interactions:
        users = np.repeat(np.arange(num_users), np.diff(indptr))
        return Interactions(users, items, num_users=num_users, num_items=num_items)

    return unpack(*rows["train"]), unpack(*rows["test"])


def made_up() -> Interactions:
    """Interactions with ratings that need no download."""
    rng = np.random.default_rng(0)
    return shapes.interactions(shapes.MOVIELENS_100K, 20_000, rng, rng.integers(1, 6, 20_000).astype(np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=5, help="how many splits, or seeds for Gowalla (default: 5)")
    parser.add_argument("--gowalla", metavar="FILE", type=Path, help="measure on this .npz file instead")
    parser.add_argument("--quick", action="store_true", help="made-up data, one epoch; nothing is judged")
    arguments = parser.parse_args()
    harness.print_machine(harness.describe_machine())
    if arguments.gowalla:
        gowalla(*read_gowalla(arguments.gowalla), arguments.splits, epochs=1 if arguments.quick else 10)
        return
    data = made_up() if arguments.quick else get_movielens_dataset("100K")
    splits = [
        random_train_test_split(data, random_state=np.random.RandomState(split)) for split in range(arguments.splits)
    ]
    met = list(movielens(splits, epochs=1 if arguments.quick else 10))
    if not (all(met) or arguments.quick):
        sys.exit("a floor is missed")


if __name__ == "__main__":
    main()
