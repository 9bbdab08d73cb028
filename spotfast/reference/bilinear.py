"""Scores of pairs of a user and an item, and the gradients of the rows they read, in plain PyTorch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def scores(
    user_vectors: Tensor,
    user_biases: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    user_ids: Tensor,
    item_ids: Tensor,
) -> Tensor:
    """Scores (B, C), at least float32; differentiable."""
    users = _rows(user_vectors, user_ids).unsqueeze(1)  # [B, 1, D]
    items = _rows(item_vectors, item_ids)  # [B, C, D]
    return (users * items).sum(-1) + _rows(user_biases, user_ids) + _rows(item_biases, item_ids).squeeze(-1)


def row_gradients(
    gradient: Tensor, user_vectors: Tensor, item_vectors: Tensor, user_ids: Tensor, item_ids: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of the rows that each sample read: of users (B, D), of items (B, C, D), at least float32.

    `gradient`: of the scores, (B, C), at least float32.
    """
    gradient = gradient.unsqueeze(-1)
    users = _rows(user_vectors, user_ids).unsqueeze(1)
    return (gradient * _rows(item_vectors, item_ids)).sum(1), gradient * users


def _rows(table: Tensor, ids: Tensor) -> Tensor:
    return F.embedding(ids, table).to(torch.promote_types(table.dtype, torch.float32))
