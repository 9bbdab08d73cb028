"""The loss of sampled negatives over the steps of sequences (see `spotfast.ops.sequence_loss`), and its gradients.

A position p is step p % L of sequence p // L, in [0, P) with P = B L. A loss has at most two scores with a gradient at
each position, those of the positive and of one negative: all that the backward pass needs are these two derivatives.
"""

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import aligned, launch, packed
from spotfast.kernels.rows import store_rows, tile
from spotfast.kernels.score_loss import hardest, of_ranking
from spotfast.kernels.specialisation import Specialisation

TILE = 512  # numbers of states that a program holds, 4 per thread
LANES = 1024  # partial sums added at once
LOSS_SCALARS = [
    *["sequence_stride", "step_stride", "slot_stride", "negative_sequence_stride", "negative_step_stride"],
    *["positions", "length", "slots", "dim"],
]
GRADIENT_SCALARS = ["sequence_stride", "step_stride", "positions", "length", "dim"]


@triton.jit
def places(program, positions, length, ROWS: tl.constexpr):
    """The `ROWS` positions of a program, int64; their sequences, int64, and steps, int32; and which of them exist."""
    first = program.to(tl.int64) * ROWS
    sequence = first // length  # the one division of 64 bits
    row = tl.arange(0, ROWS)
    step = (first - sequence * length).to(tl.int32) + row
    return first + row, sequence + step // length, step % length, first + row < positions


@triton.jit
def read_rows(table, offset, reading, dim, BLOCK_D: tl.constexpr):
    """Rows of `dim` numbers that begin at `offset`, int64 (ROWS,): fp32 (ROWS, BLOCK_D), 0 beyond them and unread."""
    column = tl.arange(0, BLOCK_D)
    inside = reading[:, None] & (column < dim)[None, :]
    return tl.load(table + offset[:, None] + column[None, :], mask=inside, other=0.0).to(tl.float32)


@triton.jit
def score_items(state, vectors, biases, item, reading, dim, BLOCK_D: tl.constexpr):
    """Scores of one item per state (ROWS, BLOCK_D): fp32 (ROWS,), 0 where nothing is read. `item`: int64 (ROWS,)."""
    vector = read_rows(vectors, item * dim, reading, dim, BLOCK_D)
    bias = tl.load(biases + item, mask=reading, other=0.0).to(tl.float32)
    return tl.sum(state * vector, axis=1) + bias


@triton.jit(do_not_specialize=LOSS_SCALARS)
def sequence_loss_kernel(
    partials,
    chosen,
    coefficients,
    states,
    vectors,
    biases,
    positives,
    negatives,
    mask,
    sequence_stride: tl.int64,
    step_stride: tl.int64,
    slot_stride: tl.int64,
    negative_sequence_stride: tl.int64,
    negative_step_stride: tl.int64,
    positions: tl.int64,
    length: tl.int32,
    slots: tl.int32,
    dim: tl.int32,
    LOSS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Scores, losses and their derivatives. A program owns `ROWS` consecutive positions, and its pair of partial sums.

    partials -> (2, programs) fp32, sums of weighted losses and of weights. chosen -> (P,), the negative with the
    highest score. coefficients -> (2, P) fp32, weighted derivatives in the scores of the positive and of the chosen.
    states -> (B, L, dim) fp32 or bf16, by strides. vectors -> (I, dim), biases -> (I,), fp32 or bf16.
    positives -> (P,), negatives -> (slots, B, L), by strides, integers. mask -> (P,), any type; where it is 0, neither
    states nor tables are read.
    """
    program = tl.program_id(0)
    position, sequence, step, exists = places(program, positions, length, ROWS)
    weight = tl.load(mask + position, mask=exists, other=0).to(tl.float32)
    reading = weight != 0
    state = read_rows(states, sequence * sequence_stride + step * step_stride, reading, dim, BLOCK_D)
    item = tl.load(positives + position, mask=exists, other=0).to(tl.int64)
    positive = score_items(state, vectors, biases, item, reading, dim, BLOCK_D)
    negative_of = negatives + sequence * negative_sequence_stride + step * negative_step_stride
    best = tl.load(negative_of, mask=exists, other=0).to(tl.int64)
    highest = score_items(state, vectors, biases, best, reading, dim, BLOCK_D)
    for slot in range(1, slots):
        item = tl.load(negative_of + slot * slot_stride, mask=exists, other=0).to(tl.int64)
        score = score_items(state, vectors, biases, item, reading, dim, BLOCK_D)
        highest, best = hardest(highest, best, score, item)
    value, of_positive, of_negative = of_ranking(positive, highest, LOSS)
    tl.store(chosen + position, best, mask=exists)
    tl.store(coefficients + position, weight * of_positive, mask=exists)
    tl.store(coefficients + positions + position, weight * of_negative, mask=exists)
    tl.store(partials + program, tl.sum(weight * value, axis=0))
    tl.store(partials + tl.num_programs(0) + program, tl.sum(weight, axis=0))


@triton.jit(do_not_specialize=["count"])
def mean_kernel(mean, total, partials, count: tl.int32, LANES: tl.constexpr):
    """One program: the mean of partial sums, added in a fixed order in 64 bits.

    partials -> (2, count) fp32, sums of weighted losses and of weights. mean -> fp32, 0 without weights. total -> fp32,
    the sum of weights, 1 in place of 0.
    """
    losses = tl.zeros([LANES], tl.float64)
    weights = tl.zeros([LANES], tl.float64)
    for first in range(0, count, LANES):
        lane = first + tl.arange(0, LANES)
        losses += tl.load(partials + lane, mask=lane < count, other=0.0)
        weights += tl.load(partials + count + lane, mask=lane < count, other=0.0)
    weight = tl.sum(weights, axis=0)
    weight = tl.where(weight == 0, 1.0, weight)
    tl.store(mean, (tl.sum(losses, axis=0) / weight).to(tl.float32))
    tl.store(total, weight.to(tl.float32))


@triton.jit(do_not_specialize=GRADIENT_SCALARS)
def sequence_gradient_kernel(
    of_states,
    of_vectors,
    of_biases,
    upstream,
    total,
    states,
    vectors,
    positives,
    chosen,
    coefficients,
    sequence_stride: tl.int64,
    step_stride: tl.int64,
    positions: tl.int64,
    length: tl.int32,
    dim: tl.int32,
    ROWS: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Gradients of the mean loss, times `upstream`. A program owns `ROWS` consecutive positions, and all their rows.

    of_states -> (P, dim). of_vectors -> (2, P, dim), of_biases -> (2, P): rows for the positives, then for the chosen
    negatives. upstream, total -> fp32. The others as in `sequence_loss_kernel`. Item rows are read where their
    derivative is not 0.
    """
    position, sequence, step, exists = places(tl.program_id(0), positions, length, ROWS)
    scale = tl.load(upstream).to(tl.float32) / tl.load(total)
    of_positive = scale * tl.load(coefficients + position, mask=exists, other=0.0)
    of_negative = scale * tl.load(coefficients + positions + position, mask=exists, other=0.0)
    tl.store(of_biases + position, of_positive, mask=exists)
    tl.store(of_biases + positions + position, of_negative, mask=exists)

    reading = (of_positive != 0) | (of_negative != 0)
    state = read_rows(states, sequence * sequence_stride + step * step_stride, reading, dim, BLOCK_D)
    store_rows(of_vectors, position, of_positive[:, None] * state, exists, dim, BLOCK_D)
    store_rows(of_vectors, positions + position, of_negative[:, None] * state, exists, dim, BLOCK_D)

    item = tl.load(positives + position, mask=exists, other=0).to(tl.int64)
    gradient = of_positive[:, None] * read_rows(vectors, item * dim, of_positive != 0, dim, BLOCK_D)
    item = tl.load(chosen + position, mask=exists, other=0).to(tl.int64)
    gradient += of_negative[:, None] * read_rows(vectors, item * dim, of_negative != 0, dim, BLOCK_D)
    store_rows(of_states, position, gradient, exists, dim, BLOCK_D)


def forward(
    steps: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor,
    loss: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean loss, the chosen negatives (B, L), coefficients (2, B, L), and sum(mask), or 1 in place of 0.

    Steps are states of shape (B, L, D), D contiguous; the other arguments are as in `spotfast.ops.sequence_loss`.
    """
    B, L, D = steps.shape
    steps, negatives = aligned(steps), aligned(negatives)
    rows, block = tile(D, TILE)
    programs = triton.cdiv(B * L, rows)
    partials = torch.empty((2, programs), dtype=torch.float32, device=steps.device)
    chosen = torch.empty((B, L), dtype=negatives.dtype, device=steps.device)
    coefficients = torch.empty((2, B, L), dtype=torch.float32, device=steps.device)
    launch(
        sequence_loss_kernel, (programs,),
        partials, chosen, coefficients, steps, item_vectors.contiguous(), item_biases.contiguous(),
        packed(positives), negatives, packed(mask),
        steps.stride(0), steps.stride(1), *negatives.stride(), B * L, L, len(negatives), D,
        LOSS="hinge" if loss == "adaptive_hinge" else loss, ROWS=rows, BLOCK_D=block,
    )  # fmt: skip
    mean, total = (torch.empty((), dtype=torch.float32, device=steps.device) for _ in range(2))
    launch(mean_kernel, (1,), mean, total, partials, programs, LANES=LANES)
    return mean, chosen, coefficients, total


def backward(
    upstream: Tensor,
    total: Tensor,
    steps: Tensor,
    item_vectors: Tensor,
    positives: Tensor,
    chosen: Tensor,
    coefficients: Tensor,
    rows_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of steps (B, L, D), of item rows (2 B L, D), of type `rows_dtype`, and of biases (2 B L, 1).

    `upstream` is the gradient of the mean loss, a scalar; the other tensors are those that `forward` took and returned.
    """
    B, L, D = steps.shape
    steps = aligned(steps)
    rows, block = tile(D, TILE)
    of_steps = torch.empty((B, L, D), dtype=steps.dtype, device=steps.device)
    of_vectors = torch.empty((2 * B * L, D), dtype=rows_dtype, device=steps.device)
    of_biases = torch.empty((2 * B * L, 1), dtype=torch.float32, device=steps.device)
    launch(
        sequence_gradient_kernel, (triton.cdiv(B * L, rows),),
        of_steps, of_vectors, of_biases, packed(upstream), total, steps, item_vectors.contiguous(),
        packed(positives), chosen, coefficients, steps.stride(0), steps.stride(1), B * L, L, D,
        ROWS=rows, BLOCK_D=block,
    )  # fmt: skip
    return of_steps, of_vectors, of_biases


def specialisations(dtype: str, dim: int) -> list[Specialisation]:
    """Return what ships for states and tables of one type, and D up to `dim`.

    Gradients of item rows are of the table's type if they are sparse, else of the type in which they are summed.
    """
    rows, block = tile(dim, TILE)
    constants = {"ROWS": rows, "BLOCK_D": block}
    floats = dict.fromkeys(("states", "vectors"), dtype) | {"coefficients": "*fp32"}
    ids = dict.fromkeys(("positives", "chosen"), "*i64")
    inputs = floats | ids | {"partials": "*fp32", "biases": dtype, "negatives": "*i64", "mask": "*i1"}
    outputs = {"of_states": dtype, "of_biases": "*fp32", "upstream": "*fp32", "total": "*fp32"}
    losses = [
        Specialisation(sequence_loss_kernel, inputs, constants | {"LOSS": loss})
        for loss in ("pointwise", "bpr", "hinge")
    ]
    gradients = [
        Specialisation(sequence_gradient_kernel, floats | ids | outputs | {"of_vectors": of_vectors}, constants)
        for of_vectors in dict.fromkeys(("*fp32", dtype))
    ]
    return [*losses, *gradients]


SPECIALISATIONS = [
    Specialisation(mean_kernel, dict.fromkeys(("mean", "total", "partials"), "*fp32"), {"LANES": LANES}),
    *(each for dim in (32, 64, 128) for each in specialisations("*fp32", dim)),
    *specialisations("*bf16", 64),
]
