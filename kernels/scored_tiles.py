"""Scores of users for items, block by block: what `ranks` and `topk` share, so that a pair has the same bits in both.

A score is the sum of products in the order of the dimensions, then the user's bias, then the item's; each product and
each sum is rounded on its own (no kernel here may fuse the two). Those are the bits of `spotfast.reference.scores`.

Vectors come in tiles, (tiles, D, size), so that neighbouring threads read neighbouring numbers, and all of a block from
one address. The last tile of items is filled up with some whose bias, and therefore score, is -inf; so is the score of
what is excluded. All others are finite.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import aligned
from spotfast.kernels.negatives import count_at_most
from spotfast.kernels.specialisation import Specialisation
from spotfast.rows import Rows

USERS = tl.constexpr(8)  # of a tile
ITEMS = tl.constexpr(128)  # of a tile: 4 per thread of the one warp that a program has, which needs no barriers
NONE_LEFT = tl.constexpr(1 << 62)  # stands behind the last excluded item of a user
MOST_NUMBERS = 1 << 24  # of vectors that are copied into tiles at a time: 64 MiB
MOST_TILES = 1 << 15  # of items at a time: a launch may have 65,535 programs along its second axis
PROGRAMS = 1 << 13  # that a launch is cut into where there are as many tiles: several for each multiprocessor


@triton.jit
def add_products(total, users, items, dim, USER_STEP: tl.constexpr, ITEM_STEP: tl.constexpr):
    """`total` plus the products of two vectors, one dimension after the other.

    users, items: blocks of pointers to the first numbers of vectors, of shapes that broadcast to that of `total`; the
    next numbers are a step further on.
    """
    for _ in range(dim):
        total += tl.load(users) * tl.load(items)
        users += USER_STEP
        items += ITEM_STEP
    return total


@triton.jit
def score_tile(user_tiles, first_user, user_bias, item_tiles, item_biases, first_item, dim):
    """Scores of the users of a tile for the items of a tile: fp32 (USERS, ITEMS).

    first_user, first_item: int64, of those in the tiles. user_bias: fp32 (USERS,).
    """
    row, lane = tl.arange(0, USERS), tl.arange(0, ITEMS)
    users = (user_tiles + first_user * dim) + row[:, None]
    items = (item_tiles + first_item * dim) + lane[None, :]
    product = add_products(tl.zeros([USERS, ITEMS], tl.float32), users, items, dim, USERS, ITEMS)
    return product + user_bias[:, None] + tl.load(item_biases + first_item + lane)[None, :]


@triton.jit
def first_excluded(indptr, excluded, user, first):
    """Each user's first excluded item from the item `first` on: it, its place, and where the user's row ends, int64."""
    begin, end = tl.load(indptr + user), tl.load(indptr + user + 1)
    before = tl.zeros_like(user) + (first - 1)
    place = begin + count_at_most(excluded, begin, (end - begin).to(tl.int32), before, SLOPE=0)
    return tl.load(excluded + place, mask=place < end, other=NONE_LEFT), place, end


@triton.jit
def leave_out(score, excluded, item, place, end, first):
    """-inf in place of the scores of excluded items, in a tile that begins at the item `first`.

    item, place, end: of each user's first excluded item from there on, as of `first_excluded`. Returned for the next
    tile, too.
    """
    lane = tl.arange(0, ITEMS)
    while tl.min(item) < first + ITEMS:
        inside = item < first + ITEMS
        at = tl.where(inside, item - first, ITEMS).to(tl.int32)
        score = tl.where(at[:, None] == lane[None, :], float("-inf"), score)
        place += inside.to(tl.int64)
        following = tl.load(excluded + place, mask=inside & (place < end), other=NONE_LEFT)
        item = tl.where(inside, following, item)
    return score, item, place


@dataclass(frozen=True)
class ItemTiles:
    """Some of the items, from a multiple of `ITEMS` on.

    Attributes:
        first: the first of them.
        vectors: (tiles, D, ITEMS) float32.
        biases: (tiles, ITEMS) float32.
    """

    first: int
    vectors: Tensor
    biases: Tensor

    def __len__(self) -> int:
        return len(self.vectors)


def item_tiles(vectors: Tensor, biases: Tensor | None, together: int = 1) -> Iterator[ItemTiles]:
    """Yield all items, so many at a time that their copy is small.

    Args:
        vectors: (I, D).
        biases: (I,), or None.
        together: how many tiles must not be parted.
    """
    size = ITEMS.value
    tiles = min(MOST_TILES, MOST_NUMBERS // (max(1, vectors.shape[1]) * size))
    count = together * size * max(1, tiles // together)
    for first in range(0, len(vectors), count):
        copied = tiled(vectors[first : first + count], size)
        own = torch.full((len(copied) * size,), -torch.inf, dtype=torch.float32, device=vectors.device)
        own[: min(count, len(vectors) - first)] = 0.0 if biases is None else biases[first : first + count]
        yield ItemTiles(first, copied, own.view(len(copied), size))


def tiled(vectors: Tensor, size: int) -> Tensor:
    """Copy vectors (N, D) into tiles (N / size, D, size), with zeros behind the last one."""
    dim, full = vectors.shape[1], len(vectors) // size
    tiles = torch.empty((triton.cdiv(len(vectors), size), dim, size), dtype=torch.float32, device=vectors.device)
    tiles[:full] = vectors[: full * size].view(full, size, dim).transpose(1, 2)
    if full < len(tiles):
        rest = len(vectors) - full * size
        tiles[full, :, :rest] = vectors[full * size :].T
        tiles[full, :, rest:] = 0.0
    return tiles


def tiles_each(user_tiles: int, item_tiles: int) -> int:
    """Return how many of the tiles of items a program takes, beside one of users."""
    return triton.cdiv(item_tiles, min(item_tiles, triton.cdiv(PROGRAMS, user_tiles)))


def biases_of(vectors: Tensor, biases: Tensor | None) -> Tensor:
    """Return the biases of vectors (N, D): zeros where there are none, which change no bit of a score.

    Those behind padding, one number into their table, are copied to where compiled kernels can read them.
    """
    if biases is None:
        return torch.zeros(len(vectors), dtype=torch.float32, device=vectors.device)
    return aligned(biases)


def on_device(rows: Rows, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where rows begin, (U + 1,), and their items, int64. An array without items is not empty."""
    items = torch.from_numpy(rows.items) if len(rows.items) else torch.zeros(1, dtype=torch.int64)
    return torch.from_numpy(rows.indptr).to(device), items.to(device)


SPECIALISATIONS: list[Specialisation] = []  # no kernels: what calls these functions lists its own
