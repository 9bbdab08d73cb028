"""Rows of predictions, some users at a time: in blocks where the model can, one `predict` per user where not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from spotfast.factorization.model import FactorizationModel
from spotfast.sequence.implicit import ImplicitSequenceModel

AnyModel = TypeVar("AnyModel", FactorizationModel, ImplicitSequenceModel)

BLOCK_BYTES = 8 << 20  # rows in work at a time: written by one kernel and read by the next while still in cache


def score_blocks(
    model: Any, users: NDArray[np.int64], at_once: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    """Predict all items for each user.

    Args:
        model: anything with `predict(user)`, which gives one score per item.
        users: the users, not empty.
        at_once: how many of them at a time, at most.

    Yields:
        Some of the users, in order, and their scores (U, num_items), float32 or float64. The array is reused.

    Raises:
        TypeError: if the model has no `predict` or is one of sequences.
        ValueError: for predictions of different lengths, and for NaN, naming the user.
    """
    check_of_users(model, "predict(user)")
    own = has_own_predict(model, FactorizationModel)
    for block, scores in (_matrix_blocks if own else _predict_blocks)(model, users, at_once):
        check_not_nan(scores, "of user", block)
        yield block, scores


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
        TypeError: if it has no `predict` or predicts from sequences.
    """
    if isinstance(model, ImplicitSequenceModel):
        raise TypeError(
            f"model must be one of users, got {type(model).__name__}, which predicts from sequences: "
            "use sequence_mrr_score or sequence_precision_recall_score"
        )
    if not hasattr(model, "predict"):
        raise TypeError(f"model must have a method {method}, got {type(model).__name__}")


def has_own_predict(model: Any, kind: type[AnyModel]) -> TypeGuard[AnyModel]:
    """Tell whether `predict` is that of `kind`, so that whole blocks can be computed at once with the same bits."""
    return isinstance(model, kind) and type(model).predict is kind.predict and "predict" not in vars(model)


def _matrix_blocks(
    model: FactorizationModel, users: NDArray[np.int64], at_once: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    scorer = model._scorer()
    check_users(model, users)
    assert model._num_items is not None
    size = rows_in_block(4 * model._num_items, at_once)
    shape = min(size, len(users)), model._num_items
    buffer = torch.empty(shape, dtype=torch.float32, device=model.device)
    for start in range(0, len(users), size):
        block = users[start : start + size]
        scores = scorer.matrix(model._tensor(block), out=buffer[: len(block)])
        yield block, scores.cpu().numpy()


def check_users(model: FactorizationModel, users: NDArray[np.int64]) -> None:
    """Raise for users beyond the model."""
    assert model._num_users is not None
    if users.max() >= model._num_users:
        raise ValueError(f"test must hold users below {model._num_users}, the size of the model, got {users.max()}")


def _predict_blocks(
    model: Any, users: NDArray[np.int64], at_once: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
    first = _predict(model, int(users[0]))
    size = rows_in_block(first.nbytes, at_once)
    for start in range(0, len(users), size):
        block = users[start : start + size]
        rows = [_predict(model, int(user)) for user in block]
        for user, row in zip(block, rows, strict=True):
            if len(row) != len(first):
                raise ValueError(f"model must predict {len(first)} items for every user, got {len(row)} for {user}")
        yield block, np.stack(rows)


def _predict(model: Any, user: int) -> NDArray[Any]:
    row = np.asarray(model.predict(user))
    if row.ndim != 1 or row.size == 0:
        raise ValueError(f"model must predict an array of shape (num_items,), got {row.shape} for user {user}")
    return row if row.dtype == np.float32 else row.astype(np.float64)


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
