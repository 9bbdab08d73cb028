"""How many items stand above target items, and how many beside them, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast.rows import Rows


def rank_counts(
    scores: NDArray[Any],
    targets: Rows,
    excluded: Rows,
    above: NDArray[np.int64],
    equal: NDArray[np.int64],
    before: NDArray[np.int64],
) -> None:
    """Count higher scores, equal ones, and equal ones of lower ids; excluded items tie behind all others."""
    for user, row in enumerate(scores):
        begin, end = targets.indptr[user : user + 2]
        out = np.zeros(len(row), bool)
        out[excluded.items[excluded.indptr[user] : excluded.indptr[user + 1]]] = True
        for t in range(begin, end):
            item = targets.items[t]
            same = out if out[item] else ~out & (row == row[item])
            above[t] = (~out).sum() if out[item] else (~out & (row > row[item])).sum()
            equal[t] = same.sum()
            before[t] = same[:item].sum()
