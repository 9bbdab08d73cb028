"""Scores of mixtures of tastes: the C++ engine against the reference in float64, bits and threads."""

from __future__ import annotations

import pytest
import torch

import spotfast
from spotfast.ops.mixture_scores import mixture_scores


def inputs(steps=(4, 3), mixtures=4, candidates=5, dim=32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(*steps, 2 * mixtures, dim, generator=generator) * scale
    vectors = torch.randn(*steps, candidates, dim, generator=generator)
    gradient = torch.randn(*steps, candidates, generator=generator)
    gradient[gradient.abs() < 0.2] = 0  # as of negatives within the margin
    return states, vectors, gradient


def scores_and_gradients(states, vectors, gradient, backend):
    states, vectors = states.clone().requires_grad_(), vectors.clone().requires_grad_()
    scores = mixture_scores(states, vectors, backend=backend)
    return scores.detach(), *torch.autograd.grad(scores, (states, vectors), gradient.to(scores.dtype))


@pytest.mark.parametrize("dim", [1, 3, 8, 31, 32, 33, 100])
@pytest.mark.parametrize(("mixtures", "candidates"), [(1, 1), (2, 7), (4, 2)])
@pytest.mark.parametrize("steps", [(), (1,), (70, 2)])
def test_like_the_reference(dim, mixtures, candidates, steps):
    """No further from the truth than twice as far as the reference in the same precision."""
    given = inputs(steps, mixtures, candidates, dim)
    truth = scores_and_gradients(*(tensor.double() for tensor in given), "reference")
    native, reference = (scores_and_gradients(*given, backend) for backend in ("native", "reference"))
    for got, plain, true in zip(native, reference, truth, strict=True):
        assert got.shape == true.shape
        assert (got - true).abs().max() <= 2 * (plain - true).abs().max() + 1e-5


def test_attention_that_overflows_an_exponential():
    given = inputs(scale=50.0)
    native, reference = (scores_and_gradients(*given, backend) for backend in ("native", "reference"))
    for got, plain in zip(native, reference, strict=True):
        torch.testing.assert_close(got, plain, rtol=1e-3, atol=1e-3)


def test_any_layout():
    states, vectors, _ = inputs()
    moved = states.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # as networks return them
    assert not moved.is_contiguous()
    assert torch.equal(mixture_scores(moved, vectors, backend="native"), mixture_scores(states, vectors))


def test_same_bits_for_any_number_of_threads():
    given, results = inputs((300, 2)), []
    for threads in (1, 2, 5):
        spotfast.set_num_threads(threads)
        try:
            results.append(scores_and_gradients(*given, "native"))
        finally:
            spotfast.set_num_threads(None)
    for result in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(result, results[0], strict=True))


def test_other_dtypes_take_the_reference():
    states, vectors, _ = (tensor.double() for tensor in inputs(dim=3))
    assert mixture_scores(states, vectors).dtype == torch.float64
    assert torch.autograd.gradcheck(mixture_scores, (states.requires_grad_(), vectors.requires_grad_()))


@pytest.mark.parametrize(
    ("states", "vectors", "message"),
    [
        ((4, 4), (2, 5), r"vectors must be of shape \(C, 4\), as states, got \(2, 5\)"),
        ((2, 4, 4), (3, 5, 4), r"vectors must be of shape \(2, C, 4\), as states, got \(3, 5, 4\)"),
        ((3, 4), (2, 4), r"states must be of shape \(..., 2M, D\), M >= 1, got \(3, 4\)"),
        ((0, 4), (2, 4), r"got \(0, 4\)"),
        ((4,), (4,), r"got \(4,\)"),
    ],
)
def test_bad_shapes(states, vectors, message):
    with pytest.raises(ValueError, match=message):
        mixture_scores(torch.zeros(states), torch.zeros(vectors))


def test_second_derivatives_are_refused():
    """They would be wrong without a word: the first ones are constants to autograd."""
    states, vectors, _ = inputs()
    states.requires_grad_()
    with pytest.raises(RuntimeError, match="no second derivatives: backend 'reference' has"):
        torch.autograd.grad(mixture_scores(states, vectors, backend="native").sum(), states, create_graph=True)
