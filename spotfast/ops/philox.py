"""The random stream that all engines share: counter-based, so any draw can be computed on its own, anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.reference import philox as reference

# Streams keep the purposes of one seed apart.
INITIAL, PERMUTATION, NEGATIVES, ROUNDING = 0, 1, 2, 3

MAX_SEED = 2**64 - 1
MAX_EPOCH = 2**32 - 1
MAX_DRAWS = 2**62  # draw numbers and their counters fit int64


def draws(
    seed: int,
    epoch: int,
    stream: int,
    start: int,
    stop: int,
    *,
    attempt: int = 0,
    device: torch.device | str = "cpu",
    backend: str = "auto",
) -> Tensor:
    """Draws [start, stop) of a stream: 32 random bits each.

    Draw d is word `d & 3` of Philox-4x32-10 (Salmon et al. 2011) with the counters
    `(d >> 2 low, d >> 2 high, epoch, stream << 16 | attempt)` and the key `(seed low, seed high)`.

    Args:
        seed: an integer in [0, 2**64).
        epoch: an integer in [0, 2**32), counted across calls of `fit`.
        stream: what the draws are for, in [0, 2**16): `INITIAL`, `PERMUTATION`, `NEGATIVES` or `ROUNDING`.
        start: the first draw, at least 0.
        stop: the end, at least `start`, at most 2**62.
        attempt: the number of the try, in [0, 2**16).
        device: where the result is made.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        int64 tensor of shape (stop - start,), values in [0, 2**32).

    Raises:
        ValueError: for a value out of range, naming it.

    Example:
        >>> draws(seed=0, epoch=0, stream=0, start=0, stop=3).tolist()
        [1713891541, 3781805453, 3159862348]
    """
    check_stream(seed, epoch)
    validation.integer("stream", stream, 0, 2**16 - 1)
    validation.integer("attempt", attempt, 0, 2**16 - 1)
    check_range(start, stop, MAX_DRAWS)
    device = torch.device(device)
    chosen = backends.choose("philox", device, backend)
    if chosen == "native":
        words = backends.native().draws(seed, epoch, stream, start, stop - start, attempt, backends.num_threads())
        return torch.from_numpy(words.astype("int64"))
    if chosen == "triton":
        from spotfast.kernels import philox as kernels

        with backends.FallingBack("philox", backend):
            return kernels.draws(seed, epoch, stream, start, stop, attempt, device)
    return reference.draws(seed, epoch, stream, start, stop, attempt, device)


def check_stream(seed: int, epoch: int) -> None:
    """Raise unless both are in the range of the counters."""
    validation.integer("seed", seed, 0, MAX_SEED)
    validation.integer("epoch", epoch, 0, MAX_EPOCH)


def check_range(start: int, stop: int, end: int) -> None:
    """Raise unless 0 <= start <= stop <= end."""
    validation.integer("stop", stop, 0, end)
    validation.integer("start", start, 0, stop)
