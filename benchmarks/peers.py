"""Other libraries that train factorization models in compiled code, as candidates of a benchmark; all are optional."""

from __future__ import annotations

import importlib.util
import time

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from spotfast.interactions import Interactions

PACKAGES = {"implicit": "implicit", "lightfm": "lightfm-next"}  # module -> what to install


def installed(module: str) -> bool:
    """Tell whether a library is there; print that it is not."""
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"{PACKAGES[module]} is not installed (pip install {PACKAGES[module]}): its cases are not judged")
    return found


class Implicit:
    """`implicit`'s BPR: stochastic gradient descent without locks, an interaction at a time; positives are rejected."""

    def __init__(self, data: Interactions, dim: int, threads: int) -> None:
        from implicit.cpu.bpr import BayesianPersonalizedRanking

        self._matrix = _matrix(data).tocsr()
        self._model = BayesianPersonalizedRanking(
            factors=dim,
            learning_rate=0.01,
            regularization=0.0,
            iterations=1,
            num_threads=threads,
            verify_negative_samples=True,
            random_state=0,
        )
        self.seconds: list[float] = []  # of the epochs so far, as the library measures them: preparations left out

    def epoch(self) -> None:
        """Train for an epoch."""

        def record(epoch: int, seconds: float, correct: int, skipped: int) -> None:
            self.seconds.append(seconds)

        self._model.fit(self._matrix, show_progress=False, callback=record)

    def predict(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score pairs."""
        return (self._model.user_factors[users] * self._model.item_factors[items]).sum(1)


class LightFM:
    """`lightfm-next`: Adagrad without locks, an interaction at a time."""

    def __init__(self, data: Interactions, loss: str, dim: int, threads: int) -> None:
        from lightfm import LightFM as Model

        self._matrix = _matrix(data)
        self._threads = threads
        self._model = Model(no_components=dim, loss=loss, learning_rate=0.05, random_state=0)
        self.seconds: list[float] = []

    def epoch(self) -> None:
        """Train for an epoch."""
        started = time.perf_counter()
        self._model.fit_partial(self._matrix, num_threads=self._threads)
        self.seconds.append(time.perf_counter() - started)

    def predict(self, users: NDArray[np.int32], items: NDArray[np.int32]) -> NDArray[np.float32]:
        """Score pairs."""
        return self._model.predict(users, items)


def _matrix(data: Interactions) -> sparse.coo_matrix:
    ones = np.ones(len(data), np.float32)
    return sparse.coo_matrix((ones, (data.user_ids, data.item_ids)), (data.num_users, data.num_items))
