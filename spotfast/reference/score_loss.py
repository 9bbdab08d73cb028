"""What each loss charges for the scores of one sample, before weights and means, elementwise and differentiable."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def pointwise(positive: Tensor, negative: Tensor) -> Tensor:
    """`(1 - sigmoid(positive)) + sigmoid(negative)`."""
    return (1.0 - torch.sigmoid(positive)) + torch.sigmoid(negative)


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """`1 - sigmoid(positive - negative)`."""
    return 1.0 - torch.sigmoid(positive - negative)


def hinge(positive: Tensor, negative: Tensor) -> Tensor:
    """`max(0, negative - positive + 1)`."""
    return torch.clamp(negative - positive + 1.0, min=0.0)


def adaptive_hinge(positive: Tensor, negatives: Tensor) -> Tensor:
    """`hinge` against the highest of the negatives (n, ...)."""
    return hinge(positive, negatives.max(dim=0).values)


def regression(observed: Tensor, predicted: Tensor) -> Tensor:
    """`(observed - predicted)^2`."""
    return (observed - predicted) ** 2


def poisson(observed: Tensor, predicted: Tensor) -> Tensor:
    """`predicted - observed * log(predicted)`."""
    return predicted - observed * torch.log(predicted)


def logistic(observed: Tensor, logits: Tensor) -> Tensor:
    """Binary cross-entropy with logits; what was observed is cut to [0, 1]."""
    return F.binary_cross_entropy_with_logits(logits, torch.clamp(observed, 0.0, 1.0), reduction="none")


OF_RANKINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"pointwise": pointwise, "bpr": bpr, "hinge": hinge}
OF_RATINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"regression": regression, "logistic": logistic}


def of_scores(loss: str, scores: Tensor, ratings: Tensor | None) -> Tensor:
    """Charge samples for the scores of their candidates.

    Args:
        loss: its name; "poisson" takes the logarithm of the rate for a score.
        scores: (B, 1 + n), the positive, or the rated item, in the first column, then the negatives.
        ratings: (B,), for the losses of ratings.

    Returns:
        Losses (B,).
    """
    first, negatives = scores[:, 0], scores[:, 1:]
    if loss == "adaptive_hinge":
        return adaptive_hinge(first, negatives.T)
    if loss in OF_RANKINGS:
        return OF_RANKINGS[loss](first, negatives[:, 0])
    assert ratings is not None
    if loss == "poisson":
        return poisson(ratings, torch.exp(first))
    return OF_RATINGS[loss](ratings, first)
