"""Membership in a sorted row of ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spotfast.parallel.runtime import inlined


@inlined
def is_in(items: NDArray[np.int64], item: int) -> bool:
    """Tell whether the ascending ids hold the item."""
    position = np.searchsorted(items, item)
    return bool(position < items.shape[0] and items[position] == item)
