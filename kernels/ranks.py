"""How many items stand above target items, and how many beside them (see `spotfast.ops.rank_counts`).

A row is a user with up to `GROUP` of its targets: users with many have several rows. So rows are equal in work, and all
that is counted for one stays in registers.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import aligned, launch
from spotfast.kernels.scored_tiles import (
    ITEMS,
    MOST_NUMBERS,
    USERS,
    add_products,
    biases_of,
    first_excluded,
    item_tiles,
    leave_out,
    on_device,
    score_tile,
    tiled,
    tiles_each,
)
from spotfast.kernels.specialisation import Specialisation
from spotfast.rows import Rows

LANES = 128  # targets that a program scores, one per thread
GROUP = tl.constexpr(16)  # targets of a row
NUMBERS = 12  # of four bytes, for each of these: ids, scores and counts, twice
# The counts of a tile share a word: each is at most ITEMS.
ABOVE, BEFORE, BEHIND = tl.constexpr(1), tl.constexpr(1 << 10), tl.constexpr(1 << 20)
SCALARS = ["count", "dim", "rows", "first_item", "tiles", "each"]


@triton.jit(do_not_specialize=SCALARS)
def pair_scores_kernel(
    out,
    user_vectors,
    user_biases,
    item_vectors,
    item_biases,
    users,
    items,
    count: tl.int64,
    dim: tl.int32,
    LANES: tl.constexpr,
):
    """Scores of pairs, with the bits that they have in a tile.

    out -> (count,) fp32. user_vectors -> (U, dim), user_biases -> (U,), item_vectors -> (I, dim), item_biases -> (I,),
    fp32. users, items -> (count,) int64. A program owns `LANES` pairs.
    """
    pair = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = pair < count
    user = tl.load(users + pair, mask=mask, other=0)
    item = tl.load(items + pair, mask=mask, other=0)
    zero = tl.zeros([LANES], tl.float32)
    product = add_products(zero, user_vectors + user * dim, item_vectors + item * dim, dim, 1, 1)
    score = product + tl.load(user_biases + user) + tl.load(item_biases + item)
    tl.store(out + pair, score, mask=mask)


@triton.jit
def count_in_tile(score, first, target_score, target):
    """The counts of a target of each row in a tile, in one word: int32 (USERS,).

    Multiples of `ABOVE`: items with higher scores; of `BEFORE` and `BEHIND`: with equal scores, and lower or other ids,
    the target itself among them. score: fp32 (USERS, ITEMS), of the items from `first` on. target_score: fp32 (USERS,).
    target: int64 (USERS,).
    """
    lane = tl.arange(0, ITEMS)
    at = tl.minimum(tl.maximum(target - first, 0), ITEMS).to(tl.int32)
    beside = tl.where(lane[None, :] < at[:, None], BEFORE, BEHIND)
    beside = tl.where(score == target_score[:, None], beside, 0)
    return tl.sum(tl.where(score > target_score[:, None], ABOVE, beside), axis=1)


@triton.jit(do_not_specialize=SCALARS)
def rank_counts_kernel(
    above,
    equal,
    before,
    targets,
    target_scores,
    row_users,
    row_lengths,
    indptr,
    excluded,
    user_tiles,
    user_biases,
    item_tiles,
    item_biases,
    first_item: tl.int64,
    tiles: tl.int32,
    each: tl.int32,
    rows: tl.int32,
    dim: tl.int32,
):
    """Add to the counts of targets what some tiles of items have.

    above, equal, before -> (blocks * USERS, GROUP) int64. targets, target_scores -> likewise, int64 and fp32, infinite
    behind the last target of a row. row_users, row_lengths -> (rows,) int64. indptr -> (U + 1,) int64, excluded ->
    int64, ascending in each user's row. user_tiles -> (blocks, dim, USERS) fp32, the vectors of the rows. user_biases
    -> (U,) fp32. item_tiles -> (tiles, dim, ITEMS), item_biases -> (tiles, ITEMS) fp32, of the items from `first_item`
    on. A program takes `USERS` rows and `each` tiles; it adds integers, whose sums are the same in any order.
    """
    first_row = tl.program_id(0).to(tl.int64) * USERS
    row = tl.arange(0, USERS)
    user = tl.load(row_users + first_row + row, mask=first_row + row < rows, other=0)
    longest = tl.max(tl.load(row_lengths + first_row + row, mask=first_row + row < rows, other=0).to(tl.int32))
    target_of = first_row * GROUP + row * GROUP
    slot = tl.arange(0, GROUP)
    higher = tl.zeros([GROUP, USERS], tl.int32)
    earlier = tl.zeros([GROUP, USERS], tl.int32)
    later = tl.zeros([GROUP, USERS], tl.int32)

    user_bias = tl.load(user_biases + user)
    first_tile = tl.program_id(1) * each
    first = first_item + first_tile.to(tl.int64) * ITEMS
    item, place, end = first_excluded(indptr, excluded, user, first)
    for _ in range(first_tile, tl.minimum(first_tile + each, tiles)):
        score = score_tile(user_tiles, first_row, user_bias, item_tiles, item_biases, first - first_item, dim)
        score, item, place = leave_out(score, excluded, item, place, end, first)
        for i in range(longest):
            target, target_score = tl.load(targets + target_of + i), tl.load(target_scores + target_of + i)
            counts = count_in_tile(score, first, target_score, target)
            counts = tl.where(slot[:, None] == i, counts[None, :], 0)
            higher += counts % BEFORE
            earlier += counts % BEHIND // BEFORE
            later += counts // BEHIND
        first += ITEMS

    of_target = target_of[None, :] + slot[:, None]
    tl.atomic_add(above + of_target, higher.to(tl.int64), sem="relaxed")
    tl.atomic_add(equal + of_target, (earlier + later).to(tl.int64), sem="relaxed")
    tl.atomic_add(before + of_target, earlier.to(tl.int64), sem="relaxed")


def rank_counts(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    targets: Rows,
    excluded: Rows,
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, for T targets, items above, with equal scores, and of these, with lower ids: int64 (T,) each.

    For U users and I items, with finite scores; arguments as in `spotfast.ops.rank_counts.vector_rank_counts`.
    """
    device, dim = user_vectors.device, user_vectors.shape[1]
    above, equal, before = (torch.zeros(len(targets.items), dtype=torch.int64, device=device) for _ in range(3))
    counts = above, equal, before
    if not len(above):
        return counts
    user_vectors, item_vectors = aligned(user_vectors), aligned(item_vectors)  # those behind padding may begin anywhere
    user_biases = biases_of(user_vectors, user_biases)
    indptr, items = on_device(excluded, device)
    users = torch.from_numpy(np.repeat(np.arange(len(targets)), targets.counts())).to(device)
    ids = torch.from_numpy(targets.items).to(device)
    scores = torch.empty(len(ids), dtype=torch.float32, device=device)
    launch(
        pair_scores_kernel, (triton.cdiv(len(ids), LANES),),
        scores, user_vectors, user_biases, item_vectors, biases_of(item_vectors, item_biases), users, ids, len(ids),
        dim, LANES=LANES,
    )  # fmt: skip
    for row_users, starts, lengths in _some_rows(targets, dim, device):
        user_tiles = tiled(user_vectors[row_users], USERS.value)
        exists, of_target = _slots(starts, lengths, len(user_tiles) * USERS.value)
        row_targets, row_scores = ids[of_target], torch.where(exists, scores[of_target], torch.inf)
        found = torch.zeros((3, *exists.shape), dtype=torch.int64, device=device)
        for tiles in item_tiles(item_vectors, item_biases):
            each = tiles_each(len(user_tiles), len(tiles))
            launch(
                rank_counts_kernel, (len(user_tiles), triton.cdiv(len(tiles), each)),
                *found, row_targets, row_scores, row_users, lengths, indptr, items, user_tiles, user_biases,
                tiles.vectors, tiles.biases, tiles.first, len(tiles), each, len(row_users), dim, num_warps=1,
            )  # fmt: skip
        for count, of_rows in zip(counts, found, strict=True):
            count[of_target[exists]] = of_rows[exists]
    _count_excluded(counts, users, ids, indptr, items, len(item_vectors))
    return counts


def rows_of(targets: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of the kernel: their users, first targets, and numbers of targets, which descend."""
    counts = targets.counts()
    pieces = -(-counts // GROUP.value)
    users = np.repeat(np.arange(len(targets)), pieces)
    within = GROUP.value * (np.arange(len(users)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    lengths = np.minimum(counts[users] - within, GROUP.value)
    order = np.argsort(-lengths, kind="stable")  # those of a program have about as many
    return users[order], (targets.indptr[users] + within)[order], lengths[order]


def _some_rows(targets: Rows, dim: int, device: torch.device) -> Iterator[tuple[Tensor, ...]]:
    """Yield the rows, so many at a time that what is made for them is small."""
    size = USERS.value * max(1, MOST_NUMBERS // (USERS.value * (dim + NUMBERS * GROUP.value)))
    yield from zip(*(torch.from_numpy(column).to(device).split(size) for column in rows_of(targets)), strict=True)


def _slots(starts: Tensor, lengths: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return which of the slots (rows, GROUP) have a target, and which one; 0 where there is none."""
    slot = torch.arange(GROUP.value, device=starts.device)
    exists = torch.zeros((rows, GROUP.value), dtype=torch.bool, device=starts.device)
    exists[: len(starts)] = slot < lengths.unsqueeze(1)
    of_target = torch.zeros((rows, GROUP.value), dtype=torch.int64, device=starts.device)
    of_target[: len(starts)] = starts.unsqueeze(1) + slot
    return exists, of_target.masked_fill(~exists, 0)


def _count_excluded(
    counts: tuple[Tensor, Tensor, Tensor],
    users: Tensor,
    targets: Tensor,
    indptr: Tensor,
    excluded: Tensor,
    num_items: int,
) -> None:
    """Set the counts of targets that are excluded themselves: those tie behind all others."""
    lengths = indptr.diff()
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=indptr.device), lengths)
    if not len(rows):
        return
    pairs, wanted = rows * num_items + excluded, users * num_items + targets  # both ascend
    place = torch.searchsorted(pairs, wanted)
    found = pairs[place.clamp(max=len(pairs) - 1)] == wanted
    equal = lengths[users]
    for count, of_excluded in zip(counts, (num_items - equal, equal, place - indptr[users]), strict=True):
        count.copy_(torch.where(found, of_excluded, count))


_VECTORS = dict.fromkeys(
    ("user_vectors", "user_tiles", "user_biases", "item_vectors", "item_tiles", "item_biases"), "*fp32"
)
_IDS = dict.fromkeys(("users", "items", "targets", "indptr", "excluded"), "*i64")
_ROWS = dict.fromkeys(("row_users", "row_lengths", "above", "equal", "before"), "*i64")

SPECIALISATIONS = [
    Specialisation(pair_scores_kernel, _VECTORS | _IDS | {"out": "*fp32"}, {"LANES": LANES}),
    Specialisation(rank_counts_kernel, _VECTORS | _IDS | _ROWS | {"target_scores": "*fp32"}, {}, num_warps=1),
]
