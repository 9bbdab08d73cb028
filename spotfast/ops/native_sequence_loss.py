"""The loss of sampled negatives over the steps of sequences, in C++."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from spotfast import backends
from spotfast.ops.table_gradients import sparse_gradient


def sequence_loss(
    steps: Tensor,
    item_vectors: Tensor,
    item_biases: Tensor,
    positives: Tensor,
    negatives: Tensor,
    mask: Tensor,
    loss: str,
    sparse: bool,
) -> Tensor:
    """Compute the mean loss of float32 states (B, L, D), D contiguous; others as in `spotfast.ops.sequence_loss`."""
    value: Tensor = _SequenceLoss.apply(  # type: ignore[no-untyped-call]
        steps,
        item_vectors.contiguous(),
        item_biases.contiguous(),
        positives.long().contiguous(),
        negatives.permute(1, 2, 0).long().contiguous(),
        mask.float().contiguous(),
        loss,
        sparse,
    )
    return value


class _SequenceLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        steps: Tensor,
        vectors: Tensor,
        biases: Tensor,
        positives: Tensor,
        negatives: Tensor,
        mask: Tensor,
        loss: str,
        sparse: bool,
    ) -> Tensor:
        native = backends.native()
        arrays = map(_array, (steps, vectors, biases, positives, negatives, mask))
        mean, chosen, coefficients, ctx.total = native.sequence_loss(
            *arrays, native.Loss.__members__[loss], backends.num_threads()
        )
        ctx.save_for_backward(steps, vectors, positives, torch.from_numpy(chosen), torch.from_numpy(coefficients))
        ctx.sparse = sparse
        return torch.tensor(mean)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Any:
        steps, vectors, positives, chosen, coefficients = ctx.saved_tensors
        arrays = map(_array, (steps, vectors, positives, chosen, coefficients))
        scale = upstream.item() / ctx.total
        gradients = backends.native().sequence_gradients(*arrays, scale, not ctx.sparse, backends.num_threads())
        of_steps, *of_tables = map(torch.from_numpy, gradients)
        if ctx.sparse:
            ids = torch.cat([positives.flatten(), chosen.flatten()])
            of_tables = [sparse_gradient(rows, ids, len(vectors)) for rows in of_tables]
        return of_steps, *of_tables, None, None, None, None, None


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().numpy()
