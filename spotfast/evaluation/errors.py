"""How far predicted ratings are from those of a test set."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spotfast import validation
from spotfast.evaluation.scoring import check_of_users
from spotfast.id_checks import check_same
from spotfast.vector_tables import VectorTables


def rating_errors(model: Any, test: Any) -> NDArray[np.float64]:
    """Return `rating - prediction` of every interaction, float64 (N,).

    Raises:
        ValueError: if there are no interactions, no ratings or invalid ones, or not one prediction for each, or if one
            is NaN, naming the user and the item.
        TypeError: for a test set that is not `Interactions`, and for models of sequences, or without `predict` and
            vectors.
    """
    check_of_users(model, "predict(user_ids, item_ids)")
    check_ratings(test)
    check_same("test", test, model)
    ratings = validation.numbers("ratings", test.ratings, len(test)).astype(np.float64)
    if hasattr(model, "predict"):
        predictions = np.asarray(model.predict(test.user_ids, test.item_ids))
    else:
        predictions = VectorTables.of_model(model).pairs(test.user_ids, test.item_ids)
    if predictions.shape != ratings.shape:
        raise ValueError(f"model must predict an array of shape {ratings.shape}, got {predictions.shape}")
    unknown = np.flatnonzero(np.isnan(predictions))
    if len(unknown):
        user, item = test.user_ids[unknown[0]], test.item_ids[unknown[0]]
        raise ValueError(f"the prediction of user {user} for item {item} is NaN: it has no error")
    return ratings - predictions


def check_ratings(test: Any) -> None:
    """Raise unless a test set holds ratings: TypeError, ValueError as `rating_errors`."""
    if not all(hasattr(test, name) for name in ("user_ids", "item_ids", "ratings")):
        raise TypeError(f"test must be Interactions with ratings, got {type(test).__name__}")
    if test.ratings is None:
        raise ValueError(
            "test must hold ratings to compare the predicted ones with, got interactions with ratings=None"
        )
    if len(test) == 0:
        raise ValueError("test must not be empty, got 0 interactions")
