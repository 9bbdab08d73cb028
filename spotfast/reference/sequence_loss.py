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
