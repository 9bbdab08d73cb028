"""The random stream (see `spotfast.ops.philox`): Philox-4x32-10, four words per block of counters."""

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch
from spotfast.kernels.specialisation import Specialisation

BLOCKS = 256  # Philox blocks per program: 1024 draws, 8 per thread
SCALARS = ["seed", "epoch", "stream_attempt", "first_block", "skip", "count"]


@triton.jit
def words(seed, epoch, stream_attempt, block):
    """The four words of Philox blocks, each uint32 of the shape of `block`.

    `seed`: 64 bits, uint64 or int64 of the same bits. `epoch`: 32 bits. `stream_attempt`: `stream << 16 | attempt`,
    a scalar or of the shape of `block`. `block`: draw number >> 2, an integer of up to 64 bits.
    """
    block = tl.cast(block, tl.int64)
    low = block.to(tl.uint32)
    high = (block >> 32).to(tl.uint32)
    zero = low ^ low
    return tl.philox(
        tl.cast(seed, tl.uint64),
        low,
        high,
        zero + tl.cast(epoch, tl.uint32),
        zero + tl.cast(stream_attempt, tl.uint32),
    )


@triton.jit
def draw(seed, epoch, stream_attempt, d):
    """32 random bits, uint32, for each draw number in `d`, int64: one Philox block each, as they may be scattered."""
    w0, w1, w2, w3 = words(seed, epoch, stream_attempt, d >> 2)
    odd = (d & 1) != 0
    return tl.where((d & 2) != 0, tl.where(odd, w3, w2), tl.where(odd, w1, w0))


@triton.jit
def draw_range(seed, epoch, stream_attempt, first_block, skip, count, program, BLOCKS: tl.constexpr):
    """The part of program number `program` in `count` consecutive draws, the first of them `4 * first_block + skip`.

    Every Philox block is computed once. Returns, of shape (4 * BLOCKS,): the words, uint32; the place of each in the
    range, int64; and a mask of the places that are in the range.
    """
    program = tl.cast(program, tl.int64)
    block = first_block + program * BLOCKS + tl.arange(0, BLOCKS)
    w0, w1, w2, w3 = words(seed, epoch, stream_attempt, block)
    word = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    place = program * (4 * BLOCKS) + tl.arange(0, 4 * BLOCKS) - skip
    return word, place, (place >= 0) & (place < count)


@triton.jit
def below(word, n):
    """Numbers in [0, n), int64, from 32 random bits each, 1 <= n <= 2**32: the high half of the product."""
    return ((word.to(tl.uint64) * tl.cast(n, tl.uint64)) >> 32).to(tl.int64)


@triton.jit(do_not_specialize=SCALARS)
def draws_kernel(
    out,
    seed: tl.uint64,
    epoch: tl.uint32,
    stream_attempt: tl.uint32,
    first_block: tl.int64,
    skip: tl.int64,
    count: tl.int64,
    BLOCKS: tl.constexpr,
):
    """Draws `4 * first_block + skip` and the `count - 1` that follow.

    out -> (count,) int64. A program owns the draws of `BLOCKS` consecutive Philox blocks.
    """
    word, place, mask = draw_range(
        seed, epoch, stream_attempt, first_block, skip, count, tl.program_id(0), BLOCKS=BLOCKS
    )
    tl.store(out + place, word.to(tl.int64), mask=mask)


def draws(seed: int, epoch: int, stream: int, start: int, stop: int, attempt: int, device: torch.device) -> Tensor:
    """Draws [start, stop) as int64."""
    out = torch.empty(stop - start, dtype=torch.int64, device=device)
    if stop > start:
        first_block, skip, programs = split(start, stop, BLOCKS)
        launch(
            draws_kernel, (programs,),
            out, seed, epoch, stream << 16 | attempt, first_block, skip, stop - start,
            BLOCKS=BLOCKS,
        )  # fmt: skip
    return out


def split(start: int, stop: int, blocks: int) -> tuple[int, int, int]:
    """Return the first Philox block of the draws [start, stop), the draws to skip in it, and the number of programs."""
    first_block = start >> 2
    return first_block, start & 3, triton.cdiv((stop + 3 >> 2) - first_block, blocks)


SPECIALISATIONS = [Specialisation(draws_kernel, {"out": "*i64"}, {"BLOCKS": BLOCKS})]
