"""The best k items in rows of scores, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.rows import Rows


def topk(scores: NDArray[Any], k: int, excluded: Rows) -> NDArray[np.int64]:
    """Ids by descending score, of equal scores the lower id first; -1 where there are fewer than k."""
    best = np.full((len(scores), k), -1, np.int64)
    for user, row in enumerate(scores):
        order = np.argsort(-row, kind="stable")
        kept = order[~np.isin(order, excluded.items[excluded.indptr[user] : excluded.indptr[user + 1]])][:k]
        best[user, : len(kept)] = kept
    return best
