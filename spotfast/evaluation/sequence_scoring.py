"""Predictions after sequences, some at a time: in blocks where the model can, one by one where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spotfast.evaluation.scoring import check_not_nan, has_own_predict, rows_in_block, score_bytes
from spotfast.factorization.model import FactorizationModel
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.training.sequence import Sequences, check_sequences

REPRESENTED = 1024  # sequences that become final states at once
PREDICTED = 16  # sequences that any model predicts before their scores are looked at

Blocks = Iterator[tuple[NDArray[np.integer[Any]], NDArray[Any]]]


def score_blocks(model: Any, test: Sequences, held_out: int, at_once: int | None = None) -> Blocks:
    """Predict all items after each sequence without its last items.

    Args:
        model: anything with `predict(sequence)`, which gives one score per item.
        test: the sequences (N, L).
        held_out: how many items at the end the model does not see, at least 1 and below L.
        at_once: how many sequences become final states at a time. None: as many as is good for speed.

    Yields:
        Some of the sequences, in order, whole, (S, L), and their scores (S, num_items), float32 or float64. The array
        is reused.

    Raises:
        TypeError: if the model has no `predict` or is one of users, and if `test` does not hold sequences.
        ValueError: for invalid sequences or ones too short, for predictions of different lengths, and for NaN, naming
            the sequence.
    """
    check_of_sequences(model, test, held_out)
    blocks = _own_blocks if has_own_predict(model, ImplicitSequenceModel) else _predict_blocks
    done = 0
    for rows, scores in blocks(model, test, held_out, REPRESENTED if at_once is None else at_once):
        check_not_nan(scores, "after sequence", range(done, done + len(rows)))
        yield rows, scores
        done += len(rows)


def scoring_bytes(model: Any, test: Sequences, at_once: int) -> tuple[int, int]:
    """Return how many items are scored, and the memory in use at most for it, with so many sequences at a time.

    A model of someone's own is taken to predict as many items as `test` has. What is inside a network is not counted.
    """
    if not has_own_predict(model, ImplicitSequenceModel):
        return test.num_items, score_bytes(min(PREDICTED, at_once), test.num_items, own=False)
    scorer = model._scorer()
    assert model._num_items is not None
    rows = rows_in_block(4 * model._num_items, at_once)
    return model._num_items, scorer.num_bytes + score_bytes(rows, model._num_items, own=True)


def check_of_sequences(model: Any, test: Any, held_out: int) -> None:
    """Raise unless the model can be asked about the sequences. Arguments and errors as in `score_blocks`."""
    instead = "use mrr_score or precision_recall_score"
    if isinstance(model, FactorizationModel):
        raise TypeError(f"model must be one of sequences, got {type(model).__name__}, which predicts users: {instead}")
    if not hasattr(model, "predict"):
        raise TypeError(f"model must have a method predict(sequence), got {type(model).__name__}")
    check_sequences("test", test, f"; for models of users, {instead}")
    if test.max_sequence_length <= held_out:
        raise ValueError(
            f"test must hold sequences of more than {held_out} items, the number held out, "
            f"got {test.max_sequence_length}"
        )


def _own_blocks(model: ImplicitSequenceModel, test: Sequences, held_out: int, at_once: int) -> Blocks:
    scorer = model._scorer()
    num_items = model._num_items
    assert num_items is not None
    size = rows_in_block(4 * num_items, at_once)
    buffer = torch.empty(size, num_items, device=model.device)
    for rows in _rows(test, at_once):
        if rows.max() >= num_items:
            raise ValueError(f"test must hold items below {num_items}, the size of the model, got {rows.max()}")
        states = scorer.states(model._tensor(rows[:, :-held_out]))
        for start in range(0, len(rows), size):
            some = states[start : start + size]
            scores = scorer.scores(some, out=buffer[: len(some)])
            yield rows[start : start + size], scores.cpu().numpy()


def _predict_blocks(model: Any, test: Sequences, held_out: int, at_once: int) -> Blocks:
    num_items = None
    for rows in _rows(test, min(PREDICTED, at_once)):
        predictions = []
        for row in rows:
            prediction = np.asarray(model.predict(row[:-held_out]))
            num_items = prediction.size if num_items is None else num_items
            if prediction.shape != (num_items,) or num_items == 0:
                raise ValueError(
                    f"model must predict an array of shape (num_items,), the same for every sequence, "
                    f"got {prediction.shape} after {num_items} items"
                )
            predictions.append(prediction if prediction.dtype == np.float32 else prediction.astype(np.float64))
        yield rows, np.stack(predictions)


def _rows(test: Sequences, size: int) -> Iterator[NDArray[np.integer[Any]]]:
    for start in range(0, len(test), size):
        yield test.rows(np.arange(start, min(start + size, len(test))))
