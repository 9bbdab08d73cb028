"""The losses' device functions equal the reference and its gradients by autograd, at kinks, ties and extremes, too."""

from __future__ import annotations

import pytest
import torch

from spotfast.kernels import score_loss as device
from spotfast.kernels.language import tl, triton
from spotfast.reference import score_loss as reference

pytestmark = pytest.mark.interpreter

SAMPLES = 200  # of blocks of 256
UNIT = 2.0**-24  # of rounding to nearest, in float32
HUGE = 1e4


@triton.jit
def of_ranking_kernel(loss, d_positive, d_negative, positive, negative, count, LOSS: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.arange(0, BLOCK)
    mask = sample < count
    of_sample, of_positive, of_negative = device.of_ranking(
        tl.load(positive + sample, mask=mask, other=0.0), tl.load(negative + sample, mask=mask, other=0.0), LOSS
    )
    tl.store(loss + sample, of_sample, mask=mask)
    tl.store(d_positive + sample, of_positive, mask=mask)
    tl.store(d_negative + sample, of_negative, mask=mask)


@triton.jit
def of_rating_kernel(loss, d_score, observed, score, count, LOSS: tl.constexpr, BLOCK: tl.constexpr):
    sample = tl.arange(0, BLOCK)
    mask = sample < count
    of_sample, of_score = device.of_rating(
        tl.load(observed + sample, mask=mask, other=0.0), tl.load(score + sample, mask=mask, other=0.0), LOSS
    )
    tl.store(loss + sample, of_sample, mask=mask)
    tl.store(d_score + sample, of_score, mask=mask)


@triton.jit
def hardest_kernel(best, place, negatives, count, slots, BLOCK: tl.constexpr):
    sample = tl.arange(0, BLOCK)
    mask = sample < count
    score = tl.full([BLOCK], float("-inf"), tl.float32)
    found = tl.zeros([BLOCK], tl.int32)
    for slot in range(slots):
        of_slot = tl.load(negatives + slot * count + sample, mask=mask, other=0.0)
        score, found = device.hardest(score, found, of_slot, slot)
    tl.store(best + sample, score, mask=mask)
    tl.store(place + sample, found, mask=mask)


def run(kernel, outputs, *inputs, **constants):
    """What a kernel writes for the samples of its inputs, into memory that was poisoned with NaN."""
    count = inputs[0].shape[-1]
    written = [torch.full((256,), torch.nan) for _ in range(outputs)]
    kernel[(1,)](*written, *inputs, count, **constants, BLOCK=256)
    assert all(out[count:].isnan().all() for out in written)
    return [out[:count] for out in written]


def by_autograd(loss, *arguments):
    """A reference's losses, and their gradients for those arguments that require one."""
    losses = loss(*arguments)
    scores = [argument for argument in arguments if argument.requires_grad]
    return [losses.detach(), *torch.autograd.grad(losses.sum(), scores)]


def random(scale, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7)) * scale


def extremes():
    """All pairs of scores from tiny to huge, equal ones and differences of just 1 among them."""
    values = torch.tensor([-HUGE, -100.0, -1.0, -1e-30, 0.0, 1e-8, 0.5, 1.0, 1.5, 17.0, 89.0, HUGE])
    return [side.contiguous() for side in torch.cartesian_prod(values, values).T]


@pytest.mark.parametrize("loss", ["pointwise", "bpr", "hinge"])
class TestRankings:
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
    def test_random_scores(self, loss, scale):
        positive, negative = random(scale, 2, SAMPLES)
        self.assert_equal(loss, positive, negative)

    def test_ties_and_extremes(self, loss):
        self.assert_equal(loss, *extremes())

    def test_the_kink(self, loss):
        positive = random(3.0, SAMPLES).round()
        self.assert_equal(loss, positive, positive - 1)

    def test_nan_is_not_lost(self, loss):
        of_nan = run(of_ranking_kernel, 3, torch.tensor([torch.nan, 0.0]), torch.tensor([0.0, torch.nan]), LOSS=loss)
        assert of_nan[0].isnan().all()

    @staticmethod
    def assert_equal(loss, positive, negative):
        found = run(of_ranking_kernel, 3, positive, negative, LOSS=loss)
        scores = [positive.clone().requires_grad_(), negative.clone().requires_grad_()]
        expected = by_autograd(reference.OF_RANKINGS[loss], *scores)
        tolerance = 0.0 if loss == "hinge" else 4 * UNIT  # the values are between 0 and 2
        for value, other in zip(found, expected, strict=True):
            torch.testing.assert_close(value, other, rtol=0.0, atol=tolerance)


class TestRatings:
    @pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
    def test_regression(self, scale):
        observed, score = random(scale, 2, SAMPLES)
        self.assert_equal("regression", reference.regression, observed, score, 0.0)

    def test_regression_of_extremes(self):
        self.assert_equal("regression", reference.regression, *extremes(), 0.0)

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 10.0])
    def test_logistic(self, scale):
        observed, score = random(scale, 2, SAMPLES)
        self.assert_equal("logistic", reference.logistic, observed / scale, score, 4 * UNIT * (1 + score.abs()))

    def test_logistic_of_extremes(self):
        observed, score = extremes()
        self.assert_equal("logistic", reference.logistic, observed, score, 4 * UNIT * (1 + score.abs()))

    def test_logistic_of_scores_that_are_right(self):
        """As far as the loss is tiny, all of its digits count."""
        score = torch.linspace(1.0, 80.0, SAMPLES)
        loss, _ = run(of_rating_kernel, 2, torch.ones(SAMPLES), score, LOSS="logistic")
        torch.testing.assert_close(loss.double(), torch.log1p(torch.exp(-score.double())), rtol=8 * UNIT, atol=0.0)

    @pytest.mark.parametrize("scale", [1e-3, 1.0, 5.0])
    def test_poisson(self, scale):
        observed, score = random(1.0, SAMPLES).abs() * 5, random(scale, SAMPLES)
        size = torch.exp(score) + observed * (1 + score.abs())
        self.assert_equal("poisson", lambda o, s: reference.poisson(o, torch.exp(s)), observed, score, 8 * UNIT * size)

    def test_poisson_of_rates_that_are_zero_in_float32(self):
        """Where the reference takes the logarithm of 0."""
        observed, score = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([-HUGE] * 3)
        loss, d_score = run(of_rating_kernel, 2, observed, score, LOSS="poisson")
        assert loss.tolist() == [0.0, HUGE, 5 * HUGE]
        assert d_score.tolist() == [0.0, -1.0, -5.0]

    @pytest.mark.parametrize("loss", ["regression", "logistic", "poisson"])
    def test_nan_is_not_lost(self, loss):
        of_nan = run(of_rating_kernel, 2, torch.tensor([torch.nan, 0.5]), torch.tensor([0.5, torch.nan]), LOSS=loss)
        assert all(value.isnan().all() for value in of_nan)

    @staticmethod
    def assert_equal(loss, function, observed, score, tolerance):
        found = run(of_rating_kernel, 2, observed, score, LOSS=loss)
        expected = by_autograd(function, observed, score.clone().requires_grad_())
        for value, other in zip(found, expected, strict=True):
            assert ((value - other).abs() <= tolerance).all()


class TestHardest:
    @pytest.mark.parametrize("slots", [1, 2, 7])
    @pytest.mark.parametrize("scale", [1.0, 0.5, 0.0, HUGE])  # rounded: with more and more ties
    def test_the_first_of_the_highest(self, slots, scale):
        self.assert_equal((random(scale, slots, SAMPLES)).round())

    def test_infinite_scores(self):
        values = torch.tensor([-torch.inf, 0.0, torch.inf])
        self.assert_equal(torch.cartesian_prod(values, values, values).T.contiguous())

    def test_the_first_nan_is_the_highest(self):
        values = torch.tensor([-torch.inf, 0.0, torch.inf, torch.nan])
        self.assert_equal(torch.cartesian_prod(values, values, values).T.contiguous())

    @pytest.mark.parametrize("scale", [1.0, HUGE])
    def test_gradients_of_the_adaptive_hinge_loss(self, scale):
        negatives = random(scale, 5, SAMPLES).round()
        positive = negatives[2] + 1  # at the kink where the third one is the hardest
        best, place = run(hardest_kernel, 2, negatives, slots=5)
        loss, d_positive, d_best = run(of_ranking_kernel, 3, positive, best, LOSS="hinge")
        d_negatives = torch.zeros(5, SAMPLES).scatter_(0, place.long()[None], d_best[None])
        expected = by_autograd(reference.adaptive_hinge, positive.requires_grad_(), negatives.requires_grad_())
        for value, other in zip((loss, d_positive, d_negatives), expected, strict=True):
            assert torch.equal(value, other)

    @staticmethod
    def assert_equal(negatives):
        best, place = run(hardest_kernel, 2, negatives, slots=len(negatives))
        highest = negatives.max(dim=0)
        torch.testing.assert_close(best, highest.values, rtol=0.0, atol=0.0, equal_nan=True)
        assert torch.equal(place.long(), highest.indices)
