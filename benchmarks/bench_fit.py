"""`fit` on the autograd path against the best plain PyTorch loop of the same algorithm, and against Spotlight's loop.

The models here have an optimizer of a class that the C++ engine does not know: `bench_factorization_epoch.py` is about
the engine. The plain loop is timed twice in every turn, as two candidates: how far these two are apart is the noise of
the comparison. Spotlight's loop is there for information.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import harness
import loops
import numpy as np
import shapes
import torch
from loops import Training

from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.warnings import PerformanceWarning

FLOOR = 1.0
EPOCHS, TURNS = 3, 21
TOLERANCE = 0.01  # between the epochs' losses, beyond three standard errors: orders and negatives differ
CHECKED_SEEDS = range(1, 5)
LOSSES = ("bpr", "adaptive_hinge", "regression")

Losses = list[float]  # one per epoch


class UnknownAdam(torch.optim.Adam):
    """Adam, but the engine cannot know that."""


def library(data: Interactions, training: Training, epochs: int, seed: int = 0) -> Losses:
    def optimizer(parameters: object) -> torch.optim.Optimizer:
        return UnknownAdam(parameters, lr=loops.LEARNING_RATES["adam"], fused=True)

    common = {"embedding_dim": loops.DIM, "n_iter": epochs, "batch_size": training.batch_size, "random_state": seed}
    common["optimizer_func"] = optimizer
    if training.loss == "regression":
        model = ExplicitFactorizationModel(training.loss, **common)
    else:
        model = ImplicitFactorizationModel(
            training.loss, **common, num_negative_samples=training.slots, negatives="uniform"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerformanceWarning)
        model.fit(data)
    return model.history.losses


def make(quick: bool) -> Interactions:
    """Ratings that depend on the user and the item."""
    count, rng = 10_000 if quick else 80_000, np.random.default_rng(0)
    shape = shapes.MOVIELENS_100K
    data = shapes.interactions(shape, count, rng)
    effects = rng.normal(0, 0.5, shape.users)[data.user_ids] + rng.normal(0, 0.5, shape.items)[data.item_ids]
    data.ratings = np.clip(np.rint(3.5 + effects + rng.normal(0, 0.9, count)), 1, 5).astype(np.float32)
    return data


def check(name: str, got: Callable[..., Losses], others: list[Callable[..., Losses]]) -> None:
    """Compare the losses of the epochs, means over some seeds; this warms everything up, too."""
    curves = np.array([[train(seed=seed) for seed in CHECKED_SEEDS] for train in (got, *others)])  # [.., seed, epoch]
    means, variances = curves.mean(axis=1), curves.var(axis=1, ddof=1)
    for mean, variance in zip(means[1:], variances[1:], strict=True):
        error = np.sqrt((variances[0] + variance) / len(CHECKED_SEEDS))
        agreed = np.abs(means[0] - mean) <= TOLERANCE * mean + 3 * error
        harness.require(bool(agreed.all()), f"{name}: the losses of the epochs are {means[0]} instead of {mean}")


def noise_of(control: list[float], again: list[float]) -> float:
    """Return two standard errors of the median of ratios, estimated from a candidate against itself."""
    deviation = 1.48 * np.median(np.abs(np.divide(control, again) - 1))
    return float(2 * 1.25 * deviation / np.sqrt(len(control)))


def measure(quick: bool) -> Iterator[harness.Case]:
    data = make(quick)
    for loss in LOSSES:
        for batch_size in (1024, 256):
            name = f"{loss}, batch {batch_size}"
            arguments = data, Training(loss, batch_size), 1 if quick else EPOCHS
            ours, best, theirs = (partial(train, *arguments) for train in (library, loops.best, loops.spotlight))
            check(name, ours, [best, theirs])
            first, fit, second, slow = harness.alternate([best, ours, best, theirs], 2 if quick else TURNS)
            yield harness.ratio(f"{name}: plain loop against itself", first, second, None)
            # `fit` runs between the two turns of the plain loop, whose mean meets the same speed of the machine.
            plain_mean = list(np.mean([first, second], axis=0))
            yield harness.ratio(f"{name}: plain loop", plain_mean, fit, FLOOR, noise_of(first, second))
            yield harness.ratio(f"{name}: Spotlight's loop", slow, fit, None)


if __name__ == "__main__":
    harness.run(measure)
