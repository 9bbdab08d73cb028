"""Scores of items for mixtures of tastes (Kula 2018, "Mixture-of-tastes models for representing users")."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from spotfast import backends
from spotfast.reference import mixture_scores as reference


def mixture_scores(states: Tensor, vectors: Tensor, *, backend: str = "auto") -> Tensor:
    """Score candidates by a mixture of tastes, each weighted by the attention that it pays to the candidate.

        t_m = taste_m . v,   a_m = attention_m . v,   score = sum over m of softmax(a)_m t_m

    Can be differentiated, once by the C++ engine.

    Args:
        states: float tensor of shape (..., 2M, D), the M tastes, then their M attentions.
        vectors: float tensor of shape (..., C, D), those of C candidates.
        backend: "auto", "native" (for float32) or "reference".

    Returns:
        float tensor of shape (..., C).

    Raises:
        ValueError: if the shapes do not fit each other.

    Example:
        >>> mixture_scores(torch.ones(2, 3), torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([6.])
    """
    if states.dim() < 2 or states.shape[-2] == 0 or states.shape[-2] % 2:
        raise ValueError(f"states must be of shape (..., 2M, D), M >= 1, got {tuple(states.shape)}")
    if (
        vectors.dim() != states.dim()
        or vectors.shape[:-2] != states.shape[:-2]
        or vectors.shape[-1] != states.shape[-1]
    ):
        expected = f"({', '.join(map(str, (*states.shape[:-2], 'C', states.shape[-1])))})"
        raise ValueError(f"vectors must be of shape {expected}, as states, got {tuple(vectors.shape)}")
    backend = backends.choose("mixture_scores", states.device, backend)
    if backend == "native" and states.dtype == vectors.dtype == torch.float32:
        scores: Tensor = _MixtureScores.apply(states.contiguous(), vectors.contiguous())  # type: ignore[no-untyped-call]
        return scores
    return reference.mixture_scores(states, vectors)


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, *tensor.shape[-2:])


class _MixtureScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, vectors: Tensor) -> Tensor:
        ctx.save_for_backward(states, vectors)
        arrays = [tensor.detach().numpy() for tensor in (_rows(states), _rows(vectors))]
        scores = backends.native().mixture_scores(*arrays, backends.num_threads())
        return torch.from_numpy(scores).view(vectors.shape[:-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        # Not `once_differentiable`, which is silent where only this gradient's own inputs are differentiated again.
        if torch.is_grad_enabled():
            raise RuntimeError("backend 'native' of mixture_scores has no second derivatives: backend 'reference' has")
        states, vectors = ctx.saved_tensors
        arrays = [
            tensor.detach().contiguous().numpy()
            for tensor in (_rows(states), _rows(vectors), gradient.reshape(-1, gradient.shape[-1]))
        ]
        of_states, of_vectors = backends.native().mixture_gradients(*arrays, backends.num_threads())
        return torch.from_numpy(of_states).view(states.shape), torch.from_numpy(of_vectors).view(vectors.shape)
