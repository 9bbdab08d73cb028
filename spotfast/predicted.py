"""What `predict` takes and hands out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spotfast import validation


def flat_ids(name: str, ids: Any, size: int, size_name: str) -> NDArray[np.integer[Any]]:
    """Return ids that are to be predicted, an integer or an array of shape (n,) or (n, 1), as an array of shape (n,).

    Raises:
        ValueError, TypeError: naming the argument, unless there is at least one integer and all are in [0, size).
    """
    array = validation.as_integers(name, ids)
    if array.ndim > 2 or (array.ndim == 2 and array.shape[1] != 1):
        raise ValueError(f"{name} must be an integer or an array of shape (n,) or (n, 1), got shape {array.shape}")
    array = array.reshape(-1)
    if len(array) == 0:
        raise ValueError(f"{name} must not be empty, got shape {array.shape}")
    validation.check_id_range(name, array, size, size_name)
    return array


def fresh_array(scores: Tensor, name: Callable[[int], str]) -> NDArray[np.float32]:
    """Return scores as a new float32 array that shares no memory with the tensor.

    Args:
        scores: of any shape, not empty.
        name: whose score is at a position of the flat scores, for messages.

    Raises:
        ValueError: for scores that are NaN, naming the first.
    """
    predictions = np.array(scores.cpu().numpy(), np.float32)
    if np.isnan(predictions.max()):  # which is NaN if any is: one pass, and no memory
        first = int(np.isnan(predictions).argmax())
        raise ValueError(f"the prediction {name(first)} is NaN: the network's parameters are out of hand")
    return predictions
