"""Small helpers around tensors that Spotlight's users import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from spotfast import validation
from spotfast.seeding import RandomStateLike, as_random_state


def gpu(tensor: torch.Tensor, gpu: bool = False) -> torch.Tensor:
    """Return the tensor (or module) on the GPU if `gpu`, else as it is."""
    return tensor.cuda() if gpu else tensor


def cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor (or module) on the CPU."""
    return tensor.cpu()


def minibatch(*tensors: Any, batch_size: int = 128) -> Iterator[Any]:
    """Iterate over consecutive slices of `batch_size` rows; the last one may be shorter.

    Args:
        *tensors: arrays or tensors of equal length.
        batch_size: rows per slice, at least 1.

    Yields:
        Slices for one tensor, tuples of slices for several.

    Example:
        >>> [list(rows) for rows in minibatch([1, 2, 3], batch_size=2)]
        [[1, 2], [3]]
    """
    batch_size = validation.integer("batch_size", batch_size, 1)
    _check_lengths(tensors)
    for start in range(0, len(tensors[0]), batch_size):
        slices = tuple(tensor[start : start + batch_size] for tensor in tensors)
        yield slices[0] if len(slices) == 1 else slices


def shuffle(*arrays: Any, random_state: RandomStateLike = None) -> Any:
    """Return the arrays, all in the same random order.

    Args:
        *arrays: arrays of equal length.
        random_state: None, int, `RandomState` or `Generator`; the same `RandomState` gives Spotlight's order.

    Returns:
        An array for one argument, a tuple for several.

    Raises:
        ValueError: if the lengths differ.
    """
    _check_lengths(arrays)
    order = np.arange(len(arrays[0]))
    as_random_state(random_state).shuffle(order)
    return arrays[0][order] if len(arrays) == 1 else tuple(array[order] for array in arrays)


def assert_no_grad(tensor: torch.Tensor) -> None:
    """Raise ValueError if the tensor requires a gradient: it is data, and nothing would come of the gradient."""
    if tensor.requires_grad:
        raise ValueError("observed ratings must not require grad, got a tensor with requires_grad=True")


def set_seed(seed: int, cuda: bool = False) -> None:
    """Seed torch's global generator, and those of all GPUs with `cuda`: the one function here that touches them."""
    torch.manual_seed(seed)
    if cuda:
        torch.cuda.manual_seed_all(seed)


def _check_lengths(arrays: tuple[Any, ...]) -> None:
    if not arrays:
        raise ValueError("at least one array is needed, got none")
    lengths = [len(array) for array in arrays]
    if len(set(lengths)) > 1:
        raise ValueError(f"all arrays must have the same length, got {lengths}")
