"""The counter-based random stream in int64 tensors. Products wrap modulo 2**64, as unsigned ones do."""

from __future__ import annotations

import torch
from torch import Tensor

M32 = 0xFFFFFFFF


def philox(counters: tuple[Tensor, Tensor, Tensor, Tensor], seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox-4x32-10 of four counters, int64 tensors of one shape that hold 32 bits each."""
    c0, c1, c2, c3 = counters
    k0, k1 = seed & M32, seed >> 32
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32 & M32) ^ c1 ^ k0, p1 & M32, (p0 >> 32 & M32) ^ c3 ^ k1, p0 & M32
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return c0, c1, c2, c3


def draws_at(seed: int, epoch: int, stream: int, numbers: Tensor, attempt: int = 0) -> Tensor:
    """32 random bits for each draw number in an int64 tensor; int64 of the same shape."""
    block = numbers >> 2
    counters = (
        block & M32,
        block >> 32,
        torch.full_like(block, epoch),
        torch.full_like(block, stream << 16 | attempt),
    )
    words = torch.stack(philox(counters, seed), dim=-1)  # [..., 4]
    return words.gather(-1, (numbers & 3).unsqueeze(-1)).squeeze(-1)


def draws(seed: int, epoch: int, stream: int, start: int, stop: int, attempt: int, device: torch.device) -> Tensor:
    """Draws [start, stop) as int64."""
    return draws_at(seed, epoch, stream, torch.arange(start, stop, device=device), attempt)


def below(words: Tensor, n: int | Tensor) -> Tensor:
    """Numbers in [0, n), n <= 2**32: the high half of the product."""
    return words * n >> 32 & M32
