"""Scores of users for items: what prediction and evaluation share.

The same pair has the same bits whatever else is scored beside it, on every backend: the D products are summed in the
order of the dimensions, each product and each sum rounded on its own. BLAS gives no such promise (its order depends
on shape, alignment and threads), so it is not used here; the C++ kernel is as fast at the sizes in question.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast import backends
from spotfast.reference import scores as reference


def scores(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    *,
    out: Tensor | None = None,
    backend: str = "auto",
) -> Tensor:
    """Scores of all users for all items: `user_vectors @ item_vectors.T + user_biases[:, None] + item_biases`.

    Args:
        user_vectors: float32 tensor of shape (U, D), contiguous.
        user_biases: float32 tensor of shape (U,), or None.
        item_vectors: float32 tensor of shape (I, D), contiguous, on the same device.
        item_biases: float32 tensor of shape (I,), or None.
        out: float32 tensor of shape (U, I), contiguous, to write to. Default: a new one.
        backend: "auto", "native" or "reference".

    Returns:
        float32 tensor of shape (U, I).

    Raises:
        ValueError: for wrong shapes, dtypes or strides.

    Example:
        >>> scores(torch.ones(1, 2), None, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), None)
        tensor([[3., 7.]])
    """
    check_vectors(user_vectors, user_biases, item_vectors, item_biases)
    if out is None:
        shape = len(user_vectors), len(item_vectors)
        out = torch.empty(shape, dtype=torch.float32, device=user_vectors.device)
    if out.shape != (len(user_vectors), len(item_vectors)) or out.dtype != torch.float32 or not out.is_contiguous():
        raise ValueError(
            f"out must be contiguous float32 of shape ({len(user_vectors)}, {len(item_vectors)}), "
            f"got {out.dtype} of shape {tuple(out.shape)}"
        )
    arguments = (user_vectors, user_biases, item_vectors, item_biases)
    if backends.choose("scores", user_vectors.device, backend) == "native":
        backends.native().scores(*map(to_numpy, (*arguments, out)), backends.num_threads())
    else:
        reference.scores(*arguments, out)
    return out


def pair_scores(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    user_index: Tensor,
    item_index: Tensor,
    *,
    backend: str = "auto",
) -> Tensor:
    """Scores of pairs: `scores(...)[user_index, item_index]`, to the bit, without computing the others.

    Args:
        user_vectors: float32 tensor of shape (U, D), contiguous.
        user_biases: float32 tensor of shape (U,), or None.
        item_vectors: float32 tensor of shape (I, D), contiguous, on the same device.
        item_biases: float32 tensor of shape (I,), or None.
        user_index: int64 tensor of shape (P,), values in [0, U).
        item_index: int64 tensor of shape (P,), values in [0, I).
        backend: "auto", "native" or "reference".

    Returns:
        float32 tensor of shape (P,).

    Raises:
        ValueError: for wrong shapes, dtypes or strides.
        IndexError: for an index out of range.
    """
    check_vectors(user_vectors, user_biases, item_vectors, item_biases)
    for name, index, size in (
        ("user_index", user_index, len(user_vectors)),
        ("item_index", item_index, len(item_vectors)),
    ):
        if index.ndim != 1 or index.dtype != torch.int64 or len(index) != len(user_index):
            raise ValueError(f"{name} must be int64 of shape ({len(user_index)},), got {index.dtype} {index.shape}")
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < size:
            raise IndexError(f"{name} must be in [0, {size}), got {int(index.min())} .. {int(index.max())}")
    arguments = (user_vectors, user_biases, item_vectors, item_biases, user_index, item_index)
    if backends.choose("scores", user_vectors.device, backend) == "native":
        pairs = backends.native().pair_scores(*map(to_numpy, arguments), backends.num_threads())
        return torch.from_numpy(pairs)
    return reference.pair_scores(*arguments)


def are_bounded(
    user_vectors: Tensor, user_biases: Tensor | None, item_vectors: Tensor, item_biases: Tensor | None
) -> bool:
    """Tell whether all scores, and all differences of two, are finite: neither NaN nor infinity can arise on the way.

    Arguments as in `scores`.

    Example:
        >>> are_bounded(torch.ones(1, 2), None, torch.tensor([[1.0, torch.nan]]), None)
        False
    """
    most = user_vectors.shape[1] * _largest(user_vectors) * _largest(item_vectors)
    most += sum(_largest(biases) for biases in (user_biases, item_biases) if biases is not None)
    return most < torch.finfo(torch.float32).max / 4  # False for NaN, too


def check_vectors(
    user_vectors: Tensor, user_biases: Tensor | None, item_vectors: Tensor, item_biases: Tensor | None
) -> None:
    """Raise unless vectors and biases have the shapes, dtypes, strides and the device that `scores` takes."""
    _check_side("user", user_vectors, user_biases)
    _check_side("item", item_vectors, item_biases)
    users, items = user_vectors.shape[1], item_vectors.shape[1]
    if users != items:
        raise ValueError(f"user_vectors and item_vectors must have the same dimension, got {users} and {items}")
    device = user_vectors.device
    others = {"user_biases": user_biases, "item_vectors": item_vectors, "item_biases": item_biases}
    for name, tensor in others.items():
        if tensor is not None and tensor.device != device:
            raise ValueError(f"{name} must be on {device}, as user_vectors, got {tensor.device}")


def _check_side(name: str, vectors: Tensor, biases: Tensor | None) -> None:
    if vectors.ndim != 2 or vectors.dtype != torch.float32 or not vectors.is_contiguous():
        raise ValueError(
            f"{name}_vectors must be contiguous float32 of shape (N, D), "
            f"got {vectors.dtype} of shape {tuple(vectors.shape)} and strides {vectors.stride()}"
        )
    if biases is not None and (
        biases.shape != (len(vectors),) or biases.dtype != torch.float32 or not biases.is_contiguous()
    ):
        raise ValueError(
            f"{name}_biases must be contiguous float32 of shape ({len(vectors)},), "
            f"got {biases.dtype} of shape {tuple(biases.shape)}"
        )


def _largest(values: Tensor) -> float:
    if values.numel() == 0:
        return 0.0
    if (
        values.is_cpu and values.dtype == torch.float32
    ):  # torch's threads would go on waiting for work on the cores that the engine is about to use
        array = values.detach().numpy()
        return float(np.maximum(-array.min(), array.max()))  # NaN comes through
    low, high = torch.aminmax(values)
    return torch.maximum(-low, high).item()


def to_numpy(tensor: Tensor | None) -> NDArray[np.float32] | None:
    """Return the tensor's memory as the C++ engine takes it."""
    return None if tensor is None else tensor.contiguous().numpy()
