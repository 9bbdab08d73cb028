"""Spotlight's scores for sequence models, and for anything else with `predict(sequence)`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import device_memory, validation
from spotfast.device_memory import FOR_SCORES
from spotfast.evaluation.ranking import check_items
from spotfast.evaluation.scores import is_target
from spotfast.evaluation.sequence_scoring import score_blocks
from spotfast.ops.ranks import ranks
from spotfast.ops.topk import topk
from spotfast.rows import Rows
from spotfast.training.sequence import Sequences


def sequence_mrr_score(model: Any, test: Sequences, exclude_preceding: bool = False) -> NDArray[np.float64]:
    """Reciprocal rank of each sequence's last item, predicted from the items before it: `1 / rank`.

    Items are ranked by descending score, ties share their average rank.

    Args:
        model: a fitted model, or anything whose `predict(sequence)`, with a sequence of shape (L - 1,), gives the
            scores of all items.
        test: sequences of at least 2 items: `SequenceInteractions`, or windows that are cut while they are scored.
        exclude_preceding: move the items before the last behind all others, where they tie; the last item among them
            too, if it is a repetition.

    Returns:
        float64 array of shape (N,), values in (0, 1].

    Raises:
        ValueError: for invalid sequences or ones too short, items beyond the model, and predictions that are NaN,
            naming the sequence.
        TypeError: for interactions, and for models of users or without `predict`.
        DeviceMemoryError: as `spotfast.evaluation.mrr_score`.

    Example:
        >>> from spotfast.interactions import SequenceInteractions
        >>> class Popularity:
        ...     def predict(self, sequence):
        ...         return np.array([0.0, 0.1, 0.7, 0.2])
        >>> sequence_mrr_score(Popularity(), SequenceInteractions([[2, 3], [2, 1]], num_items=4))
        array([0.5       , 0.33333333])
        >>> sequence_mrr_score(Popularity(), SequenceInteractions([[2, 3]]), exclude_preceding=True)
        array([1.])
    """
    results = [np.zeros(0)]
    with device_memory.explained_for(model, "the ranks", FOR_SCORES):
        for rows, scores in score_blocks(model, test, held_out=1):
            targets, excluded = targets_and_excluded(rows, 1, scores.shape[1], exclude_preceding)
            results.append(1.0 / ranks(scores, targets, excluded))
    return np.concatenate(results)


def sequence_precision_recall_score(
    model: Any, test: Sequences, k: int = 10, exclude_preceding: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall of the k best items against the last k of each sequence, predicted from those before.

    Both are `hits / k`, with hits counting distinct items; padding among the last k counts as an item. Items are
    ranked by descending score, of equal scores the lower id first.

    Args:
        model: a fitted model, or anything whose `predict(sequence)`, with a sequence of shape (L - k,), gives the
            scores of all items.
        test: sequences of more than k items: `SequenceInteractions`, or windows that are cut while they are scored.
        k: how many items count, at least 1.
        exclude_preceding: items before the last k are never among the best. Where fewer than k are left, the list is
            shorter.

    Returns:
        (precision, recall), float64 arrays of shape (N,).

    Raises:
        ValueError: for a k below 1, and as `sequence_mrr_score`.
        TypeError: for a k that is not an integer, and as `sequence_mrr_score`.
        DeviceMemoryError: as `sequence_mrr_score`.

    Example:
        >>> from spotfast.interactions import SequenceInteractions
        >>> class Popularity:
        ...     def predict(self, sequence):
        ...         return np.array([0.0, 0.1, 0.7, 0.2])
        >>> precision, recall = sequence_precision_recall_score(Popularity(), SequenceInteractions([[1, 2, 1]]), k=2)
        >>> precision, recall
        (array([0.5]), array([0.5]))
    """
    k = validation.integer("k", k, 1)
    results = [np.zeros(0)]
    with device_memory.explained_for(model, "the lists", FOR_SCORES):
        for rows, scores in score_blocks(model, test, held_out=k):
            targets, excluded = targets_and_excluded(rows, k, scores.shape[1], exclude_preceding)
            best = topk(scores, min(k, scores.shape[1]), excluded)
            results.append(is_target(best, targets, scores.shape[1]).sum(axis=1) / k)
    precision = np.concatenate(results)
    return precision, precision.copy()


def targets_and_excluded(
    rows: NDArray[np.integer[Any]], held_out: int, num_items: int, exclude_preceding: bool
) -> tuple[Rows, Rows | None]:
    """Split sequences (S, L) into the distinct items held out, and those before them if they are to be excluded."""
    targets = _distinct(rows[:, -held_out:])
    check_items("test", targets, num_items)
    if not exclude_preceding:
        return targets, None
    excluded = _distinct(rows[:, :-held_out])
    check_items("test", excluded, num_items)
    return targets, excluded


def _distinct(ids: NDArray[np.integer[Any]]) -> Rows:
    """Return the distinct ids of every row of (S, W), ascending."""
    ordered = np.sort(ids, axis=1).astype(np.int64)
    new = np.ones(ordered.shape, np.bool_)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return Rows(np.concatenate([[0], np.cumsum(new.sum(axis=1))]), ordered[new])
