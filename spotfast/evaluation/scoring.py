"""What is asked of models that are to be evaluated, and of their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard, TypeVar

import numpy as np
from numpy.typing import NDArray

from spotfast.factorization.model import FactorizationModel
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.vector_tables import exposes_vectors

AnyModel = TypeVar("AnyModel", FactorizationModel, ImplicitSequenceModel)

BLOCK_BYTES = 8 << 20  # rows in work at a time: written by one kernel and read by the next while still in cache


def rows_in_block(row_bytes: int, at_once: int) -> int:
    """Return how many rows of scores are in work at a time, at most `at_once`."""
    return min(at_once, max(1, BLOCK_BYTES // row_bytes))


def score_bytes(rows: int, num_items: int, own: bool) -> int:
    """Return the memory for so many rows of scores.

    Our own models have one float32 buffer, and what predictions are before their last step. Of predictions by anyone
    else, float64 at most, there are the rows, the block that they become, and the block before it.
    """
    return rows * num_items * (2 * 4 if own else 3 * 8)


def check_of_users(model: Any, method: str) -> None:
    """Raise unless the model can be asked about users.

    Args:
        model: what was passed.
        method: how it is asked, as "predict(user)", for the message.

    Raises:
        TypeError: if it has neither `predict` nor vectors, or predicts from sequences.
    """
    if isinstance(model, ImplicitSequenceModel):
        raise TypeError(
            f"model must be one of users, got {type(model).__name__}, which predicts from sequences: "
            "use sequence_mrr_score or sequence_precision_recall_score"
        )
    if not hasattr(model, "predict") and not exposes_vectors(model):
        raise TypeError(
            f"model must have a method {method}, or user_vectors() and item_vectors(), got {type(model).__name__}"
        )


def has_own_predict(model: Any, kind: type[AnyModel]) -> TypeGuard[AnyModel]:
    """Tell whether `predict` is that of `kind`, so that whole blocks can be computed at once with the same bits."""
    return isinstance(model, kind) and type(model).predict is kind.predict and "predict" not in vars(model)


def check_not_nan(scores: NDArray[Any], of: str, numbers: Sequence[int] | NDArray[np.int64]) -> None:
    """Raise for NaN in rows of scores.

    Args:
        scores: (U, I).
        of: what rows are predicted from, as "of user", for the message.
        numbers: (U,) which one each row is predicted from.
    """
    # A sum is the quickest look at a row. It may be NaN for infinities of both signs, which are scores like others.
    with np.errstate(invalid="ignore", over="ignore"):
        suspects = np.flatnonzero(np.isnan(scores.sum(axis=1)))
    for row in suspects.tolist():
        items = np.flatnonzero(np.isnan(scores[row]))
        if len(items):
            raise ValueError(f"the prediction {of} {numbers[row]} for item {items[0]} is NaN: it cannot be ranked")
