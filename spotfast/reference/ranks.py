"""Ranks of target items in rows of scores, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.rows import Rows


def ranks(scores: NDArray[Any], targets: Rows, excluded: Rows) -> NDArray[np.float64]:
    """Average ranks by descending score; excluded items tie behind all others."""
    result = np.empty(len(targets.items))
    for user, row in enumerate(scores):
        begin, end = targets.indptr[user : user + 2]
        out = np.zeros(len(row), bool)
        out[excluded.items[excluded.indptr[user] : excluded.indptr[user + 1]]] = True
        kept = row[~out]
        for t in range(begin, end):
            item = targets.items[t]
            if out[item]:
                result[t] = len(kept) + (out.sum() + 1) / 2
            else:
                result[t] = (kept > row[item]).sum() + ((kept == row[item]).sum() + 1) / 2
    return result
