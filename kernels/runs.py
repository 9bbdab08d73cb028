"""Runs of equal keys: the gradients of one row, wherever they are in a batch, summed in a fixed order.

Entries are sorted by their key, in order where keys are equal. A run, the entries of one key, belongs to one program.
If it has more than PIECE entries, other programs sum its pieces of PIECE entries each before, so that a popular row
does not keep a program waiting: what is left to sum is one row of scratch per piece.

A run that begins at the sorted entry s has its pieces at the places s // HALF, s // HALF + 1, .. in the scratch, which
no other run's can reach: L > PIECE entries have ceil(L / PIECE) pieces, which is at most floor(L / HALF).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch
from spotfast.kernels.rows import width
from spotfast.kernels.specialisation import Specialisation

PIECE = tl.constexpr(32)
HALF = tl.constexpr(16)
TOGETHER = tl.constexpr(8)  # entries of a piece that are loaded side by side
LANES = 256  # sorted entries per program


class Runs(NamedTuple):
    """Runs of equal keys among E entries, on the device.

    Attributes:
        order: (E,) int32, the entries sorted by key.
        run_of: (E,) int32, the run of each sorted entry, counted from 0; the last one tells how many there are.
        starts: (E + 1,) int32, where each run begins among the sorted entries, then E; beyond that, uninitialised.
        keys: (E,) int64, the key of each run; beyond, uninitialised.
    """

    order: Tensor
    run_of: Tensor
    starts: Tensor
    keys: Tensor


@triton.jit
def piece_at(place, run_of, starts, entries):
    """The sorted entries [begin, end) of the piece at a place in the scratch, int32; `begin == end` if there is none.

    The run that has a place is the one of the last of the HALF entries there, if any has it.
    """
    run = tl.load(run_of + tl.minimum(place * HALF + (HALF - 1), entries - 1))
    start = tl.load(starts + run)
    stop = tl.load(starts + run + 1)
    begin = start + (place - start // HALF) * PIECE
    exists = (stop - start > PIECE) & (begin < stop)
    return begin, tl.where(exists, tl.minimum(begin + PIECE, stop), begin)


@triton.jit
def summands_of(run, runs, starts):
    """What is left to sum of runs, int32 (ROWS,), of which there are `runs`: (begin, count, in_pieces).

    Sorted entries if not `in_pieces`, otherwise rows of the scratch. None of runs that do not exist.
    """
    start = tl.load(starts + run, mask=run < runs, other=0)
    length = tl.load(starts + run + 1, mask=run < runs, other=0) - start
    in_pieces = length > PIECE
    begin = tl.where(in_pieces, start // HALF, start)
    return begin, tl.where(in_pieces, (length + (PIECE - 1)) // PIECE, length), in_pieces


@triton.jit(do_not_specialize=["entries"])
def runs_kernel(order, starts, keys, sorted_keys, sorted_order, run_of, entries: tl.int64, LANES: tl.constexpr):
    """Write where runs begin, and their keys; and the order, in 32 bits.

    order, run_of -> (entries,) int32. starts -> (entries + 1,) int32. keys, sorted_keys, sorted_order -> (entries,)
    int64. A program owns `LANES` sorted entries, and the runs that begin there.
    """
    entry = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    inside = entry < entries
    tl.store(order + entry, tl.load(sorted_order + entry, mask=inside, other=0).to(tl.int32), mask=inside)
    run = tl.load(run_of + entry, mask=inside, other=0)
    key = tl.load(sorted_keys + entry, mask=inside, other=0)
    begins = inside & ((entry == 0) | (run != tl.load(run_of + entry - 1, mask=inside & (entry > 0), other=-1)))
    tl.store(starts + run, entry.to(tl.int32), mask=begins)
    tl.store(keys + run, key, mask=begins)
    tl.store(starts + run + 1, entry.to(tl.int32) + 1, mask=entry == entries - 1)


@triton.jit(do_not_specialize=["entries", "dim"])
def sum_pieces_kernel(
    scratch,
    gradients,
    order,
    run_of,
    starts,
    entries: tl.int64,
    dim: tl.int32,
    BLOCK_D: tl.constexpr,
):
    """Sum the gradients of each piece.

    scratch -> (places(entries), dim) fp32. gradients -> (entries, dim) fp32 or bf16. The others as in `Runs`. A program
    owns one place of the scratch, which it leaves alone if no piece is there.
    """
    place = tl.program_id(0)
    begin, end = piece_at(place, run_of, starts, entries.to(tl.int32))
    if begin < end:
        column = tl.arange(0, BLOCK_D)
        total = tl.zeros((BLOCK_D,), tl.float32)
        for i in tl.static_range(0, PIECE, TOGETHER):
            sorted_entry = begin + i + tl.arange(0, TOGETHER)
            entry = tl.load(order + sorted_entry, mask=sorted_entry < end, other=0).to(tl.int64)
            inside = (sorted_entry < end)[:, None] & (column < dim)[None, :]
            gradient = tl.load(gradients + entry[:, None] * dim + column[None, :], mask=inside, other=0.0)
            total += tl.sum(gradient.to(tl.float32), axis=0)
        tl.store(scratch + place.to(tl.int64) * dim + column, total, mask=column < dim)


def places(entries: int) -> int:
    """Return how many rows the scratch for pieces has."""
    return entries // HALF.value + 1


def find(sorted_keys: Tensor, sorted_order: Tensor) -> Runs:
    """Find the runs among entries that are sorted.

    Args:
        sorted_keys: (E,) int64, ascending, E at least 1 and less than 2**31.
        sorted_order: (E,) int64, which entries these are.
    """
    entries = len(sorted_keys)
    device = sorted_keys.device
    run_of = torch.zeros(entries, dtype=torch.int32, device=device)
    torch.cumsum(sorted_keys[1:] != sorted_keys[:-1], 0, dtype=torch.int32, out=run_of[1:])
    runs = Runs(
        order=torch.empty(entries, dtype=torch.int32, device=device),
        run_of=run_of,
        starts=torch.empty(entries + 1, dtype=torch.int32, device=device),
        keys=torch.empty(entries, dtype=torch.int64, device=device),
    )
    launch(
        runs_kernel, (triton.cdiv(entries, LANES),),
        runs.order, runs.starts, runs.keys, sorted_keys, sorted_order, run_of, entries,
        LANES=LANES,
    )  # fmt: skip
    return runs


def of(keys: Tensor) -> Runs:
    """Find the runs of keys, (E,) int64, E at least 1 and less than 2**31."""
    return find(*torch.sort(keys, stable=True))


def sum_pieces(gradients: Tensor, runs: Runs) -> Tensor:
    """Return the scratch with the sums of the pieces of `gradients`, (E, D)."""
    entries, dim = gradients.shape
    scratch = torch.empty((places(entries), dim), dtype=torch.float32, device=gradients.device)
    columns = width(dim)
    launch(
        sum_pieces_kernel, (places(entries),),
        scratch, gradients, runs.order, runs.run_of, runs.starts, entries, dim,
        num_warps=warps(columns), BLOCK_D=columns,
    )  # fmt: skip
    return scratch


def warps(columns: int) -> int:
    """Return how many warps a program of `sum_pieces_kernel` has: 16 numbers per thread, at most."""
    return max(1, columns // 64)


_RUNS = {"order": "*i32", "run_of": "*i32", "starts": "*i32"}

SPECIALISATIONS = [
    Specialisation(
        runs_kernel, {**_RUNS, "keys": "*i64", "sorted_keys": "*i64", "sorted_order": "*i64"}, {"LANES": LANES}
    ),
    *(
        Specialisation(
            sum_pieces_kernel,
            {**_RUNS, "scratch": "*fp32", "gradients": dtype},
            {"BLOCK_D": columns},
            num_warps=warps(columns),
        )
        for dtype, columns in (("*fp32", 32), ("*fp32", 64), ("*fp32", 128), ("*bf16", 64))
    ),
]
