"""Epochs of factorization models in the C++ engine against plain PyTorch loops and against other libraries.

Times are per million interactions: seconds of spotfast's whole epochs, of a few steps of the loops. Epochs are timed in
a model that has been trained for one already; the first `fit`, with all preparations, is reported beside them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import harness
import loops
import numpy as np
import peers
import shapes
from bench_fit import check
from bench_fit import make as make_small
from loops import Training

import spotfast
from spotfast.factorization.engine import FactorizationEngine
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions
from spotfast.training.loop import train

TURNS = 5
LEAST_ACCURACY = 0.55  # of a model after a few epochs: positives above uniformly drawn items; guesses reach 0.5
CHECKED_EPOCHS = 2
QUICK = shapes.Shape(users=2_000, items=1_000, median=20, mean=40, fewest=5, flat=50)


@dataclass(frozen=True)
class LoopCase:
    """A case against the loops.

    Attributes:
        shape, interactions: of the data.
        training: what is trained.
        steps: of the loops, in a turn.
        floor: the least ratio to Spotlight's loop.
        epochs: of spotfast, in a turn: several for small data, so that a turn is longer than what disturbs it.
    """

    shape: str
    interactions: int
    training: Training
    steps: int
    floor: float
    epochs: int = 1


SHAPES = {
    "MovieLens-20M": shapes.MOVIELENS_20M,
    "1 M x 1 M": shapes.MILLION,
    "MovieLens-100K": shapes.MOVIELENS_100K,
}
FIRST = LoopCase("MovieLens-20M", 2_000_000, Training("bpr", 256), 30, 500)
LOOP_CASES = (
    FIRST,
    replace(FIRST, training=Training("bpr", 1024), steps=20, floor=110),
    replace(FIRST, training=Training("bpr", 8192), steps=10, floor=14),
    LoopCase("1 M x 1 M", 4_000_000, Training("bpr", 1024), 4, 800),
    LoopCase("MovieLens-100K", 100_000, Training("bpr", 1024), 60, 6, epochs=10),
    LoopCase("MovieLens-100K", 100_000, Training("bpr", 256), 120, 10, epochs=10),
    replace(FIRST, interactions=1_000_000, training=Training("adaptive_hinge", 256, slots=10), floor=200),
    replace(FIRST, interactions=1_000_000, training=Training("bpr", 256, l2=1e-6), floor=15),
    replace(FIRST, interactions=1_000_000, training=Training("bpr", 1024, l2=1e-6), steps=20, floor=10),
)
# Optimizer of spotfast, and the least ratios with one and with two threads.
IMPLICIT_CASES = (("adam", (1.0, 0.85)), ("sgd", (1.3, 1.3)), ("adagrad", (1.3, 1.3)))
# Loss of lightfm-next, what trains towards the same end here, the least ratio.
LIGHTFM_CASES = (("bpr", FIRST.training, 2.5), ("warp", Training("adaptive_hinge", 256), 2.5))
LIGHTFM_INTERACTIONS = 1_000_000
THREAD_CASES = ((256, 1.4), (8192, 1.6))


class Ours:
    """A model that has been fitted for an epoch, and is trained for more.

    Attributes:
        model: the model.
        first_fit: seconds of the first `fit`: tables made, interactions prepared, an epoch.
    """

    def __init__(self, data: Interactions, training: Training, n_iter: int = 1, seed: int = 0, **options: str) -> None:
        optimizer = None if training.optimizer == "adam" else partial(training.make_optimizer, fused=False)
        self.model = ImplicitFactorizationModel(
            training.loss,
            embedding_dim=loops.DIM,
            n_iter=n_iter,
            batch_size=training.batch_size,
            l2=training.l2,
            learning_rate=loops.LEARNING_RATES["adam"],
            optimizer_func=optimizer,
            num_negative_samples=training.slots,
            random_state=seed,
            **options,
        )
        started = time.perf_counter()
        self.model.fit(data)
        self.first_fit = time.perf_counter() - started
        self._data = data
        self._engines: dict[str, FactorizationEngine] = {}

    def epoch(self, negatives: str = "unseen", threads: int | None = None) -> None:
        """Train for an epoch, without the preparations of `fit`; those are made at the first call."""
        if negatives not in self._engines:
            self.model._negatives = negatives
            engine = self.model._engine(self.model._task(self._data, self.model._net))
            harness.require(isinstance(engine, FactorizationEngine), f"it is {type(engine).__name__} that trains")
            self._engines[negatives] = engine
        spotfast.set_num_threads(threads)
        train(self._engines[negatives], self.model.history, 1)
        spotfast.set_num_threads(None)


def losses(data: Interactions, training: Training, seed: int = 0) -> list[float]:
    """Train in the engine as the loops do."""
    return Ours(data, training, CHECKED_EPOCHS, seed, negatives="uniform").model.history.losses


def check_losses(trainings: Sequence[Training]) -> None:
    """Compare the losses of the engine with those of the loops, on few interactions."""
    data = make_small(quick=True)
    for training in trainings:
        references = [partial(loop, data, training, CHECKED_EPOCHS) for loop in (loops.best, loops.spotlight)]
        check(str(training), partial(losses, data, training), references)


def check_accuracy(name: str, candidate: Ours | peers.Implicit | peers.LightFM, data: Interactions) -> None:
    """Require that a candidate has learnt what users like."""
    sample = np.random.default_rng(0).integers(0, len(data), 50_000)
    users, liked = data.user_ids[sample], data.item_ids[sample]
    others = np.random.default_rng(1).integers(0, data.num_items, len(sample), np.int32)
    predict = candidate.model.predict if isinstance(candidate, Ours) else candidate.predict
    accuracy = float((predict(users, liked) > predict(users, others)).mean())
    learnt = accuracy >= LEAST_ACCURACY
    who = type(candidate).__name__
    harness.require(learnt, f"{name}: {who} scores positives above other items {accuracy:.1%} of the time")


def make(shape: str, interactions: int, quick: bool) -> Interactions:
    rng = np.random.default_rng(0)
    return shapes.interactions(QUICK, 20_000, rng) if quick else shapes.interactions(SHAPES[shape], interactions, rng)


def per_million(seconds: Sequence[float], interactions: int) -> list[float]:
    return [taken * 1e6 / interactions for taken in seconds]


def against_loops(case: LoopCase, quick: bool) -> Iterator[harness.Case]:
    training = case.training
    data = make(case.shape, case.interactions, quick)
    part = data.take(slice(0, (2 if quick else case.steps) * training.batch_size))
    spotlight, best = loops.SpotlightLoop(part, training), loops.BestLoop(part, training)
    ours = Ours(data, training)

    def epochs(negatives: str) -> None:
        for _ in range(case.epochs):
            ours.epoch(negatives)

    candidates = [spotlight.epoch, best.epoch, partial(epochs, "unseen"), partial(epochs, "uniform")]
    for candidate in candidates:
        candidate()
    times = harness.alternate(candidates, 2 if quick else TURNS)
    slow, expert = (per_million(taken, len(part)) for taken in times[:2])
    unseen, uniform = (per_million(taken, case.epochs * len(data)) for taken in times[2:])
    first = per_million([ours.first_fit] * len(slow), len(data))
    name = f"{case.shape}, {describe(training)}"
    yield harness.ratio(f"{name}: Spotlight", slow, unseen, case.floor)
    yield harness.ratio(f"{name}: best loop", expert, unseen, None)
    yield harness.ratio(f"{name}: Spotlight, uniform", slow, uniform, None)
    yield harness.ratio(f"{name}: Spotlight, first fit", slow, first, None)


def describe(training: Training) -> str:
    negatives = f" {training.slots}" if training.loss == "adaptive_hinge" else ""
    return f"{training.loss}{negatives}, batch {training.batch_size}" + (f" l2={training.l2:g}" if training.l2 else "")


def against_implicit(data: Interactions, quick: bool) -> Iterator[harness.Case]:
    ours = {name: Ours(data, replace(FIRST.training, optimizer=name)) for name, _ in IMPLICIT_CASES}
    for threads in (1, 2):
        theirs = peers.Implicit(data, loops.DIM, threads)
        candidates = [theirs.epoch, *(partial(each.epoch, threads=threads) for each in ours.values())]
        for candidate in candidates:
            candidate()
        _, *times = harness.alternate(candidates, 2 if quick else TURNS)
        baseline = per_million(theirs.seconds[1:], len(data))
        for (name, floors), taken in zip(IMPLICIT_CASES, times, strict=True):
            title = f"implicit's BPR, {threads} thread(s): {name}"
            if not quick:
                check_accuracy(title, theirs, data)
                check_accuracy(title, ours[name], data)
            yield harness.ratio(title, baseline, per_million(taken, len(data)), floors[threads - 1])


def against_lightfm(data: Interactions, quick: bool) -> Iterator[harness.Case]:
    for loss, training, floor in LIGHTFM_CASES:
        ours, theirs = Ours(data, training), peers.LightFM(data, loss, loops.DIM, threads=2)
        candidates = [theirs.epoch, partial(ours.epoch, threads=2)]
        for candidate in candidates:
            candidate()
        _, taken = harness.alternate(candidates, 2 if quick else TURNS)
        title = f"lightfm-next's {loss}, 2 threads: {describe(training)}"
        if not quick:
            check_accuracy(title, theirs, data)
            check_accuracy(title, ours, data)
        yield harness.ratio(title, per_million(theirs.seconds[1:], len(data)), per_million(taken, len(data)), floor)


def two_threads(data: Interactions, batch_size: int, floor: float, quick: bool) -> harness.Case:
    ours = Ours(data, Training("bpr", batch_size))
    candidates = [partial(ours.epoch, threads=threads) for threads in (1, 2)]
    for candidate in candidates:
        candidate()
    one, two = (per_million(taken, len(data)) for taken in harness.alternate(candidates, 2 if quick else 2 * TURNS))
    return harness.ratio(f"{FIRST.shape}, bpr, batch {batch_size}: two threads over one", one, two, floor)


def measure(quick: bool) -> Iterator[harness.Case]:
    checked = {replace(case.training, batch_size=256) for case in LOOP_CASES}
    checked |= {replace(FIRST.training, optimizer=name) for name, _ in IMPLICIT_CASES}
    check_losses(sorted(checked, key=str))
    for case in LOOP_CASES:
        yield from against_loops(case, quick)
    data = make(FIRST.shape, FIRST.interactions, quick)
    for batch_size, floor in THREAD_CASES:
        yield two_threads(data, batch_size, floor, quick)
    if peers.installed("implicit"):
        yield from against_implicit(data, quick)
    if peers.installed("lightfm"):
        yield from against_lightfm(make(FIRST.shape, LIGHTFM_INTERACTIONS, quick), quick)


if __name__ == "__main__":
    harness.run(measure)
