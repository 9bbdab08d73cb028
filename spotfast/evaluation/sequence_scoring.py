"""Predictions after sequences, some at a time: in blocks where the model can, one by one where it cannot."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spotfast.evaluation.scoring import check_not_nan, has_own_predict, rows_in_block, score_bytes
from spotfast.evaluation.sources import ranks_vectors
from spotfast.factorization.model import FactorizationModel
from spotfast.id_checks import check_same
from spotfast.sequence.implicit import ImplicitSequenceModel
from spotfast.sequence.queries import FIRST_ITEM
from spotfast.sequence.scoring import Scorer, item_tables
from spotfast.training.sequence import Sequences, check_sequences

PREDICTED = 16  # sequences that any model predicts before their scores are looked at

Blocks = Iterator[tuple[NDArray[np.integer[Any]], NDArray[Any]]]


def scoring_bytes(model: Any, test: Sequences, at_once: int) -> tuple[int, int, int]:
    """Return how many items are scored, of which dimension if by vectors, and the memory that so many sequences take.

    A model of someone's own is taken to predict as many items as `test` has. What is inside a network is not counted.
    """
    if not has_own_predict(model, ImplicitSequenceModel):
        return test.num_items, 0, score_bytes(min(PREDICTED, at_once), test.num_items, own=False)
    scorer = model._scorer()
    assert model._num_items is not None
    tables = ranked_tables(scorer, model.device)
    if tables is not None:  # final states, as they are made, in one, and contiguous
        dim = tables[0].shape[1]
        return model._num_items, dim, scorer.num_bytes + 3 * 4 * dim * at_once
    rows = rows_in_block(4 * model._num_items, at_once)
    return model._num_items, 0, scorer.num_bytes + score_bytes(rows, model._num_items, own=True)


def ranked_tables(scorer: Scorer, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Return the vectors and biases of the items but for padding, if final states can be ranked by their products."""
    tables = item_tables(scorer)
    if tables is None or not ranks_vectors(device):
        return None
    vectors, biases = tables
    return vectors[FIRST_ITEM:], biases[FIRST_ITEM:]


def check_of_sequences(model: Any, test: Any, held_out: int) -> None:
    """Raise unless the model can be asked about the sequences, with so many items at the end held out.

    Raises:
        TypeError: if the model has no `predict` or is one of users, and if `test` does not hold sequences.
        ValueError: for invalid sequences or ones too short.
    """
    instead = "use mrr_score or precision_recall_score"
    if isinstance(model, FactorizationModel):
        raise TypeError(f"model must be one of sequences, got {type(model).__name__}, which predicts users: {instead}")
    if not hasattr(model, "predict"):
        raise TypeError(f"model must have a method predict(sequence), got {type(model).__name__}")
    check_sequences("test", test, f"; for models of users, {instead}")
    check_same("test", test, model)
    if test.max_sequence_length <= held_out:
        raise ValueError(
            f"test must hold sequences of more than {held_out} items, the number held out, "
            f"got {test.max_sequence_length}"
        )


def own_states(
    model: ImplicitSequenceModel, scorer: Scorer, test: Sequences, held_out: int, at_once: int
) -> Iterator[tuple[int, NDArray[np.integer[Any]], Tensor]]:
    """Represent sequences without their last items.

    Args:
        model: a fitted model whose `predict` is ours.
        scorer: of the model.
        test: the sequences (N, L).
        held_out: how many items at the end the model does not see.
        at_once: how many sequences become final states at a time.

    Yields:
        The number of the first of some sequences; these, whole, (S, L); and their final states (S, ...).

    Raises:
        ValueError: for items beyond the model.
    """
    num_items = model._num_items
    assert num_items is not None
    done = 0
    for rows in _rows(test, at_once):
        if rows.max() >= num_items:
            raise ValueError(f"test must hold items below {num_items}, the size of the model, got {rows.max()}")
        yield done, rows, scorer.states(model._tensor(rows[:, :-held_out]))
        done += len(rows)


def scores_after(scorer: Scorer, first: int, rows: NDArray[np.integer[Any]], states: Tensor, buffer: Tensor) -> Blocks:
    """Score all items after sequences that are represented: what `own_states` yields, in a buffer (S, num_items).

    Raises:
        ValueError: for NaN, naming the sequence.
    """
    for start in range(0, len(rows), len(buffer)):
        some = slice(start, start + len(buffer))
        scores = scorer.scores(states[some], out=buffer[: len(states[some])]).cpu().numpy()
        check_not_nan(scores, "after sequence", range(first + start, first + start + len(scores)))
        yield rows[some], scores


def score_buffer(model: ImplicitSequenceModel, at_once: int) -> Tensor:
    """Return where at most so many rows of scores are computed at a time, (S, num_items)."""
    assert model._num_items is not None
    return torch.empty(rows_in_block(4 * model._num_items, at_once), model._num_items, device=model.device)


def predicted_blocks(model: Any, test: Sequences, held_out: int, at_once: int) -> Blocks:
    """Ask anyone's model for the scores of all items after each sequence without its last items.

    Args:
        model: anything with `predict(sequence)`, which gives one score per item.
        test: the sequences (N, L).
        held_out: how many items at the end the model does not see.
        at_once: how many sequences are predicted at a time, at most.

    Yields:
        Some of the sequences, in order, whole, (S, L), and their scores (S, num_items), float32 or float64.

    Raises:
        ValueError: for predictions of different lengths, and for NaN, naming the sequence.
    """
    num_items, done = None, 0
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
        scores = np.stack(predictions)
        check_not_nan(scores, "after sequence", range(done, done + len(rows)))
        yield rows, scores
        done += len(rows)


def _rows(test: Sequences, size: int) -> Iterator[NDArray[np.integer[Any]]]:
    for start in range(0, len(test), size):
        yield test.rows(np.arange(start, min(start + size, len(test))))
