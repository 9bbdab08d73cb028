"""The best k items (see `spotfast.ops.topk`), exact for any k, without sorting all of them.

Items are dealt into groups, many more than k. The first kernel finds the best item of every group. The k best of these
have all of the k best items in their groups, since an item that is better than the k-th has fewer than k better ones:
the second kernel scores what is in these groups. Torch selects from both.

What is compared are keys of 64 bits, all different: the score, then the id, so that of equal scores the lower id comes
first.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import aligned, launch
from spotfast.kernels.negatives import is_item
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
)
from spotfast.kernels.specialisation import Specialisation
from spotfast.rows import Rows

LAST = tl.constexpr((1 << 31) - 1)  # id, which has half of a key
SIGNLESS = tl.constexpr(0x7FFFFFFF)
LANES = 128  # candidates of a program, one per thread
MOST_KEYS = 1 << 25  # in work at a time: 256 MiB
MOST_USERS = 1 << 15  # at a time, a multiple of USERS: a launch may have 65,535 programs along its second axis
SCALARS = ["users", "dim", "first_item", "tiles", "first_part", "depth", "groups", "taken", "num_items"]


@triton.jit
def sort_key(score, item):
    """Keys, int64: higher for higher scores, fp32, and of equal ones for lower ids, int64; an id of -1 is the last."""
    bits = score.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & SIGNLESS)
    return (ordered.to(tl.int64) << 32) + (LAST - item)


@triton.jit(do_not_specialize=SCALARS)
def group_maxima_kernel(
    out,
    indptr,
    excluded,
    user_tiles,
    user_biases,
    item_tiles,
    item_biases,
    first_item: tl.int64,
    first_part: tl.int64,
    tiles: tl.int32,
    depth: tl.int32,
    groups: tl.int64,
    users: tl.int32,
    dim: tl.int32,
):
    """The best item of every group, of those that are not excluded.

    out -> (users, groups) int64, keys; of -inf and -1 where all are excluded. indptr -> (users + 1,) int64, excluded ->
    int64, ascending in each user's row. user_tiles -> (blocks, dim, USERS), user_biases -> (users,), item_tiles ->
    (tiles, dim, ITEMS), item_biases -> (tiles, ITEMS), fp32, of the items from `first_item` on. A program takes `USERS`
    users and a part of `depth` tiles, and owns a group for each lane of these, from `first_part * ITEMS` on.
    """
    first_row, part = tl.program_id(0).to(tl.int64) * USERS, tl.program_id(1)
    row, lane = first_row + tl.arange(0, USERS), tl.arange(0, ITEMS)
    user = tl.minimum(row, users - 1)
    user_bias = tl.load(user_biases + user)
    first_tile = part * depth
    first = first_item + first_tile.to(tl.int64) * ITEMS
    item, place, end = first_excluded(indptr, excluded, user, first)
    best = tl.full([USERS, ITEMS], float("-inf"), tl.float32)
    best_tile = tl.zeros([USERS, ITEMS], tl.int32)
    for tile in range(first_tile, tl.minimum(first_tile + depth, tiles)):
        score = score_tile(user_tiles, first_row, user_bias, item_tiles, item_biases, first - first_item, dim)
        score, item, place = leave_out(score, excluded, item, place, end, first)
        better = score > best
        best = tl.where(better, score, best)
        best_tile = tl.where(better, tile, best_tile)
        first += ITEMS
    best_item = first_item + (best_tile.to(tl.int64) * ITEMS + lane[None, :])
    key = sort_key(best, tl.where(best > float("-inf"), best_item, -1))
    group = (first_part + part) * ITEMS + lane
    tl.store(out + (row[:, None] * groups + group[None, :]), key, mask=(row < users)[:, None])


@triton.jit(do_not_specialize=SCALARS)
def candidate_keys_kernel(
    out,
    chosen,
    indptr,
    excluded,
    user_vectors,
    user_biases,
    item_vectors,
    item_biases,
    taken: tl.int32,
    depth: tl.int32,
    num_items: tl.int64,
    dim: tl.int32,
    LANES: tl.constexpr,
):
    """The keys of all items in each user's chosen groups.

    out -> (users, taken * depth) int64; of -inf and -1 for what is excluded or behind the last item. chosen -> (users,
    taken) int64, groups. indptr, excluded, user_biases as for `group_maxima_kernel`. user_vectors -> (users, dim),
    item_vectors -> (num_items, dim), item_biases -> (num_items,) fp32. A program owns `LANES` candidates of a user.
    """
    user = tl.program_id(1).to(tl.int64)
    candidate = tl.program_id(0) * LANES + tl.arange(0, LANES)
    mask = candidate < taken * depth
    group = tl.load(chosen + user * taken + candidate // depth, mask=mask, other=0)
    tile = group // ITEMS * depth + candidate % depth
    item = tile * ITEMS + group % ITEMS
    exists = mask & (item < num_items)
    item = tl.where(exists, item, 0)
    zero = tl.zeros([LANES], tl.float32)
    product = add_products(zero, user_vectors + user * dim, item_vectors + item * dim, dim, 1, 1)
    score = product + tl.load(user_biases + user) + tl.load(item_biases + item)
    begin, end = tl.load(indptr + user), tl.load(indptr + user + 1)
    found = is_item(item, excluded, begin, (end - begin).to(tl.int32))
    score = tl.where(found, float("-inf"), tl.where(exists, score, float("-inf")))
    key = sort_key(score, tl.where(score > float("-inf"), item, -1))
    tl.store(out + user * (taken * depth) + candidate, key, mask=mask)


@dataclass(frozen=True)
class Grouping:
    """How items are dealt into groups, and how many users are in work at a time.

    Attributes:
        depth: items of a group.
        parts: of the items, with a group for each lane of a tile.
        taken: groups that are chosen for each user.
    """

    depth: int
    parts: int
    taken: int

    @classmethod
    def of(cls, num_items: int, k: int, dim: int) -> "Grouping":
        """Deal so that there are about as many groups as items in those chosen, and that parts are small to copy."""
        most = MOST_NUMBERS // (ITEMS.value * max(1, dim))
        depth = max(1, min(math.isqrt(num_items // k), most))
        parts = triton.cdiv(triton.cdiv(num_items, ITEMS.value), depth)
        return cls(depth, parts, min(k, parts * ITEMS.value))

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return self.parts * ITEMS.value

    @property
    def keys(self) -> int:
        """How many keys a user has in work: best items, what is chosen from them, and candidates."""
        return self.groups + 3 * self.taken + self.taken * self.depth

    def users(self, dim: int) -> int:
        """How many users are in work at a time: a multiple of `USERS`."""
        most = min(MOST_USERS, MOST_KEYS // (self.keys + dim))
        return max(1, most // USERS.value) * USERS.value


def topk(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    k: int,
    excluded: Rows,
) -> tuple[Tensor, Tensor]:
    """Find ids, int64, and scores, float32, both (U, k) and on the CPU; -1 and -inf where fewer than k are left.

    For U users and at most 2^31 - 1 items, with finite scores; arguments as in `spotfast.ops.topk.vector_topk`.
    """
    ids = torch.full((len(user_vectors), k), -1, dtype=torch.int64)
    scores = torch.full((len(user_vectors), k), -torch.inf, dtype=torch.float32)
    if not len(user_vectors) or not len(item_vectors):
        return ids, scores
    user_vectors, item_vectors = aligned(user_vectors), aligned(item_vectors)  # those behind padding may begin anywhere
    grouping = Grouping.of(len(item_vectors), k, item_vectors.shape[1])
    indptr, items = on_device(excluded, user_vectors.device)
    of_users, of_items = biases_of(user_vectors, user_biases), biases_of(item_vectors, item_biases)
    size = grouping.users(user_vectors.shape[1])
    for first in range(0, len(user_vectors), size):
        some = slice(first, min(first + size, len(user_vectors)))
        queries = user_vectors[some], of_users[some], indptr[first : some.stop + 1], items
        maxima = _group_maxima(*queries, item_vectors, item_biases, grouping)
        chosen = maxima.topk(grouping.taken, sorted=False).indices
        keys = _candidate_keys(*queries, item_vectors, of_items, grouping, chosen)
        best = keys.topk(min(k, keys.shape[1])).values
        ids[some, : best.shape[1]] = ids_of(best).cpu()
        scores[some, : best.shape[1]] = scores_of(best).cpu()
    return ids, scores


def _group_maxima(
    user_vectors: Tensor,
    user_biases: Tensor,
    indptr: Tensor,
    excluded: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    grouping: Grouping,
) -> Tensor:
    """Return the key of the best item of every group: (U, groups)."""
    users, dim = user_vectors.shape
    out = torch.empty((users, grouping.groups), dtype=torch.int64, device=user_vectors.device)
    user_tiles = tiled(user_vectors, USERS.value)
    for tiles in item_tiles(item_vectors, item_biases, grouping.depth):
        launch(
            group_maxima_kernel, (len(user_tiles), triton.cdiv(len(tiles), grouping.depth)),
            out, indptr, excluded, user_tiles, user_biases, tiles.vectors, tiles.biases, tiles.first,
            tiles.first // (grouping.depth * ITEMS.value), len(tiles), grouping.depth, grouping.groups, users, dim,
            num_warps=1,
        )  # fmt: skip
    return out


def _candidate_keys(
    user_vectors: Tensor,
    user_biases: Tensor,
    indptr: Tensor,
    excluded: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    grouping: Grouping,
    chosen: Tensor,
) -> Tensor:
    """Return the key of every item in the chosen groups: (U, taken * depth)."""
    count = grouping.taken * grouping.depth
    out = torch.empty((len(chosen), count), dtype=torch.int64, device=chosen.device)
    launch(
        candidate_keys_kernel, (triton.cdiv(count, LANES), len(chosen)),
        out, chosen, indptr, excluded, user_vectors, user_biases, item_vectors, item_biases, grouping.taken,
        grouping.depth, len(item_vectors), item_vectors.shape[1], LANES=LANES,
    )  # fmt: skip
    return out


def ids_of(keys: Tensor) -> Tensor:
    """Return the ids in keys."""
    return LAST.value - (keys & 0xFFFFFFFF)


def scores_of(keys: Tensor) -> Tensor:
    """Return the scores in keys."""
    ordered = (keys >> 32).int()
    return (ordered ^ ((ordered >> 31) & SIGNLESS.value)).view(torch.float32)


_FLOATS = ("user_tiles", "user_vectors", "user_biases", "item_tiles", "item_vectors", "item_biases")
_POINTERS = dict.fromkeys(_FLOATS, "*fp32") | dict.fromkeys(("out", "chosen", "indptr", "excluded"), "*i64")

SPECIALISATIONS = [
    Specialisation(
        group_maxima_kernel, _POINTERS, {}, num_warps=1, registers=168,
        reason="a thread holds 32 scores, and beside each the best so far and where it was",
    ),
    Specialisation(candidate_keys_kernel, _POINTERS, {"LANES": LANES}),
]  # fmt: skip
