"""What `predict` hands out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


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
