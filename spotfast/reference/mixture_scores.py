"""Scores of items for mixtures of tastes, differentiable."""

from __future__ import annotations

from torch import Tensor


def mixture_scores(states: Tensor, vectors: Tensor) -> Tensor:
    """Score candidates; arguments as in `spotfast.ops.mixture_scores`."""
    tastes, attentions = (states @ vectors.transpose(-1, -2)).chunk(2, dim=-2)  # [..., M, C]
    return (attentions.softmax(-2) * tastes).sum(-2)
