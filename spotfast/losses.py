"""Losses of implicit and explicit models, as means over a batch.

Every function takes an optional `mask` (which elements count, as in padded sequences) or, for one-dimensional batches,
`weights` (how much each counts):

    mean(l)                           by default
    sum(mask * l) / sum(mask)         with a mask; 0 where the mask is empty
    sum(weights * l) / len(l)         with weights
"""

from __future__ import annotations

import torch
from torch import Tensor

from spotfast.reference import score_loss
from spotfast.torch_utils import assert_no_grad


def pointwise_loss(
    positive_predictions: Tensor,
    negative_predictions: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Logistic-shaped pointwise loss: `(1 - sigmoid(positive)) + sigmoid(negative)`.

    Args:
        positive_predictions: float tensor of any shape, scores of items the users interacted with.
        negative_predictions: scores of sampled negatives, same shape.
        mask: bool, int or float tensor of the same shape.
        weights: float tensor of the same shape, >= 0.

    Returns:
        A scalar tensor.

    Example:
        >>> pointwise_loss(torch.zeros(2), torch.zeros(2)).item()
        1.0
    """
    return _reduce(score_loss.pointwise(positive_predictions, negative_predictions), mask, weights)


def bpr_loss(
    positive_predictions: Tensor,
    negative_predictions: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Pairwise loss after Bayesian personalised ranking (Rendle et al. 2009): `1 - sigmoid(positive - negative)`.

    As in Spotlight: the probability of a wrong order itself, not its logarithm. Arguments as in `pointwise_loss`.
    """
    return _reduce(score_loss.bpr(positive_predictions, negative_predictions), mask, weights)


def hinge_loss(
    positive_predictions: Tensor,
    negative_predictions: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Pairwise hinge loss: `max(0, negative - positive + 1)`. Arguments as in `pointwise_loss`."""
    return _reduce(score_loss.hinge(positive_predictions, negative_predictions), mask, weights)


def adaptive_hinge_loss(
    positive_predictions: Tensor,
    negative_predictions: Tensor,
    mask: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Hinge loss against the highest of several negatives, close to WARP (Weston et al. 2011).

    Args:
        positive_predictions: float tensor of shape (...).
        negative_predictions: scores of n sampled negatives of each positive, shape (n, ...).
        mask: bool, int or float tensor of shape (...).
        weights: float tensor of shape (...), >= 0.

    Returns:
        A scalar tensor.

    Example:
        >>> adaptive_hinge_loss(torch.tensor([1.0]), torch.tensor([[0.5], [2.0]])).item()
        2.0
    """
    return _reduce(score_loss.adaptive_hinge(positive_predictions, negative_predictions), mask, weights)


def regression_loss(observed_ratings: Tensor, predicted_ratings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Squared error: `(observed - predicted)^2`.

    Args:
        observed_ratings: float tensor of shape (B,), without requires_grad.
        predicted_ratings: scores, shape (B,).
        weights: float tensor of shape (B,), >= 0.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: if the observed ratings require a gradient.
    """
    assert_no_grad(observed_ratings)
    return _reduce(score_loss.regression(observed_ratings, predicted_ratings), None, weights)


def poisson_loss(observed_ratings: Tensor, predicted_ratings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Poisson negative log-likelihood: `predicted - observed * log(predicted)`, for predicted rates > 0.

    Arguments as in `regression_loss`; models pass `exp(score)`.
    """
    assert_no_grad(observed_ratings)
    return _reduce(score_loss.poisson(observed_ratings, predicted_ratings), None, weights)


def logistic_loss(observed_ratings: Tensor, predicted_ratings: Tensor, weights: Tensor | None = None) -> Tensor:
    """Binary cross-entropy with logits; observed ratings are cut to [0, 1], so -1 and 1 may stand for no and yes.

    Arguments as in `regression_loss`; the predicted ratings are scores (logits).
    """
    assert_no_grad(observed_ratings)
    return _reduce(score_loss.logistic(observed_ratings, predicted_ratings), None, weights)


def _reduce(loss: Tensor, mask: Tensor | None, weights: Tensor | None) -> Tensor:
    if mask is not None and weights is not None:
        raise ValueError("mask and weights exclude each other, got both")
    if weights is not None:
        return (weights * loss).mean()
    if mask is not None:
        mask = mask.to(loss.dtype)
        return (mask * loss).sum() / mask.sum().clamp(min=torch.finfo(loss.dtype).tiny)
    return loss.mean()
