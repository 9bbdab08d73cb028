"""The order in which an epoch visits the interactions: no memory, and the same on every engine."""

from __future__ import annotations

import torch
from torch import Tensor

from spotfast import backends, validation
from spotfast.ops.philox import check_range, check_stream
from spotfast.reference import permutation as reference

MAX_N = 2**62


def permutation(
    seed: int,
    epoch: int,
    n: int,
    start: int = 0,
    stop: int | None = None,
    *,
    device: torch.device | str = "cpu",
    backend: str = "auto",
) -> Tensor:
    """Indices at the positions [start, stop) of a random order of [0, n).

    A bijection on [0, n) by an unbalanced Feistel network (Luby and Rackoff 1988) over the smallest power of two
    that holds n, keyed by the random stream, with cycle walking (Black and Rogaway 2002).

    Args:
        seed: an integer in [0, 2**64).
        epoch: an integer in [0, 2**32), counted across calls of `fit`.
        n: how many there are, in [1, 2**62].
        start: the first position.
        stop: the end, at most n. Default: n.
        device: where the result is made.
        backend: "auto", "native", "triton" or "reference".

    Returns:
        int64 tensor of shape (stop - start,), values in [0, n).

    Raises:
        ValueError: for a value out of range, naming it.

    Example:
        >>> permutation(seed=1, epoch=0, n=5).sort().values.tolist()
        [0, 1, 2, 3, 4]
    """
    check_stream(seed, epoch)
    validation.integer("n", n, 1, MAX_N)
    stop = n if stop is None else stop
    check_range(start, stop, n)
    device = torch.device(device)
    chosen = backends.choose("permutation", device, backend)
    if chosen == "native":
        order = backends.native().permutation(seed, epoch, n, start, stop - start, backends.num_threads())
        return torch.from_numpy(order)
    if chosen == "triton":
        from spotfast.kernels import permutation as kernels

        with backends.FallingBack("permutation", backend):
            return kernels.permutation(seed, epoch, n, start, stop, device)
    return reference.permutation(seed, epoch, n, start, stop, device)
