"""How many bytes the kernels of operations other than epochs and ranking move, and those of drawing by popularity.

See `traffic.py`; `tests/kernels/test_operation_traffic.py` holds these against the kernels. Each function counts what a
function of the same name in `kernels/` launches: of `philox`, `negatives`, `bilinear`, `sequence_loss` (`forward` and
`backward`) and `row_update` (`catch_up`, `update` and `flush`). Ids are in range, in arrays of the type that kernels
are given. What torch does between kernels, as to sort ids or to sum gradients of a dense table, is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.kernels.bilinear import blocks
from spotfast.kernels.negatives import POPULARITY_LANES
from spotfast.kernels.row_update import LANES
from spotfast.kernels.rows import tile
from spotfast.kernels.runs import places
from spotfast.kernels.sequence_loss import TILE
from spotfast.traffic import NUMBERS, SECTOR, Access, Entries, Traffic, named

Ids = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Row:
    """A row of a table that deferred Adam trains.

    Attributes:
        dim: of vectors.
        weight_bytes: of a number of the table and of its gradient: 4, or 2 in bfloat16.
        moment_bytes: of a number of either moment, likewise.
    """

    dim: int
    weight_bytes: int = NUMBERS
    moment_bytes: int = NUMBERS

    def moved(self, count: float, scattered: bool = True) -> dict[str, Access]:
        """Return what is read, or written, of as many rows."""
        sizes = {"weights": self.weight_bytes, "first": self.moment_bytes, "second": self.moment_bytes}
        return {name: Access(count, size * self.dim, scattered) for name, size in sizes.items()}


def draws(count: float) -> Traffic:
    """Return the traffic of `count` draws of the random stream."""
    return named("draws_kernel", {}, {"out": Access(count, 8)})


def popularity(samples: int, slots: int, num_items: int, longest: int, attempts: float) -> Traffic:
    """Return the traffic of drawing negatives by popularity, at most.

    Searches are counted as if each took as many steps as the longest can.

    Args:
        samples: with a user each.
        slots: negatives per sample.
        num_items: of the catalogue.
        longest: items of a user, at most.
        attempts: of all draws together, 1 to 16 each, and 1 more for what is drawn as `unseen` in the end.
    """
    drawn = samples * slots
    thresholds = num_items - 1
    idle = -drawn % POPULARITY_LANES  # of the last program: they search once
    searched = (attempts + idle) * thresholds.bit_length()
    loaded = {
        "thresholds": Access(searched, 8, True, min(searched, -(-8 * thresholds // SECTOR))),  # sectors: each is shared
        "users": Access(samples, 8, again=drawn - samples),
        "indptr": Access(samples, 16, True, again=drawn - samples),
        "items": Access(attempts * (longest.bit_length() + 1), NUMBERS, True),
    }
    return named("popularity_kernel", loaded, {"out": Access(drawn, 8)})


def scores(user_ids: Ids, item_ids: Ids, dim: int, vector_bytes: int = NUMBERS) -> Traffic:
    """Return the traffic of the scores of `bilinear`.

    Args:
        user_ids: (B,).
        item_ids: (B, C).
        dim: of vectors.
        vector_bytes: of a number of a table: 4, or 2 in bfloat16.
    """
    samples, pairs = user_ids.size, item_ids.size
    again = pairs - samples  # the pairs of a user are neighbours
    users, items = _different(user_ids), _different(item_ids)
    loaded = {
        "user_ids": Access(samples, user_ids.itemsize, again=again),
        "item_ids": Access(pairs, item_ids.itemsize),
        "user_vectors": Access(samples, vector_bytes * dim, True, users, again),
        "item_vectors": Access(pairs, vector_bytes * dim, True, items),
        "user_biases": Access(samples, vector_bytes, True, users, again),
        "item_biases": Access(pairs, vector_bytes, True, items),
    }
    return named("scores_kernel", loaded, {"out": Access(pairs, NUMBERS)})


def row_gradients(user_ids: Ids, item_ids: Ids, dim: int, vector_bytes: int = NUMBERS) -> Traffic:
    """Return the traffic of the gradients of `bilinear`, row by row. Arguments as for `scores`."""
    samples, pairs = user_ids.size, item_ids.size
    parts = -(-dim // blocks(dim)["BLOCK_D"])  # of a row, of a program each
    loaded = {
        "user_ids": Access(samples * parts, user_ids.itemsize, distinct=samples),
        "item_ids": Access(pairs * parts, item_ids.itemsize, distinct=pairs),
        "gradient": Access(pairs * parts, NUMBERS, distinct=pairs),
        "user_vectors": Access(samples, vector_bytes * dim, True, _different(user_ids)),
        "item_vectors": Access(pairs, vector_bytes * dim, True, _different(item_ids)),
    }
    stored = {"user_rows": Access(samples, NUMBERS * dim), "item_rows": Access(pairs, NUMBERS * dim)}
    return named("row_gradients_kernel", loaded, stored)


def forward(
    positives: Ids,
    negatives: Ids,
    mask: NDArray[Any],
    dim: int,
    state_bytes: int = NUMBERS,
    vector_bytes: int = NUMBERS,
) -> Traffic:
    """Return the traffic of the value of `sequence_loss`.

    Args:
        positives: (B, L).
        negatives: (n, B, L).
        mask: (B, L), of any type; where it is 0, only ids are read.
        dim: of vectors.
        state_bytes: of a number of a state: 4, or 2 in bfloat16.
        vector_bytes: of a number of a table, likewise.
    """
    count = mask.size
    reading = mask != 0
    steps = int(reading.sum())
    scored = steps * (1 + len(negatives))
    items = _different(positives[reading], negatives[:, reading])
    programs = -(-count // tile(dim, TILE)[0])
    loaded = {
        "mask": Access(count, mask.itemsize),
        "positives": Access(count, positives.itemsize),
        "negatives": Access(negatives.size, negatives.itemsize),
        "states": Access(steps, state_bytes * dim),
        "vectors": Access(scored, vector_bytes * dim, True, items),
        "biases": Access(scored, vector_bytes, True, items),
    }
    stored = {
        "chosen": Access(count, negatives.itemsize),
        "coefficients": Access(2 * count, NUMBERS),
        "partials": Access(2 * programs, NUMBERS),
    }
    one = Access(1, NUMBERS)
    return named("sequence_loss_kernel", loaded, stored) | named(
        "mean_kernel", {"partials": stored["partials"]}, {"mean": one, "total": one}
    )


def backward(
    positives: Ids,
    chosen: Ids,
    charged: NDArray[np.bool_],
    dim: int,
    state_bytes: int = NUMBERS,
    vector_bytes: int = NUMBERS,
    row_bytes: int = NUMBERS,
) -> Traffic:
    """Return the traffic of the gradients of `sequence_loss`, row by row.

    Args:
        positives: (B, L).
        chosen: (B, L), the negative that the loss looks at.
        charged: (2, B, L), whether the derivatives in the scores of these two are not 0.
        dim: of vectors.
        state_bytes: of a number of a state: 4, or 2 in bfloat16.
        vector_bytes: of a number of a table, likewise.
        row_bytes: of a number of a gradient of an item: those of the table if it is sparse, otherwise 4.
    """
    count = positives.size
    loaded = {
        "coefficients": Access(2 * count, NUMBERS),
        "positives": Access(count, positives.itemsize),
        "chosen": Access(count, chosen.itemsize),
        "states": Access(int(charged.any(0).sum()), state_bytes * dim),
        "vectors": Access(
            int(charged.sum()), vector_bytes * dim, True, _different(positives[charged[0]], chosen[charged[1]])
        ),
    }
    stored = {
        "of_states": Access(count, state_bytes * dim),
        "of_vectors": Access(2 * count, row_bytes * dim),
        "of_biases": Access(2 * count, NUMBERS),
    }
    return named("sequence_gradient_kernel", loaded, stored)


def catch_up(row: Row, ids: Ids, owing: NDArray[np.bool_]) -> Traffic:
    """Return the traffic of bringing rows up to date that are about to be looked up.

    Programs are taken to run in turn: for a row that repeats, only entries of its first program try to claim it. Of
    programs that run side by side, others try, too, and find it in the cache.

    Args:
        row: of the table.
        ids: (E,), int64.
        owing: (N,), which rows owe steps.
    """
    rows, first, number = np.unique(ids, return_index=True, return_inverse=True)
    in_first = np.arange(len(ids)) // LANES == first[number] // LANES
    claiming, moving = int((owing[ids] & in_first).sum()), int(owing[rows].sum())
    claims = named(
        "claim_kernel",
        {"ids": Access(len(ids), 8), "last": Access(len(ids), NUMBERS, True, len(rows), again=claiming)},
        {"owed_since": Access(len(ids), NUMBERS), "last": Access(claiming, NUMBERS, True, moving)},
    )
    entries = {"ids": Access(len(ids), 8), "owed_since": Access(len(ids), NUMBERS)}
    return claims | named("catch_up_kernel", entries | row.moved(moving), row.moved(moving))


def update(row: Row, ids: Ids) -> Traffic:
    """Return the traffic of a step with a sparse gradient.

    Args:
        row: of the table.
        ids: (E,), int64, the row of each entry, at least one.
    """
    entries = Entries.of(ids)
    count, rows, in_pieces = entries.count, entries.rows, entries.in_pieces
    scratch, gradient, total = places(len(ids)), row.weight_bytes * row.dim, NUMBERS * row.dim
    by_entry = Access(count, 8)
    traffic = named(
        "runs_kernel",
        {"sorted_order": by_entry, "sorted_keys": by_entry, "run_of": Access(count, NUMBERS, again=count - 1)},
        {"order": Access(count, NUMBERS), "starts": Access(rows + 1, NUMBERS), "keys": Access(rows, 8)},
    )
    traffic |= named(
        "sum_pieces_kernel",
        {
            "run_of": Access(scratch, NUMBERS, True),
            "starts": Access(scratch, NUMBERS, True, min(scratch, rows), again=scratch),
            "order": Access(in_pieces, NUMBERS),
            "gradients": Access(in_pieces, gradient, True),
        },
        {"scratch": Access(entries.pieces, total)},
    )
    moved = row.moved(rows) | {"last": Access(rows, NUMBERS, True)}
    loaded = {
        "keys": Access(rows, 8),
        "starts": Access(rows, NUMBERS, again=rows),
        "order": Access(count - in_pieces, NUMBERS),
        "gradients": Access(count - in_pieces, gradient, True),
        "scratch": Access(entries.pieces, total),
    }
    return traffic | named("update_kernel", loaded | moved, moved)


def flush(row: Row, rows: float, touched: float, owing: float) -> Traffic:
    """Return the traffic of bringing all rows of a table up to date.

    Args:
        row: of the table.
        rows: how many it has.
        touched: of these, all that were ever updated.
        owing: of these, all that owe steps.
    """
    moved = row.moved(owing, scattered=False)
    loaded, stored = ({"last": Access(number, NUMBERS)} for number in (rows, touched))
    return named("flush_kernel", loaded | moved, stored | moved)


def _different(*ids: Ids) -> int:
    """Return how many different ids there are."""
    return len(np.unique(np.concatenate([each.ravel() for each in ids])))
