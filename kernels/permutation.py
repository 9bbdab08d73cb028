"""The epoch's order (see `spotfast.ops.permutation`): an unbalanced Feistel network with cycle walking."""

import torch
from torch import Tensor

from spotfast.kernels.language import tl, triton
from spotfast.kernels.launch import launch
from spotfast.kernels.philox import words
from spotfast.kernels.specialisation import Specialisation

PERMUTATION = tl.constexpr(1 << 16)  # the stream, attempt 0
LANES = 256  # positions per program, 2 per thread: it walks until the last of them has arrived
FEW_ROUNDS, MANY_ROUNDS = 6, 16  # a small order has fewer bits to mix
SCALARS = ["seed", "epoch", "n", "start", "count", "left_bits", "right_bits"]


@triton.jit
def feistel(half, other, key, mask):
    """One round: `half` plus a hash of the other half and the key, all uint32, modulo 2**32, under the mask.

    Written in 64 bits, which the compiler narrows: 32 would trip triton's overflow checks in debug mode.
    """
    h = (other.to(tl.uint64) + key).to(tl.uint32)
    h = (h.to(tl.uint64) * 0x9E3779B1).to(tl.uint32)
    h = ((h ^ (h >> 15)).to(tl.uint64) * 0x85EBCA77).to(tl.uint32)
    return (half.to(tl.uint64) + (h ^ (h >> 13))).to(tl.uint32) & mask


@triton.jit
def network(x, seed, epoch, left_bits, right_bits, ROUNDS: tl.constexpr):
    """A bijection on [0, 2**(left_bits + right_bits)), int64. ROUNDS is even, both halves have at most 31 bits.

    Two rounds at a time: then each half is back on its side, with its own number of bits.
    """
    one = tl.cast(1, tl.uint32)
    left_mask = (one << left_bits.to(tl.uint32)) - 1
    right_mask = (one << right_bits.to(tl.uint32)) - 1
    left = (x >> right_bits).to(tl.uint32)
    right = x.to(tl.uint32) & right_mask
    for first in tl.static_range(0, ROUNDS, 4):
        k0, k1, k2, k3 = words(seed, epoch, PERMUTATION, first // 4)
        left = feistel(left, right, k0, left_mask)
        right = feistel(right, left, k1, right_mask)
        if first + 2 < ROUNDS:
            left = feistel(left, right, k2, left_mask)
            right = feistel(right, left, k3, right_mask)
    return (left.to(tl.int64) << right_bits) | right.to(tl.int64)


@triton.jit
def permute(position, seed, epoch, n, left_bits, right_bits, ROUNDS: tl.constexpr):
    """The indices at a block of positions, int64. Scalars as `halves` returns them.

    Values beyond n are sent through again. From a position in [0, n) that ends, from others it need not: positions
    from n on are taken for n - 1, so lanes to be ignored may hold anything >= 0.
    """
    x = network(tl.minimum(position, n - 1), seed, epoch, left_bits, right_bits, ROUNDS)
    while tl.max(x) >= n:
        x = tl.where(x >= n, network(x, seed, epoch, left_bits, right_bits, ROUNDS), x)
    return x


@triton.jit(do_not_specialize=SCALARS)
def permutation_kernel(
    out,
    seed: tl.uint64,
    epoch: tl.uint32,
    n: tl.int64,
    start: tl.int64,
    count: tl.int64,
    left_bits: tl.int32,
    right_bits: tl.int32,
    ROUNDS: tl.constexpr,
    LANES: tl.constexpr,
):
    """Indices at the positions [start, start + count) of the order of [0, n).

    out -> (count,) int64. A program owns `LANES` consecutive positions.
    """
    place = tl.program_id(0).to(tl.int64) * LANES + tl.arange(0, LANES)
    index = permute(start + place, seed, epoch, n, left_bits, right_bits, ROUNDS)
    tl.store(out + place, index, mask=place < count)


def permutation(seed: int, epoch: int, n: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Indices at the positions [start, stop) of the order of [0, n)."""
    count = stop - start
    out = torch.empty(count, dtype=torch.int64, device=device)
    if count:
        left_bits, right_bits, rounds = halves(n)
        launch(
            permutation_kernel, (triton.cdiv(count, LANES),),
            out, seed, epoch, n, start, count, left_bits, right_bits,
            ROUNDS=rounds, LANES=LANES,
        )  # fmt: skip
    return out


def halves(n: int) -> tuple[int, int, int]:
    """Return the bits of the left and of the right half of the network for [0, n), and the number of rounds."""
    bits = max(2, (n - 1).bit_length())
    return bits // 2, bits - bits // 2, FEW_ROUNDS if n >= 1024 else MANY_ROUNDS


SPECIALISATIONS = [
    Specialisation(permutation_kernel, {"out": "*i64"}, {"ROUNDS": rounds, "LANES": LANES})
    for rounds in (FEW_ROUNDS, MANY_ROUNDS)
]
