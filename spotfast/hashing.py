"""MurmurHash3 of integers, as Spotlight computes it (there through scikit-learn, which is not worth a dependency)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def murmurhash3_32(ids: NDArray[np.integer[Any]], seed: int) -> NDArray[np.uint32]:
    """Hash each id, taken as the four bytes of an int32, with MurmurHash3_x86_32.

    Args:
        ids: integers of any shape that fit int32.
        seed: an integer in [0, 2**32).

    Returns:
        uint32 array of the same shape. `.view(np.int32)` gives the signed variant.

    Example:
        >>> int(murmurhash3_32(np.array([0]), 42)[0])
        933211791
    """
    with np.errstate(over="ignore"):
        k = ids.astype(np.int32).view(np.uint32) * np.uint32(0xCC9E2D51)
        k = (k << np.uint32(15) | k >> np.uint32(17)) * np.uint32(0x1B873593)
        h = np.uint32(seed) ^ k
        h = (h << np.uint32(13) | h >> np.uint32(19)) * np.uint32(5) + np.uint32(0xE6546B64)
        h ^= np.uint32(4)  # the number of bytes hashed
        h = (h ^ h >> np.uint32(16)) * np.uint32(0x85EBCA6B)
        h = (h ^ h >> np.uint32(13)) * np.uint32(0xC2B2AE35)
        return h ^ h >> np.uint32(16)
