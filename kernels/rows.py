"""Rows of contiguous tables, as blocks in registers: what all kernels read and write that hold whole rows."""

from spotfast.kernels.language import tl, triton
from spotfast.kernels.specialisation import Specialisation

NARROWEST = 32  # columns of a block: what a warp reads at once; the fewer widths, the fewer kernels wheels carry


@triton.jit
def load_rows(table, row, reading, dim, BLOCK_D: tl.constexpr):
    """Rows of a contiguous table with `dim` columns, int64 (ROWS,): fp32 (ROWS, BLOCK_D), 0 where nothing is read."""
    column = tl.arange(0, BLOCK_D)
    place = row[:, None] * dim + column[None, :]
    return tl.load(table + place, mask=reading[:, None] & (column < dim)[None, :], other=0.0).to(tl.float32)


@triton.jit
def store_rows(table, row, value, writing, dim, BLOCK_D: tl.constexpr):
    """Write `value`, (ROWS, BLOCK_D), to rows, int64 (ROWS,), of a contiguous table with `dim` columns."""
    column = tl.arange(0, BLOCK_D)
    place = row[:, None] * dim + column[None, :]
    tl.store(table + place, value, mask=writing[:, None] & (column < dim)[None, :])


def width(dim: int) -> int:
    """Return how many columns a block of rows with `dim` numbers has."""
    return max(NARROWEST, triton.next_power_of_2(dim))


def tile(dim: int, numbers: int) -> tuple[int, int]:
    """Return how many rows and columns a block of about as many numbers has."""
    columns = width(dim)
    return max(1, numbers // columns), columns


SPECIALISATIONS: list[Specialisation] = []  # no kernels: what calls these functions lists its own
