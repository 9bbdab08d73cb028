"""The epoch's order: an unbalanced Feistel network with cycle walking."""

from __future__ import annotations

import torch
from torch import Tensor

from spotfast.reference import philox

PERMUTATION_STREAM = 1


def permutation(seed: int, epoch: int, n: int, start: int, stop: int, device: torch.device) -> Tensor:
    """Indices at the positions [start, stop) of the order of [0, n)."""
    bits = max(2, (n - 1).bit_length())
    rounds = 6 if n >= 1024 else 16
    keys = philox.draws(seed, epoch, PERMUTATION_STREAM, 0, rounds, 0, torch.device("cpu")).tolist()
    index = _network(torch.arange(start, stop, device=device), bits, keys)
    while (walking := index >= n).any():  # values beyond n are sent through again
        index[walking] = _network(index[walking], bits, keys)
    return index


def _network(values: Tensor, bits: int, keys: list[int]) -> Tensor:
    left_bits, right_bits = bits // 2, bits - bits // 2
    left, right = values >> right_bits, values & (1 << right_bits) - 1
    for key in keys:
        h = (right + key & philox.M32) * 0x9E3779B1 & philox.M32
        h = (h ^ h >> 15) * 0x85EBCA77 & philox.M32
        h = h ^ h >> 13
        left, right = right, left + h & (1 << left_bits) - 1
        left_bits, right_bits = right_bits, left_bits
    return left << right_bits | right
