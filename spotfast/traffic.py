"""How many bytes the kernels of a step of training move: a model of their loads and stores, and the time these take.

A factorization model is bound by memory traffic. What each kernel of a step asks for is counted here, array by array,
from the samples of a batch; `epoch_traffic.py` has the rest of an epoch, `ranking_traffic.py` the kernels that rank
items, `operation_traffic.py` all others. `tests/kernels/test_traffic.py` and `test_operation_traffic.py` hold them
against what the kernels load and store, to the byte. What a few lines of cache serve, whatever the batch (see
`CACHED`), is left out.

Two things stand between what is asked for and the time it takes. Memory is read in sectors of 32 bytes, so that a bias
costs as much as eight numbers of a vector (`Access.moved`). And rows that several samples share come from the cache, if
it holds them until then (`Access.least`, which assumes that of every kernel by itself).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast.kernels import epoch_scores
from spotfast.kernels.rows import tile
from spotfast.kernels.runs import HALF, PIECE

H100_BYTES_PER_SECOND = 3.35e12
SECTOR = 32  # bytes

# Read by every program at the same places, or by one program alone: never from memory.
CACHED = {
    *("schedule", "counter", "place"),
    ("update_rows_kernel", "run_of"),  # how many runs there are
    ("update_kernel", "run_of"),
    *(("sequence_gradient_kernel", name) for name in ("upstream", "total")),
}
NUMBERS = 4  # bytes of a float32 or an int32
STATES = {"sgd": 0, "momentum": 1, "adagrad": 1, "rowwise_adagrad": 1}  # for a row; two for all others
OWING = ("adam", "adamw", "replayed_adam", "momentum")
LOADED, STORED = "loaded", "stored"


@dataclass(frozen=True)
class Access:
    """What a kernel loads from an array, or stores there.

    Attributes:
        count: how often.
        size: bytes each time.
        scattered: whether neighbours are elsewhere, so that whole sectors are moved.
        distinct: how many different places there are. Default: `count`.
        again: how often, besides, a program asks for what it has just asked for, and finds it in the cache.
    """

    count: float
    size: int
    scattered: bool = False
    distinct: float | None = None
    again: float = 0

    @property
    def requested(self) -> float:
        """Bytes that instructions ask for."""
        return (self.count + self.again) * self.size

    @property
    def moved(self) -> float:
        """Bytes that memory moves if programs share nothing in the cache."""
        return self.count * self._moved_each

    @property
    def least(self) -> float:
        """Bytes that memory moves if the cache holds all that a kernel has touched."""
        return (self.count if self.distinct is None else self.distinct) * self._moved_each

    @property
    def _moved_each(self) -> int:
        return -(-self.size // SECTOR) * SECTOR if self.scattered else self.size


Traffic = dict[tuple[str, str, str], Access]  # by kernel, direction and name of the pointer


@dataclass(frozen=True)
class Entries:
    """What the traffic of a batch depends on, of the entries of a table.

    Attributes:
        count: entries.
        rows: different rows among them.
        charged: entries with a derivative that is not 0.
        moving: rows that have one of these.
        pieces: of the rows with more than 32 entries, of 32 entries each.
        in_pieces: the entries of these rows.
        charged_in_pieces: likewise.
    """

    count: float
    rows: float
    charged: float
    moving: float
    pieces: float
    in_pieces: float
    charged_in_pieces: float

    @classmethod
    def of(cls, ids: ArrayLike, charged: ArrayLike | None = None) -> Entries:
        """Count exactly.

        Args:
            ids: the row of each entry.
            charged: bool, of the same shape; default: all are.
        """
        ids = np.asarray(ids).ravel()
        charged = np.ones(len(ids), bool) if charged is None else np.asarray(charged).ravel()
        _, rows, counts = np.unique(ids, return_inverse=True, return_counts=True)
        long = counts > PIECE.value
        return cls(
            count=len(ids),
            rows=len(counts),
            charged=int(charged.sum()),
            moving=len(np.unique(rows[charged])),
            pieces=int(np.ceil(counts[long] / PIECE.value).sum()),
            in_pieces=int(counts[long].sum()),
            charged_in_pieces=int((charged & long[rows]).sum()),
        )

    @classmethod
    def expected(cls, *draws: tuple[float, NDArray[np.float64]]) -> Entries:
        """Expect of independent draws, all with a derivative that is not 0.

        Args:
            *draws: how many of a batch, and the probability of each row; rows are the same for all.
        """
        count = sum(number for number, _ in draws)
        mean = np.sum([number * share for number, share in draws], axis=0)
        absent = np.exp(np.sum([number * np.log1p(-share) for number, share in draws], axis=0))
        rows = float((1.0 - absent).sum())
        long = mean[mean > PIECE.value]
        pieces, inside = float((long / PIECE.value + 0.5).sum()), float(long.sum())
        return cls(count, rows, count, rows, pieces, inside, inside)


@dataclass(frozen=True)
class Training:
    """What is trained, as far as traffic depends on it.

    Attributes:
        batch_size: samples per step, at most as many as there are.
        candidates: 1 and the negatives per sample.
        dim: of vectors.
        rule: `spotfast.kernels.schedule.Schedule.rule`.
        rated: whether the loss is one of ratings.
        vector_bytes: of a number of a vector: 4, or 2 in bfloat16.
    """

    batch_size: int
    candidates: int = 2
    dim: int = 64
    rule: str = "adam"
    rated: bool = False
    vector_bytes: int = 4

    @property
    def owing(self) -> bool:
        """Whether rows move without a gradient, later."""
        return self.rule in OWING

    @property
    def row(self) -> dict[str, int]:
        """Bytes of a row of a table, by the names of pointers."""
        states = STATES.get(self.rule, 2)
        width = NUMBERS if self.rule == "rowwise_adagrad" else NUMBERS * self.dim
        sizes = {"vectors": self.vector_bytes * self.dim, "biases": NUMBERS}
        for name in ("first", "second")[:states]:
            sizes |= {name: width, f"bias_{name}": NUMBERS}
        return sizes | ({"last": NUMBERS} if self.owing else {})


def step(training: Training, count: float, users: Entries, items: Entries) -> Traffic:
    """Return the traffic of a step on `count` samples, with an entry per user and one per candidate."""
    traffic = _scoring(training, count, users, items)
    traffic |= _updating(training, "users", users, training.batch_size, sources=users.charged)
    traffic |= _updating(training, "items", items, training.batch_size * training.candidates, sources=count)
    return traffic


def _scoring(training: Training, count: float, users: Entries, items: Entries) -> Traffic:
    """Of `score_kernel`."""
    wide, candidates = NUMBERS * training.dim, training.candidates
    programs = -(-training.batch_size // tile(training.dim, epoch_scores.SCORED)[0])
    loaded = {"users": Access(count, NUMBERS), "items": Access(count * candidates, NUMBERS)}
    loaded["sample_weights"] = Access(count, NUMBERS)
    if training.rated:
        loaded["ratings"] = Access(count, NUMBERS)
    read = training.row if training.owing else {name: training.row[name] for name in ("vectors", "biases")}
    for table, entries in (("user", users), ("item", items)):
        for name, size in read.items():
            again = entries.count if name == "last" else 0
            loaded[f"{table}_{name}"] = Access(entries.count, size, True, entries.rows, again)
    stored = {
        "losses": Access(programs, 8),
        "gradients": Access(count * candidates, NUMBERS),
        "user_sources": Access(count, wide),
        "user_gradients": Access(count, wide),
        "user_bias_gradients": Access(count, NUMBERS),
    }
    return named("score_kernel", loaded, stored)


def _updating(training: Training, table: str, entries: Entries, most: int, sources: float) -> Traffic:
    """Of `sum_row_pieces_kernel` and `update_rows_kernel`, on one table.

    `most`: entries of a whole batch. `sources`: different rows that are summed.
    """
    wide = NUMBERS * training.dim
    scaled = table == "items"  # and then, rows are read where the derivative is not 0
    summed, summed_in_pieces = (
        (entries.charged, entries.charged_in_pieces) if scaled else (entries.count, entries.in_pieces)
    )
    traffic: Traffic = {}
    if most > PIECE.value:
        places = most // HALF.value + 1
        traffic |= named(
            f"sum_row_pieces_kernel, {table}",
            {
                "run_of": Access(places, NUMBERS, True),
                "starts": Access(places, NUMBERS, again=places),
                "order": Access(entries.in_pieces, NUMBERS),
                "factors": Access(entries.in_pieces, NUMBERS, True),
                "sources": Access(summed_in_pieces, wide, True, min(summed_in_pieces, sources)),
            },
            {"scratch": Access(entries.pieces, wide), "bias_scratch": Access(entries.pieces, NUMBERS)},
        )
    singles, left = entries.count - entries.in_pieces, summed - summed_in_pieces
    moving = entries.rows if training.rule == "sparse_adam" else entries.moving
    loaded = {
        "starts": Access(entries.rows, NUMBERS, again=entries.rows),
        "table_rows": Access(moving, NUMBERS),
        "order": Access(singles, NUMBERS),
        "factors": Access(singles, NUMBERS, True),
        "sources": Access(left, wide, True, min(left, sources)),
        "scratch": Access(entries.pieces, wide),
        "bias_scratch": Access(entries.pieces, NUMBERS),
    }
    stored = {name: Access(moving, size, True) for name, size in training.row.items()}
    for name, access in stored.items():
        loaded[name] = Access(moving, access.size, True, again=moving if name == "last" else 0)
    return traffic | named(f"update_rows_kernel, {table}", loaded, stored)


def perfect(training: Training, count: float, users: Entries, items: Entries) -> float:
    """Return the fewest bytes that a step can move: each row read and written once, each sample read once.

    Rows and what belongs to them would have to be neighbours, and nothing be kept between the kernels of a step.
    """
    row = sum(training.row.values())
    sample = NUMBERS * (2 + training.candidates + training.rated)  # with a weight
    return 2 * row * (users.moving + items.moving) + sample * count


def rate(bytes_per_sample: float, bytes_per_second: float = H100_BYTES_PER_SECOND) -> float:
    """Return how many samples per second memory allows."""
    return bytes_per_second / bytes_per_sample


def named(kernel: str, loaded: dict[str, Access], stored: dict[str, Access]) -> Traffic:
    """Return the traffic of a kernel, from what it accesses by the names of pointers."""
    found = {(kernel, LOADED, name): access for name, access in loaded.items()}
    return found | {(kernel, STORED, name): access for name, access in stored.items()}
