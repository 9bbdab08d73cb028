"""Spotlight's scores for factorization models, and for anything else with `predict(user)`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import device_memory, validation
from spotfast.device_memory import FOR_SCORES
from spotfast.evaluation.errors import rating_errors
from spotfast.evaluation.metrics import mrr
from spotfast.evaluation.ranking import Lost, UserBlocks
from spotfast.evaluation.scoring import check_of_users
from spotfast.interactions import Interactions
from spotfast.ops.list_hits import list_hits


def mrr_score(model: Any, test: Any, train: Any = None) -> NDArray[np.float64]:
    """Mean reciprocal rank of each user's test items: the mean of `1 / rank` over all their distinct test items.

    Items are ranked by descending score, ties share their average rank. Training items are moved behind all others
    and tie there, test items among them too. Rating values are ignored, even 0.

    Args:
        model: a fitted model; or anything with `user_vectors()` and `item_vectors()`, whose products are the scores, as
            `spotfast.recommendation.recommend` takes it; or anything whose `predict(user)` gives those of all items.
        test: `Interactions`, or anything with `.tocsr()`, a scipy matrix for example: users x items.
        train: the same, or None: items to leave out of each user's ranking.

    Returns:
        float64 array, one value in (0, 1] per user with test items, users ascending.

    Raises:
        ValueError: for ids beyond the model, an `id_map` of `test` or `train` that is not the model's, and predictions
            that are NaN, naming the user.
        TypeError: for arguments without `.tocsr()`, models without those methods, and sequence models.
        DeviceMemoryError: if a CUDA device has too little memory; that of `evaluate` can be limited.

    Warns:
        UserWarning: if test items are in `train`, too, where no model can find them.

    Example:
        >>> class Popularity:
        ...     def predict(self, user):
        ...         return np.array([0.1, 0.7, 0.2])
        >>> mrr_score(Popularity(), Interactions([0, 1], [2, 1], num_items=3))
        array([0.5, 1. ])
    """
    check_of_users(model, "predict(user)")
    results, lost = [np.zeros(0)], Lost()
    with device_memory.explained_for(model, "the ranks", FOR_SCORES):
        for block in UserBlocks(model, test, train):
            results.append(mrr(block.ranks(), block.targets))
            lost.count(block)
    lost.warn(stacklevel=2)
    return np.concatenate(results)


def precision_recall_score(
    model: Any, test: Any, train: Any = None, k: int | Sequence[int] | NDArray[np.integer[Any]] = 10
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision and recall among the k best items: `hits / min(k, num_items)` and `hits / test items`, per user.

    Items are ranked by descending score, of equal scores the lower id first. Training items are never among the best:
    where fewer than k items are left, the list is shorter.

    Args:
        model: a fitted model; or anything with `user_vectors()` and `item_vectors()`, whose products are the scores, as
            `spotfast.recommendation.recommend` takes it; or anything whose `predict(user)` gives those of all items.
        test: `Interactions`, or anything with `.tocsr()`, a scipy matrix for example: users x items.
        train: the same, or None: items to leave out of each user's ranking.
        k: how many items count, at least 1; or several such numbers, in any order.

    Returns:
        (precision, recall), float64 arrays, users with test items ascending: of shape (users,) for one k,
        (users, len(k)) for several.

    Raises:
        ValueError: for a k below 1, and as `mrr_score`.
        TypeError: for arguments without `.tocsr()`, models without those methods, sequence models, and for a k that is
            not an integer.
        DeviceMemoryError: as `mrr_score`.

    Warns:
        UserWarning: as `mrr_score`.

    Example:
        >>> class Popularity:
        ...     def predict(self, user):
        ...         return np.array([0.1, 0.7, 0.2])
        >>> precision_recall_score(Popularity(), Interactions([0, 1], [2, 1], num_items=3), k=2)
        (array([0.5, 0.5]), array([1., 1.]))
    """
    check_of_users(model, "predict(user)")
    if np.ndim(k) > 1:
        raise ValueError(f"k must be an integer or a sequence of integers, got shape {np.shape(k)}")
    several = np.ndim(k) > 0
    cutoffs = np.array([validation.integer("k", value, 1) for value in (np.ravel(k) if several else [k])])
    if len(cutoffs) == 0:
        raise ValueError("k must hold at least one integer of at least 1, got none")
    lost = Lost()
    precisions, recalls = [np.zeros((0, len(cutoffs)))], [np.zeros((0, len(cutoffs)))]
    with device_memory.explained_for(model, "the lists", FOR_SCORES):
        for block in UserBlocks(model, test, train):
            cut = np.minimum(cutoffs, block.num_items)
            found = list_hits(block.topk(int(cut.max())), block.targets).found
            hits = np.cumsum(found, axis=1, dtype=np.int32)[:, cut - 1]  # the default takes five times as long
            precisions.append(hits / cut)
            recalls.append(hits / block.targets.counts()[:, np.newaxis])
            lost.count(block)
    lost.warn(stacklevel=2)
    precision, recall = np.concatenate(precisions), np.concatenate(recalls)
    return (precision, recall) if several else (precision[:, 0], recall[:, 0])


def rmse_score(model: Any, test: Interactions) -> float:
    """Root mean squared error of the predicted ratings: `sqrt(mean((rating - prediction)^2))`.

    Args:
        model: a fitted explicit model; or anything whose `predict(user_ids, item_ids)` gives the ratings of pairs; or
            anything with `user_vectors()` and `item_vectors()`, whose products are the ratings.
        test: interactions with ratings.

    Returns:
        The error, in units of the ratings.

    Raises:
        ValueError: if there are no interactions, no ratings or invalid ones, or not one prediction for each, if one is
            NaN, naming the user and the item, and for an `id_map` that is not the model's.
        TypeError: for a test set that is not `Interactions`, for models without those methods, and for sequence models.
        DeviceMemoryError: as `mrr_score`.

    Example:
        >>> class Same:
        ...     def predict(self, user_ids, item_ids):
        ...         return np.full(len(user_ids), 3.0)
        >>> rmse_score(Same(), Interactions([0, 1], [1, 1], ratings=np.array([4.0, 10.0])))  # sqrt((1 + 49) / 2)
        5.0
    """
    with device_memory.explained_for(model, "the predictions", FOR_SCORES):
        return float(np.sqrt((rating_errors(model, test) ** 2).mean()))
