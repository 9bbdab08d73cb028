"""Scores of pairs of a user and an item (see `spotfast.ops.bilinear`), and the gradients of the rows they read."""

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch, packed
from spotfast.kernels.rows import width
from spotfast.kernels.specialisation import Specialisation

ELEMENTS = 1024  # of a block of rows: 8 per thread, whose addresses take two registers each
MAX_BLOCK_D = 128  # longer rows are taken in parts of this length
SCALARS = ["pairs", "samples", "candidates", "num_users", "num_items", "dim"]


@triton.jit
def load_ids(ids, place, mask, rows):
    """Ids at a block of places, int64, and a mask of those that are in [0, rows)."""
    found = tl.load(ids + place, mask=mask, other=-1).to(tl.int64)
    return found, (found >= 0) & (found < rows)


@triton.jit
def load_rows(table, ids, known, columns, dim):
    """A part of the rows of a table (rows, dim): fp32, zeros where an id is not known or a column beyond the end.

    ids, known: blocks of int64 and of the mask that `load_ids` returns. columns: the block of columns.
    """
    mask = known[:, None] & (columns < dim)[None, :]
    return tl.load(table + (ids[:, None] * dim + columns[None, :]), mask=mask, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=SCALARS)
def scores_kernel(
    out,
    user_vectors,
    user_biases,
    item_vectors,
    item_biases,
    user_ids,
    item_ids,
    pairs: tl.int64,
    candidates: tl.int64,
    num_users: tl.int64,
    num_items: tl.int64,
    dim: tl.int64,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Dot products plus biases; NaN where an id is out of range.

    out -> (samples, candidates) fp32, pairs of them. user_vectors -> (num_users, dim), user_biases -> (num_users,),
    item_vectors -> (num_items, dim), item_biases -> (num_items,), all fp32 or all bf16. user_ids -> (samples,) int32 or
    int64. item_ids -> (samples, candidates) likewise. A program owns `ROWS` consecutive pairs; pairs of one user are
    neighbours, so that all but the first find the user's row in the cache.
    """
    pair = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask = pair < pairs
    user, user_known = load_ids(user_ids, pair // candidates, mask, num_users)
    item, item_known = load_ids(item_ids, pair, mask, num_items)
    product = tl.zeros([ROWS], tl.float32)
    for start in range(0, dim, BLOCK_D):
        columns = start + tl.arange(0, BLOCK_D)
        user_rows = load_rows(user_vectors, user, user_known, columns, dim)
        item_rows = load_rows(item_vectors, item, item_known, columns, dim)
        product += tl.sum(user_rows * item_rows, axis=1)
    user_bias = tl.load(user_biases + user, mask=user_known, other=0.0).to(tl.float32)
    item_bias = tl.load(item_biases + item, mask=item_known, other=0.0).to(tl.float32)
    score = tl.where(user_known & item_known, product + user_bias + item_bias, float("nan"))
    tl.store(out + pair, score, mask=mask)


@triton.jit(do_not_specialize=SCALARS)
def row_gradients_kernel(
    user_rows,
    item_rows,
    gradient,
    user_vectors,
    item_vectors,
    user_ids,
    item_ids,
    samples: tl.int64,
    candidates: tl.int64,
    num_users: tl.int64,
    num_items: tl.int64,
    dim: tl.int64,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of the rows that each sample read, one by one: duplicates are not summed here.

    user_rows -> (samples, dim) fp32: the sum of g[c] * item vector c, in the order of the candidates. item_rows ->
    (samples, candidates, dim) fp32: g[c] * user vector. gradient -> g, (samples, candidates) fp32. The others as for
    `scores_kernel`; rows of ids out of range count as zero. A program owns `BLOCK_D` columns of `ROWS` consecutive
    samples.
    """
    sample = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    columns = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    mask = sample < samples
    written = mask[:, None] & (columns < dim)[None, :]
    user, user_known = load_ids(user_ids, sample, mask, num_users)
    user_vector = load_rows(user_vectors, user, user_known, columns, dim)
    total = tl.zeros([ROWS, BLOCK_D], tl.float32)
    for candidate in range(candidates):
        pair = sample * candidates + candidate
        item, item_known = load_ids(item_ids, pair, mask, num_items)
        g = tl.load(gradient + pair, mask=mask, other=0.0)[:, None]
        total += g * load_rows(item_vectors, item, item_known, columns, dim)
        tl.store(item_rows + (pair[:, None] * dim + columns[None, :]), g * user_vector, mask=written)
    tl.store(user_rows + (sample[:, None] * dim + columns[None, :]), total, mask=written)


def scores(
    user_vectors: Tensor,
    user_biases: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    user_ids: Tensor,
    item_ids: Tensor,
) -> Tensor:
    """Scores (B, C), float32."""
    out = torch.empty(item_ids.shape, dtype=torch.float32, device=item_ids.device)
    if out.numel():
        dim = user_vectors.shape[1]
        constants = blocks(dim)
        launch(
            scores_kernel, (triton.cdiv(out.numel(), constants["ROWS"]),),
            out, user_vectors, user_biases, item_vectors, item_biases, packed(user_ids), packed(item_ids),
            out.numel(), out.shape[1], len(user_vectors), len(item_vectors), dim,
            **constants,
        )  # fmt: skip
    return out


def row_gradients(
    gradient: Tensor, user_vectors: Tensor, item_vectors: Tensor, user_ids: Tensor, item_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the rows that each sample read: of users (B, D), of items (B, C, D), float32."""
    samples, candidates = item_ids.shape
    dim = user_vectors.shape[1]
    user_rows = torch.empty((samples, dim), dtype=torch.float32, device=gradient.device)
    item_rows = torch.empty((samples, candidates, dim), dtype=torch.float32, device=gradient.device)
    if samples:
        constants = blocks(dim)
        launch(
            row_gradients_kernel, (triton.cdiv(samples, constants["ROWS"]), triton.cdiv(dim, constants["BLOCK_D"])),
            user_rows, item_rows, packed(gradient), user_vectors, item_vectors, packed(user_ids),
            packed(item_ids), samples, candidates, len(user_vectors), len(item_vectors), dim,
            **constants,
        )  # fmt: skip
    return user_rows, item_rows


def blocks(dim: int) -> dict[str, int]:
    """Return the shape of a block of rows of this length: the constants of the kernels."""
    block_d = min(MAX_BLOCK_D, width(dim))
    return {"ROWS": ELEMENTS // block_d, "BLOCK_D": block_d}


# Tables of the common lengths, ids as torch makes them; what else is asked for is compiled when it is.
SHIPPED = [("*fp32", 32), ("*fp32", 64), ("*fp32", 128), ("*bf16", 64)]
IDS = {"user_ids": "*i64", "item_ids": "*i64"}
OUT = {"out": "*fp32"}
ROWS_OUT = dict.fromkeys(("user_rows", "item_rows", "gradient"), "*fp32")
BIASES = ("user_biases", "item_biases")
VECTORS = ("user_vectors", "item_vectors")

SPECIALISATIONS = [
    *(
        Specialisation(scores_kernel, OUT | dict.fromkeys((*VECTORS, *BIASES), table) | IDS, blocks(dim))
        for table, dim in SHIPPED
    ),
    *(
        Specialisation(row_gradients_kernel, ROWS_OUT | dict.fromkeys(VECTORS, table) | IDS, blocks(dim))
        for table, dim in SHIPPED
    ),
]
