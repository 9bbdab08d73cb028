"""Losses: values and gradients of Spotlight's own, masks of every dtype, weights, and one formula written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from spotfast import losses

IMPLICIT = {
    "pointwise": losses.pointwise_loss,
    "bpr": losses.bpr_loss,
    "hinge": losses.hinge_loss,
    "adaptive_hinge": losses.adaptive_hinge_loss,
}
EXPLICIT = {
    "regression": losses.regression_loss,
    "poisson": losses.poisson_loss,
    "logistic": losses.logistic_loss,
}
every_implicit_loss = pytest.mark.parametrize("name", IMPLICIT)
every_explicit_loss = pytest.mark.parametrize("name", EXPLICIT)


def close(actual, expected):
    """Float32 values of size 1 after a few operations: some units in the last place."""
    np.testing.assert_allclose(actual, expected, rtol=4e-7, atol=6e-8)


def predictions(golden, name):
    keys = "losses/positive", "losses/negatives" if name == "adaptive_hinge" else "losses/negative"
    return [torch.from_numpy(golden[key].copy()).requires_grad_() for key in keys]


@every_implicit_loss
class TestImplicit:
    @pytest.mark.parametrize("dtype", [None, torch.bool, torch.int32, torch.int64, torch.float32])
    def test_golden(self, golden, name, dtype):
        positive, negative = predictions(golden, name)
        mask = None if dtype is None else torch.from_numpy(golden["losses/mask"]).to(dtype)
        loss = IMPLICIT[name](positive, negative, mask=mask)
        assert loss.shape == ()
        loss.backward()
        key = f"losses/{name}/{'plain' if mask is None else 'masked'}"
        close(loss.item(), golden[f"{key}/value"])
        close(positive.grad, golden[f"{key}/grad_positive"])
        close(negative.grad, golden[f"{key}/grad_negative"])

    def test_fractional_mask(self, golden, name):
        """A float mask weighs: sum(mask * l) / sum(mask)."""
        positive, negative = predictions(golden, name)
        mask = torch.linspace(0, 0.9, positive.numel()).view_as(positive)
        each = element_losses(name, positive, negative)
        close(IMPLICIT[name](positive, negative, mask=mask).item(), ((mask * each).sum() / mask.sum()).item())

    @pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
    def test_empty_mask(self, golden, name, dtype):
        positive, negative = predictions(golden, name)
        loss = IMPLICIT[name](positive, negative, mask=torch.zeros(positive.shape, dtype=dtype))
        loss.backward()
        assert loss.item() == 0
        assert not positive.grad.any()
        assert not negative.grad.any()

    def test_weights(self, golden, name):
        """sum(w l) / rows: a weight of 2 counts as two rows do in the sum, and not in the number."""
        positive, negative = (prediction.detach()[..., 0].requires_grad_() for prediction in predictions(golden, name))
        weights = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 0.1])
        loss = IMPLICIT[name](positive, negative, weights=weights)
        expected = (weights * element_losses(name, positive, negative)).sum() / 6
        close(loss.item(), expected.item())
        actual = torch.autograd.grad(loss, (positive, negative))
        for one, other in zip(actual, torch.autograd.grad(expected, (positive, negative)), strict=True):
            close(one, other)

    def test_mask_and_weights_exclude_each_other(self, golden, name):
        positive, negative = predictions(golden, name)
        with pytest.raises(ValueError, match="mask and weights exclude each other"):
            IMPLICIT[name](positive, negative, torch.ones(6, 5), torch.ones(6, 5))


def element_losses(name, positive, negative):
    """The formulas, element by element, in float64."""
    positive, negative = positive.double(), negative.double()
    if name == "pointwise":
        return 1 / (1 + torch.exp(positive)) + 1 / (1 + torch.exp(-negative))
    if name == "bpr":
        return 1 / (1 + torch.exp(positive - negative))
    if name == "adaptive_hinge":
        negative = negative.amax(0)
    return torch.relu(negative - positive + 1)


def test_adaptive_hinge_moves_one_of_equal_negatives():
    negative = torch.tensor([[0.5], [2.0], [2.0]], requires_grad=True)
    losses.adaptive_hinge_loss(torch.tensor([1.0]), negative).backward()
    assert negative.grad.sum() == 1
    assert negative.grad.count_nonzero() == 1


@every_explicit_loss
class TestExplicit:
    def data(self, golden, name):
        key = "losses/logistic/ratings" if name == "logistic" else "losses/ratings"
        predicted = torch.from_numpy(golden["losses/predicted"].copy()).requires_grad_()
        return torch.from_numpy(golden[key].copy()), predicted

    def test_golden(self, golden, name):
        observed, predicted = self.data(golden, name)
        loss = EXPLICIT[name](observed, predicted)
        assert loss.shape == ()
        loss.backward()
        close(loss.item(), golden[f"losses/{name}/value"])
        close(predicted.grad, golden[f"losses/{name}/grad_predicted"])

    def test_weights(self, golden, name):
        observed, predicted = self.data(golden, name)
        weights = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0, 0.1, 1.0, 1.0])
        loss = EXPLICIT[name](observed, predicted, weights)
        rows = torch.stack([EXPLICIT[name](observed[i : i + 1], predicted[i : i + 1]) for i in range(8)])
        close(loss.item(), ((weights * rows).sum() / 8).item())
        (gradient,) = torch.autograd.grad(loss, predicted)
        assert gradient[0] == 0
        assert gradient[1:].all()

    def test_observed_ratings_are_data(self, golden, name):
        observed, predicted = self.data(golden, name)
        with pytest.raises(ValueError, match="observed ratings must not require grad"):
            EXPLICIT[name](observed.requires_grad_(), predicted)


def test_logistic_cuts_ratings():
    """-1 and 1 may stand for no and yes, and large scores stay finite."""
    scores = torch.tensor([-200.0, 200.0, 0.0])
    cut = losses.logistic_loss(torch.tensor([-1.0, 5.0, 0.5]), scores)
    assert cut == losses.logistic_loss(torch.tensor([0.0, 1.0, 0.5]), scores)
    close(cut.item(), np.log(2) / 3)
    assert losses.logistic_loss(torch.tensor([1.0]), torch.tensor([-200.0])) == 200
