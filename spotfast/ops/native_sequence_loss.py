"""The loss of sampled negatives over the steps of sequences, in C++."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

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
        return steps.new_tensor(mean)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        # Not `once_differentiable`, which is silent where only this gradient's own inputs are differentiated again.
        if torch.is_grad_enabled():
            raise RuntimeError("backend 'native' of sequence_loss has no second derivatives: backend 'reference' has")
        steps, vectors, positives, chosen, coefficients = ctx.saved_tensors
        native, threads = backends.native(), backends.num_threads()
        scores = *map(_array, (positives, chosen, coefficients)), upstream.item() / ctx.total
        of_steps = of_vectors = of_biases = None
        if ctx.needs_input_grad[0]:
            of_steps = torch.from_numpy(
                native.sequence_state_gradients(_array(steps), _array(vectors), *scores, threads)
            )
        if any(ctx.needs_input_grad[1:3]):
            num_items = None if ctx.sparse else len(vectors)
            gradients = native.sequence_item_gradients(_array(steps), *scores, num_items, threads)
            of_vectors, of_biases = map(torch.from_numpy, gradients)
            if ctx.sparse:
                ids = torch.cat([positives.flatten(), chosen.flatten()])
                of_vectors, of_biases = (sparse_gradient(rows, ids, len(vectors)) for rows in (of_vectors, of_biases))
        return of_steps, of_vectors, of_biases, None, None, None, None, None


def _array(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().numpy()
