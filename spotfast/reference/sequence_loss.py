"""The loss of sampled negatives over the steps of sequences, differentiable."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from spotfast.reference import score_loss


def sequence_loss(
    states: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor,
    loss: str,
    sparse: bool = False,
) -> Tensor:
    """Compute the mean loss; arguments as in `spotfast.ops.sequence_loss`."""
    wide = torch.promote_types(states.dtype, torch.float32)
    steps = states.transpose(1, 2).to(wide)  # [B, L, D]

    def scores(items: Tensor) -> Tensor:
        vectors, biases = (F.embedding(items, table, sparse=sparse).to(wide) for table in (item_vectors, item_biases))
        return (steps * vectors).sum(2) + biases.squeeze(2)

    if loss == "adaptive_hinge":  # only the highest of the negatives has a gradient
        with torch.no_grad():
            highest = torch.stack([scores(items) for items in negatives]).max(dim=0, keepdim=True).indices
        negatives = negatives.gather(0, highest)
    charge = score_loss.OF_RANKINGS["hinge" if loss == "adaptive_hinge" else loss]
    losses = charge(scores(positives), scores(negatives[0]))
    weights = mask.to(wide)
    return (weights * losses).sum() / weights.sum().clamp(min=torch.finfo(wide).tiny)


def row_gradients(
    upstream: Tensor,
    total: Tensor,
    steps: Tensor,
    item_vectors: Tensor,
    positives: Tensor,
    chosen: Tensor,
    coefficients: Tensor,
    rows_dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the gradients of steps, and of the item rows that each of them read, from what the kernels hand on.

    Args:
        upstream: the gradient of the mean loss, a float32 scalar.
        total: the sum of the mask, a float32 scalar above 0.
        steps: states, float tensor of shape (B, L, D).
        item_vectors: float tensor of shape (I, D).
        positives: int64 or int32 tensor of shape (B, L), values in [0, I).
        chosen: the negative of each step that has a gradient, of the same kind.
        coefficients: derivatives of the summed loss by the scores of both, float32 tensor of shape (2, B, L).
        rows_dtype: of the gradients of item rows.

    Returns:
        Gradients of steps, (B, L, D); of item rows, (2 B L, D), positives first; of item biases, (2 B L, 1), float32.
    """
    wide = torch.promote_types(steps.dtype, torch.float32)
    scales = (upstream / total * coefficients).unsqueeze(3)  # [2, B, L, 1]
    rows = (scales * steps.to(wide)).to(rows_dtype)
    vectors = F.embedding(torch.stack([positives.long(), chosen.long()]), item_vectors).to(wide)
    return (scales * vectors).sum(0).to(steps.dtype), rows.flatten(0, 2), scales.reshape(-1, 1)
