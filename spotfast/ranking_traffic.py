"""How many bytes the kernels of `vector_ranks` and `vector_topk` move.

See `traffic.py`; `tests/kernels/test_operation_traffic.py` holds these against the kernels. Each function counts what a
function of the same name in `kernels/` launches, for vectors whose tiles are made at once; copies into tiles, and what
torch selects, are not counted. Searches in what is excluded are counted as if each took as many steps as the longest.

A score takes `2 D` operations, none of them fused. At most sizes it is these that take the time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spotfast.kernels.ranks import GROUP, rows_of
from spotfast.kernels.ranks import LANES as PAIRS
from spotfast.kernels.scored_tiles import ITEMS, USERS, tiles_each
from spotfast.kernels.topk import LANES as CANDIDATES
from spotfast.kernels.topk import Grouping
from spotfast.rows import Rows
from spotfast.traffic import NUMBERS, Access, Traffic, named

IDS = 8  # bytes of an id, of a count and of a key


def rank_counts(targets: Rows, excluded: Rows, num_items: int, dim: int) -> Traffic:
    """Return the traffic of counting what is above target items and beside them.

    Args:
        targets: of each user, at least one of them all.
        excluded: likewise, or none.
        num_items: of the catalogue.
        dim: of vectors.
    """
    users, _, lengths = rows_of(targets)
    rows, blocks, tiles = len(users), -(-len(users) // USERS.value), -(-num_items // ITEMS.value)
    parts = -(-tiles // tiles_each(blocks, tiles))
    slots = int(lengths[:: USERS.value].sum()) * USERS.value  # those that are looked at: of each block the longest
    written = Access(blocks * parts * USERS.value * GROUP.value, IDS, distinct=blocks * USERS.value * GROUP.value)
    again = slots * (tiles - parts)
    loaded = {
        **_tiles(blocks, parts, tiles, dim),
        **_excluded(excluded, np.append(users, np.zeros(-rows % USERS.value, np.int64)), parts),
        "targets": Access(slots * parts, IDS, distinct=slots, again=again),
        "target_scores": Access(slots * parts, NUMBERS, distinct=slots, again=again),
        "row_users": Access(rows * parts, IDS, distinct=rows),
        "row_lengths": Access(rows * parts, IDS, distinct=rows),
    }
    counts = dict.fromkeys(("above", "equal", "before"), written)
    return _pairs(targets, dim) | named("rank_counts_kernel", loaded | counts, counts)


def topk(excluded: Rows, num_items: int, k: int, dim: int) -> Traffic:
    """Return the traffic of finding the best items.

    Args:
        excluded: of each user, or none.
        num_items: of the catalogue.
        k: how many.
        dim: of vectors.
    """
    users, grouping = len(excluded), Grouping.of(num_items, k, dim)
    blocks, tiles = -(-users // USERS.value), -(-num_items // ITEMS.value)
    padded = np.minimum(np.arange(blocks * USERS.value), users - 1)
    maxima = _tiles(blocks, grouping.parts, tiles, dim) | _excluded(excluded, padded, grouping.parts)
    traffic = named("group_maxima_kernel", maxima, {"out": Access(users * grouping.groups, IDS)})

    candidates = grouping.taken * grouping.depth
    programs = users * -(-candidates // CANDIDATES)
    lanes = programs * CANDIDATES
    longest = int(excluded.counts().max())
    loaded = {
        "chosen": Access(users * grouping.taken, IDS, again=users * (candidates - grouping.taken)),
        "indptr": Access(2 * programs, IDS, distinct=users + 1),
        "excluded": Access(lanes * (longest.bit_length() + 1) if longest else 0, IDS, True, len(excluded.items)),
        "user_vectors": Access(programs, NUMBERS * dim, distinct=users),
        "user_biases": Access(programs, NUMBERS, distinct=users),
        "item_vectors": Access(lanes, NUMBERS * dim, True, min(lanes, num_items)),
        "item_biases": Access(lanes, NUMBERS, True, min(lanes, num_items)),
    }
    return traffic | named("candidate_keys_kernel", loaded, {"out": Access(users * candidates, IDS)})


def _pairs(targets: Rows, dim: int) -> Traffic:
    """Return the traffic of the scores of targets; lanes behind the last one take the first user and item."""
    count = len(targets.items)
    lanes = -(-count // PAIRS) * PAIRS
    users, items = int(np.count_nonzero(targets.counts())), len(np.unique(targets.items))
    loaded = {
        "users": Access(count, IDS),
        "items": Access(count, IDS),
        "user_vectors": Access(lanes, NUMBERS * dim, True, users),
        "user_biases": Access(lanes, NUMBERS, True, users),
        "item_vectors": Access(lanes, NUMBERS * dim, True, items),
        "item_biases": Access(lanes, NUMBERS, True, items),
    }
    return named("pair_scores_kernel", loaded, {"out": Access(count, NUMBERS)})


def _tiles(blocks: int, parts: int, tiles: int, dim: int) -> dict[str, Access]:
    """Return what is read of vectors and biases: each block of users with each tile of items."""
    users = blocks * USERS.value
    return {
        "user_tiles": Access(
            blocks * parts, NUMBERS * USERS.value * dim, distinct=blocks, again=blocks * (tiles - parts)
        ),
        "user_biases": Access(users * parts, NUMBERS, True, users),
        "item_tiles": Access(blocks * tiles, NUMBERS * ITEMS.value * dim, distinct=tiles),
        "item_biases": Access(blocks * tiles, NUMBERS * ITEMS.value, distinct=tiles),
    }


def _excluded(excluded: Rows, users: NDArray[np.int64], parts: int) -> dict[str, Access]:
    """Return what is read, at most, of the items that are excluded for a user in each row.

    A program looks for the first of its part, and then reads these one after the other, and the one behind them.
    """
    counts = excluded.counts()[users]
    searched = len(users) * parts * int(counts.max()).bit_length()
    read = int(counts.sum()) + parts * int(np.count_nonzero(counts))
    return {
        "indptr": Access(2 * len(users) * parts, IDS, True, len(excluded) + 1),
        "excluded": Access(searched + read, IDS, True, len(excluded.items)),
    }
