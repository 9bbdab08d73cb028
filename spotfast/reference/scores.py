"""Scores of users for items in plain PyTorch, one dimension after the other.

So the same pair always has the same bits. Products and sums are separate operations, each rounded on its own.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scores(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    out: Tensor,
) -> None:
    """Scores (U, I) of all users for all items, written to `out`."""
    out.zero_()
    for user_column, item_column in zip(user_vectors.T, item_vectors.T, strict=True):
        out.add_(user_column.unsqueeze(1) * item_column)
    if user_biases is not None:
        out.add_(user_biases.unsqueeze(1))
    if item_biases is not None:
        out.add_(item_biases)


def pair_scores(
    user_vectors: Tensor,
    user_biases: Tensor | None,
    item_vectors: Tensor,
    item_biases: Tensor | None,
    user_index: Tensor,
    item_index: Tensor,
) -> Tensor:
    """Scores (P,) of pairs of a user and an item."""
    out = torch.zeros(len(user_index), dtype=torch.float32, device=user_vectors.device)
    for user_column, item_column in zip(user_vectors.T, item_vectors.T, strict=True):
        out.add_(user_column[user_index] * item_column[item_index])
    if user_biases is not None:
        out.add_(user_biases[user_index])
    if item_biases is not None:
        out.add_(item_biases[item_index])
    return out
