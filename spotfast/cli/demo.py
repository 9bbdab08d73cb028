"""`python -m spotfast demo`: the library's main job on real data, from ratings to recommendations."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import backends
from spotfast.cli import chart
from spotfast.cli.errors import CommandError
from spotfast.cli.table import table
from spotfast.cross_validation import random_train_test_split, user_based_train_test_split
from spotfast.datasets.movielens import get_movielens_dataset, get_movielens_titles
from spotfast.evaluation import mrr_score, precision_recall_score, rmse_score, sequence_mrr_score
from spotfast.factorization.explicit import ExplicitFactorizationModel
from spotfast.factorization.implicit import ImplicitFactorizationModel
from spotfast.interactions import Interactions, SequenceInteractions
from spotfast.sequence.implicit import ImplicitSequenceModel

RECOMMENDED = 10
FAVOURITES = 5
SEQUENCE_LENGTH = 20
SCORES = ("MRR", "precision@10", "RMSE", "sequence MRR")
DemoModel = ImplicitFactorizationModel | ExplicitFactorizationModel | ImplicitSequenceModel


@dataclass(frozen=True)
class Data:
    """The ratings, split in two ways.

    Attributes:
        train, test: at random, so that most users are in both, for the factorization models.
        train_sequences, test_sequences: by user, each user's films in time order, for the sequence model.
    """

    train: Interactions
    test: Interactions
    train_sequences: SequenceInteractions
    test_sequences: SequenceInteractions


@dataclass(frozen=True)
class Entry:
    """A model of the demo.

    Attributes:
        kind: "implicit", "explicit" or "sequence".
        loss: the name of its loss.
        title: what readers call it.
        unit: the loss, for the chart's axis.
        model: the model itself.
    """

    kind: str
    loss: str
    title: str
    unit: str
    model: DemoModel


@dataclass(frozen=True)
class Result:
    """How an entry did: seconds, and those of `SCORES` that apply to it."""

    entry: Entry
    train_seconds: float
    evaluation_seconds: float
    scores: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--output", type=Path, default=Path("demo_losses.png"), metavar="PNG", help="the chart (default: %(default)s)"
    )
    parser.add_argument("--seed", type=_seed, default=42, metavar="N", help="of everything random (default: 42)")
    parser.add_argument("--epochs", type=_epochs, default=10, metavar="N", help="of each model (default: 10)")
    parser.add_argument(
        "--path", metavar="DATA", help="folder or archive with MovieLens 100K (default: looked for, then downloaded)"
    )


def run(options: argparse.Namespace) -> int:
    """Train, evaluate, recommend, draw."""
    _check_output(options.output)
    interactions, titles = _load(options.path)
    data = _split(interactions, options.seed)
    print(f"{_description(interactions, data)}\n{_engine()}", flush=True)
    _warm_up()
    results = [_train(entry, data) for entry in _entries(options.epochs, options.seed)]
    print(f"\n{_results_table(results)}\n")
    user = _user(data.test, options.seed)
    print(_recommendations(results[0].entry, user, data.train, data.test, titles), flush=True)
    print(f"\n{_draw(results, options.output)}")
    return 0


def _check_output(path: Path) -> None:
    """Say before the work begins what would keep the chart from being written at its end."""
    if path.suffix.lower() not in ("", ".png"):
        raise CommandError(f"--output must be a PNG file, as losses.png, got {path}")
    if path.is_dir():
        raise CommandError(f"--output must be a file, got the folder {path}")
    if not path.absolute().parent.is_dir():
        raise CommandError(f"--output must be in a folder that exists, got {path}")


def _seed(text: str) -> int:
    return _integer(text, 0, 2**32 - 1)


def _epochs(text: str) -> int:
    return _integer(text, 1, 100_000)


def _integer(text: str, low: int, high: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise argparse.ArgumentTypeError(f"must be an integer in [{low}, {high}], got {text!r}")
    return value


def _load(path: str | None) -> tuple[Interactions, NDArray[np.object_]]:
    try:
        return get_movielens_dataset("100K", path), get_movielens_titles("100K", path)
    except (OSError, ValueError) as error:  # not there and not to be had, or damaged: the text says all
        raise CommandError(str(error)) from error


def _split(interactions: Interactions, seed: int) -> Data:
    train, test = random_train_test_split(interactions, test_percentage=0.2, random_state=seed)
    some, others = user_based_train_test_split(interactions, test_percentage=0.2, random_state=seed)
    return Data(train, test, some.to_sequence(SEQUENCE_LENGTH), others.to_sequence(SEQUENCE_LENGTH))


def _description(interactions: Interactions, data: Data) -> str:
    users, films = (len(np.unique(ids)) for ids in (interactions.user_ids, interactions.item_ids))
    return (
        f"MovieLens 100K: {len(interactions):,} ratings by {users:,} users of {films:,} films, "
        f"{len(data.train):,} to train on, {len(data.test):,} to test\n"
        f"For the pooling model, in time order: sequences of up to {SEQUENCE_LENGTH} films, "
        f"{len(data.train_sequences):,} to train on, {len(data.test_sequences):,} of other users to test"
    )


def _engine() -> str:
    if backends.choose("factorization_epoch") != "native":
        return "Engine: autograd"
    threads = backends.num_threads()
    return f"Engine: C++ ({backends.native_isa()}), {threads} thread{'' if threads == 1 else 's'}"


def _entries(epochs: int, seed: int) -> list[Entry]:
    common: dict[str, Any] = {"embedding_dim": 32, "n_iter": epochs, "random_state": seed}
    implicit = {**common, "batch_size": 1024, "learning_rate": 1e-2, "l2": 1e-6}
    explicit = {**common, "batch_size": 1024, "learning_rate": 1e-3, "l2": 1e-5}
    sequence = {**common, "batch_size": 256, "learning_rate": 1e-2, "l2": 1e-6}
    return [
        Entry("implicit", "bpr", "BPR", "BPR loss", ImplicitFactorizationModel("bpr", **implicit)),
        Entry(
            "implicit",
            "adaptive_hinge",
            "Adaptive hinge",
            "adaptive hinge loss",
            ImplicitFactorizationModel("adaptive_hinge", **implicit),
        ),
        Entry(
            "explicit",
            "regression",
            "Regression",
            "squared error (stars²)",
            ExplicitFactorizationModel("regression", **explicit),
        ),
        Entry(
            "sequence",
            "adaptive_hinge",
            "Pooling",
            "adaptive hinge loss",
            ImplicitSequenceModel("adaptive_hinge", "pooling", **sequence),
        ),
    ]


def _warm_up() -> None:
    """Use everything once, so that no first use is in the times, nor compilation where Numba stands in for C++."""
    print("warming up", file=sys.stderr)
    tiny = Interactions([0, 0, 1, 1, 2], [1, 2, 2, 3, 4], ratings=np.ones(5, np.float32), timestamps=np.arange(5))
    sequences = tiny.to_sequence(2)
    data = Data(tiny, tiny, sequences, sequences)
    for entry in _entries(epochs=1, seed=0):
        _fit(entry, data)
        _evaluate(entry, data)


def _train(entry: Entry, data: Data) -> Result:
    print(f"training: {entry.title}", file=sys.stderr)
    started = time.perf_counter()
    with redirect_stdout(sys.stderr):  # losses belong to the progress, standard output to the results
        _fit(entry, data, verbose=True)
    trained = time.perf_counter()
    scores = _evaluate(entry, data)
    return Result(entry, trained - started, time.perf_counter() - trained, scores)


def _fit(entry: Entry, data: Data, verbose: bool = False) -> None:
    if isinstance(entry.model, ImplicitSequenceModel):
        entry.model.fit(data.train_sequences, verbose)
    else:
        entry.model.fit(data.train, verbose)


def _evaluate(entry: Entry, data: Data) -> dict[str, float]:
    if isinstance(entry.model, ImplicitSequenceModel):  # nobody rates a film twice
        return {"sequence MRR": sequence_mrr_score(entry.model, data.test_sequences, exclude_preceding=True).mean()}
    if isinstance(entry.model, ExplicitFactorizationModel):
        return {"RMSE": rmse_score(entry.model, data.test)}
    precision, _ = precision_recall_score(entry.model, data.test, data.train, k=10)
    return {"MRR": mrr_score(entry.model, data.test, data.train).mean(), "precision@10": precision.mean()}


def _results_table(results: Sequence[Result]) -> str:
    rows: list[tuple[str, ...]] = [("model", "loss", "train s", "evaluate s", *SCORES)]
    for result in results:
        scores = [f"{result.scores[name]:.4f}" if name in result.scores else "-" for name in SCORES]
        seconds = f"{result.train_seconds:.2f}", f"{result.evaluation_seconds:.3f}"
        rows.append((result.entry.kind, result.entry.loss, *seconds, *scores))
    return table(rows, "<<>>>>>>")


def _user(test: Interactions, seed: int) -> int:
    """Draw one of the users with enough films in the test set to compare recommendations with."""
    counts = np.bincount(test.user_ids)
    return int(np.random.RandomState(seed).choice(np.flatnonzero(counts >= min(RECOMMENDED, counts.max()))))


def _recommendations(
    entry: Entry, user: int, train: Interactions, test: Interactions, titles: NDArray[np.object_]
) -> str:
    """Return a user's favourites, and the films that the model would recommend."""
    assert train.ratings is not None
    rated = np.flatnonzero(train.user_ids == user)
    best = rated[np.argsort(-train.ratings[rated], kind="stable")[:FAVOURITES]]
    favourites = [(f"{train.ratings[row]:g}", titles[train.item_ids[row]]) for row in best]

    films = np.flatnonzero(titles != "")  # no film has the other numbers
    best_films, _ = entry.model.recommend(user, RECOMMENDED, exclude=train, item_ids=films)
    hits = set(test.item_ids[test.user_ids == user].tolist())
    recommended = [
        (str(place), titles[item], "yes" if item in hits else "-")
        for place, item in enumerate(best_films[best_films >= 0].tolist(), 1)
    ]
    return "\n".join(
        [
            f"User {user} rated {len(rated)} films of the training set, these among the highest:\n",
            table([("rating", "film"), *favourites], "><"),
            f"\nOf the others, the {entry.title} model recommends:\n",
            table([("place", "film", "in the test set"), *recommended], "><<"),
        ]
    )


def _draw(results: Sequence[Result], path: Path) -> str:
    """Draw the losses; return what to say about it."""
    curves = [
        chart.Curve(f"{entry.title} ({entry.kind})", entry.unit, entry.model.history.losses)
        for entry in (result.entry for result in results)
    ]
    try:
        chart.draw(curves, "Training loss on MovieLens 100K, mean of each epoch", path)
    except ImportError as error:
        return f"No chart: matplotlib cannot be imported ({error}). To get it: pip install 'spotfast[demo]'"
    except OSError as error:
        raise CommandError(f"the chart cannot be written: {error}") from error
    return f"The losses of every epoch are drawn in {path}"
