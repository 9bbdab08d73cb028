"""The users of a test set who are evaluated: those with test items, all of them or only some."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spotfast import validation
from spotfast.interactions import Interactions


class TestUsers:
    """Users with test items.

    Args:
        test: `Interactions`, or anything with `.tocsr()`.
        users: the only users to take, in any order, or None for all.

    Attributes:
        test: their interactions only.
        users: int64, ascending.
        num_skipped: how many of those asked for have no test items.

    Raises:
        ValueError: for users beyond the test set.
        TypeError: for a test set without `.tocsr()`.
    """

    __test__ = False  # no class of tests

    def __init__(self, test: Any, users: ArrayLike | None) -> None:
        if not hasattr(test, "tocsr"):
            raise TypeError(f"test must be Interactions or a scipy sparse matrix, got {type(test).__name__}")
        if isinstance(test, Interactions):
            test.check()
            size = test.num_users
        else:
            test = test.tocsr()
            size = test.shape[0]
        asked = size
        if users is not None:
            chosen = np.zeros(size, np.bool_)
            chosen[validation.ids("users", users, size, "the number of users in test")] = True
            asked, test = int(chosen.sum()), _only(test, chosen)
        counts = np.bincount(test.user_ids, minlength=size) if isinstance(test, Interactions) else np.diff(test.indptr)
        self.test, self.users = test, np.flatnonzero(counts)
        self.num_skipped = asked - len(self.users)


def _only(test: Any, chosen: NDArray[np.bool_]) -> Any:
    if isinstance(test, Interactions):
        return test.take(chosen[test.user_ids])
    import scipy.sparse as sp

    kept = np.where(chosen, np.diff(test.indptr), 0)
    within = np.repeat(chosen, np.diff(test.indptr))
    indptr = np.concatenate([[0], np.cumsum(kept)])
    return sp.csr_matrix((test.data[within], test.indices[within], indptr), shape=test.shape)
