"""Spotlight's scores for sequence models, and for anything else with `predict(sequence)`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import device_memory, validation
from spotfast.device_memory import FOR_SCORES
from spotfast.evaluation.sequence_ranking import sequence_blocks
from spotfast.ops.list_hits import list_hits
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
        ValueError: for invalid sequences or ones too short, items beyond the model, an `id_map` that is not the
            model's, and predictions that are NaN, naming the sequence.
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
    with device_memory.explained_for(model, "the ranks", FOR_SCORES):
        blocks = sequence_blocks(model, test, 1, exclude_preceding)
        return np.concatenate([np.zeros(0), *(1.0 / block.ranks() for block in blocks)])


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
        for block in sequence_blocks(model, test, k, exclude_preceding):
            best = block.topk(min(k, block.num_items))
            results.append(list_hits(best, block.targets).found.sum(axis=1) / k)
    precision = np.concatenate(results)
    return precision, precision.copy()
