"""Negative items (see `spotfast.ops.negatives`): uniform, unseen by the user, or by popularity."""

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch, packed
from spotfast.kernels.philox import below, draw, draw_range, split
from spotfast.kernels.specialisation import Specialisation
from spotfast.positives import Positives

NEGATIVES = tl.constexpr(2 << 16)  # the stream, attempt 0
ATTEMPTS = tl.constexpr(16)  # by popularity; then one `unseen` draw
UNIFORM_BLOCKS = 256  # Philox blocks per program: 1024 draws, 8 per thread
UNSEEN_BLOCKS = 128  # 512 draws, 4 per thread: a search each
POPULARITY_LANES = 128  # draws per program, one per thread: it goes on until all have accepted an item
SCALARS = ["seed", "epoch", "first_block", "skip", "first_draw", "count", "slots", "num_items", "first", "span"]


@triton.jit
def count_at_most(values, begin, count, bound, SLOPE: tl.constexpr):
    """How many j in [0, count) have `values[begin + j] - SLOPE * j <= bound`: int32 of the shape of `bound`.

    values -> ascending integers. `begin`: int64, `count`: int32, scalars or of the shape of `bound`. All rows are
    bisected side by side, and `size` bounds the longest that is left: a step leaves at most half of a row.
    """
    low = tl.zeros_like(bound).to(tl.int32)
    high = low + count
    size = tl.max(high)
    while size > 0:
        middle = low + ((high - low) >> 1)
        value = tl.load(values + (begin + middle), mask=low < high, other=0)
        right = (low < high) & (value - SLOPE * middle <= bound)
        low = tl.where(right, middle + 1, low)
        high = tl.where(right, high, middle)
        size = size >> 1
    return low


@triton.jit
def positives_of(users, indptr, sample, mask):
    """Where the rows of the users of samples begin, int64, and their lengths, int32: both 0 where masked."""
    user = tl.load(users + sample, mask=mask, other=0)
    begin = tl.load(indptr + user, mask=mask, other=0)
    end = tl.load(indptr + user + 1, mask=mask, other=0)
    return begin, (end - begin).to(tl.int32)


@triton.jit
def unseen_item(word, items, begin, count, num_items):
    """Uniform over the items that are not in `items[begin:begin + count]`, int32, from 32 random bits each.

    items -> ascending, distinct, fewer than `num_items` per row. `begin`: int64; `count` and `num_items`: int32. With
    x = word * (num_items - count) >> 32, the x-th item that is left: every positive j with `row[j] - j <= x` is
    before it.
    """
    x = below(word, num_items - count).to(tl.int32)
    return x + count_at_most(items, begin, count, x, SLOPE=1)


@triton.jit
def is_item(item, items, begin, count):
    """Whether `items[begin:begin + count]`, ascending, holds the item. `begin`: int64, `count`: int32."""
    at_most = count_at_most(items, begin, count, item, SLOPE=0)
    return tl.load(items + (begin + at_most - 1), mask=at_most > 0, other=-1) == item


@triton.jit
def popular_item(seed, epoch, d, thresholds, items, begin, count, num_items):
    """By popularity, at most 16 attempts per draw number in `d`, int64, then an `unseen_item` at attempt 16: int32.

    thresholds -> (num_items - 1,) integers, ascending: an item is the number of them that are at most the word.
    The others as for `unseen_item`; lanes with an empty row take their first item.
    """
    chosen = tl.zeros_like(d).to(tl.int32)
    searching = chosen == 0  # everywhere
    left = tl.max(searching.to(tl.int32))
    attempt = tl.zeros_like(left)
    while (left > 0) & (attempt < ATTEMPTS):
        word = draw(seed, epoch, attempt | NEGATIVES, d)
        item = count_at_most(thresholds, 0, tl.where(searching, num_items - 1, 0), word, SLOPE=0)
        chosen = tl.where(searching, item, chosen)
        searching = searching & is_item(item, items, begin, tl.where(searching, count, 0))
        left = tl.max(searching.to(tl.int32))
        attempt += 1
    if left > 0:
        word = draw(seed, epoch, ATTEMPTS | NEGATIVES, d)
        item = unseen_item(word, items, begin, tl.where(searching, count, 0), num_items)
        chosen = tl.where(searching, item, chosen)
    return chosen


@triton.jit(do_not_specialize=SCALARS)
def uniform_kernel(
    out,
    seed: tl.uint64,
    epoch: tl.uint32,
    first_block: tl.int64,
    skip: tl.int64,
    count: tl.int64,
    first: tl.int64,
    span: tl.uint32,
    BLOCKS: tl.constexpr,
):
    """Uniform over [first, first + span), from the draws `4 * first_block + skip` and the `count - 1` that follow.

    out -> (count,) int64. A program owns the draws of `BLOCKS` consecutive Philox blocks.
    """
    word, place, mask = draw_range(seed, epoch, NEGATIVES, first_block, skip, count, tl.program_id(0), BLOCKS=BLOCKS)
    tl.store(out + place, first + below(word, span), mask=mask)


@triton.jit(do_not_specialize=SCALARS)
def unseen_kernel(
    out,
    users,
    indptr,
    items,
    seed: tl.uint64,
    epoch: tl.uint32,
    first_block: tl.int64,
    skip: tl.int64,
    count: tl.int64,
    slots: tl.int64,
    num_items: tl.int32,
    BLOCKS: tl.constexpr,
):
    """Uniform over what is left for each sample's user, from the draws `4 * first_block + skip` and on.

    out -> (count,) int64, count = samples * slots. users -> (samples,) int64. indptr -> (num_users + 1,) int64.
    items -> (indptr[num_users],) int32 or int64. A program owns the draws of `BLOCKS` consecutive Philox blocks.
    """
    word, place, mask = draw_range(seed, epoch, NEGATIVES, first_block, skip, count, tl.program_id(0), BLOCKS=BLOCKS)
    begin, length = positives_of(users, indptr, place // slots, mask)
    item = unseen_item(word, items, begin, length, num_items)
    tl.store(out + place, item.to(tl.int64), mask=mask)


@triton.jit(do_not_specialize=SCALARS)
def popularity_kernel(
    out,
    thresholds,
    users,
    indptr,
    items,
    seed: tl.uint64,
    epoch: tl.uint32,
    first_draw: tl.int64,
    count: tl.int64,
    slots: tl.int64,
    num_items: tl.int32,
    LANES: tl.constexpr,
):
    """By popularity over what is left for each sample's user, from the draws [first_draw, first_draw + count).

    out -> (count,) int64, count = samples * slots. thresholds -> (num_items - 1,) int64. users -> (samples,) int64.
    indptr -> (num_users + 1,) int64. items -> (indptr[num_users],) int32 or int64. A program owns `LANES` draws.
    """
    place = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    mask = place < count
    begin, length = positives_of(users, indptr, place // slots, mask)
    item = popular_item(seed, epoch, first_draw + place, thresholds, items, begin, length, num_items)
    tl.store(out + place, item.to(tl.int64), mask=mask)


def uniform(
    seed: int, epoch: int, start: int, stop: int, slots: int, num_items: int, first: int, device: torch.device
) -> Tensor:
    """Uniform over [first, num_items), shape (stop - start, slots)."""
    out = torch.empty((stop - start, slots), dtype=torch.int64, device=device)
    if stop > start:
        first_block, skip, programs = split(start * slots, stop * slots, UNIFORM_BLOCKS)
        launch(
            uniform_kernel, (programs,),
            out, seed, epoch, first_block, skip, out.numel(), first, num_items - first,
            BLOCKS=UNIFORM_BLOCKS,
        )  # fmt: skip
    return out


def unseen(seed: int, epoch: int, start: int, stop: int, slots: int, positives: Positives, users: Tensor) -> Tensor:
    """Uniform over the items that are not the user's positives, shape (stop - start, slots)."""
    out = torch.empty((stop - start, slots), dtype=torch.int64, device=users.device)
    if stop > start:
        first_block, skip, programs = split(start * slots, stop * slots, UNSEEN_BLOCKS)
        launch(
            unseen_kernel, (programs,),
            out, packed(users), packed(positives.indptr), packed(positives.items),
            seed, epoch, first_block, skip, out.numel(), slots, positives.num_items,
            BLOCKS=UNSEEN_BLOCKS,
        )  # fmt: skip
    return out


def popularity(
    seed: int,
    epoch: int,
    start: int,
    stop: int,
    slots: int,
    thresholds: Tensor,
    positives: Positives,
    users: Tensor,
) -> Tensor:
    """By popularity over the items that are not the user's positives, shape (stop - start, slots)."""
    out = torch.empty((stop - start, slots), dtype=torch.int64, device=users.device)
    if stop > start:
        launch(
            popularity_kernel, (triton.cdiv(out.numel(), POPULARITY_LANES),),
            out, packed(thresholds), packed(users), packed(positives.indptr),
            packed(positives.items), seed, epoch, start * slots, out.numel(), slots, positives.num_items,
            LANES=POPULARITY_LANES,
        )  # fmt: skip
    return out


_ROWS = {"users": "*i64", "indptr": "*i64", "items": "*i32"}  # as `Positives` holds them

SPECIALISATIONS = [
    Specialisation(uniform_kernel, {"out": "*i64"}, {"BLOCKS": UNIFORM_BLOCKS}),
    Specialisation(unseen_kernel, {"out": "*i64", **_ROWS}, {"BLOCKS": UNSEEN_BLOCKS}),
    Specialisation(popularity_kernel, {"out": "*i64", "thresholds": "*i64", **_ROWS}, {"LANES": POPULARITY_LANES}),
]
