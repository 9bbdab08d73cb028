"""Losses of scored samples and their gradients with respect to the scores (see `spotfast.reference.score_loss`).

Device functions only, for the kernels of training. Their blocks have any shape, one element per sample, in float32;
losses and gradients are of one sample, before weights and means. Where a loss has a kink, the gradient is the one that
torch's autograd returns for the reference. Nothing overflows on the way to a finite loss.
"""

from spotfast.kernels.language import tl, triton
from spotfast.kernels.specialisation import Specialisation


@triton.jit
def sigmoid(x):
    """`1 / (1 + exp(-x))`, by the exponential of a number that is never positive."""
    small = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def log_one_plus(x):
    """`log(1 + x)` for x in [0, 1], to a few units in the last place however small x is.

    1 + x is rounded to u; the factor x / (u - 1), where u - 1 is exact, takes the rounding back.
    """
    u = 1.0 + x
    return tl.where(u == 1.0, x, tl.log(u) * (x / tl.where(u == 1.0, 1.0, u - 1.0)))


@triton.jit
def of_ranking(positive, negative, LOSS: tl.constexpr):
    """Loss of a positive and a negative, and its gradients: (loss, d_positive, d_negative).

    LOSS: "pointwise", "bpr" or "hinge", which is the adaptive hinge, too, where the negative is the `hardest` one.
    """
    if LOSS == "pointwise":
        right = sigmoid(positive)
        wrong = sigmoid(negative)
        loss = (1.0 - right) + wrong
        d_positive = -right * (1.0 - right)
        d_negative = wrong * (1.0 - wrong)
    elif LOSS == "bpr":
        right = sigmoid(positive - negative)
        loss = 1.0 - right
        d_negative = right * (1.0 - right)
        d_positive = -d_negative
    else:
        tl.static_assert(LOSS == "hinge", "LOSS must be a loss of rankings")
        margin = negative - positive + 1.0
        loss = tl.where(margin < 0, 0.0, margin)  # a NaN stays a NaN
        d_negative = tl.where(margin >= 0, 1.0, 0.0)
        d_positive = -d_negative
    return loss, d_positive, d_negative


@triton.jit
def of_rating(observed, score, LOSS: tl.constexpr):
    """Loss of the score of a rated item, and its gradient: (loss, d_score).

    LOSS: "regression", "poisson", whose score is the logarithm of the rate, or "logistic", whose observed rating is cut
    to [0, 1].
    """
    if LOSS == "regression":
        error = observed - score
        loss = error * error
        d_score = -2.0 * error
    elif LOSS == "poisson":
        rate = tl.exp(score)
        loss = rate - observed * score
        d_score = rate - observed
    else:
        tl.static_assert(LOSS == "logistic", "LOSS must be a loss of ratings")
        label = tl.where(observed < 0, 0.0, tl.where(observed > 1, 1.0, observed))
        log_term = log_one_plus(tl.exp(-tl.abs(score)))
        loss = (1.0 - label) * score + (log_term + tl.where(score < 0, -score, 0.0))
        d_score = sigmoid(score) - label
    return loss, d_score


@triton.jit
def hardest(best, place, score, candidate):
    """One step of a running maximum over the negatives of each sample: (best, place), updated.

    The first of equal scores wins and a NaN is above all numbers, as in `torch.max`. Start with minus infinity and the
    place of the first negative, then pass the negatives in order. `candidate`: the place of `score`, a scalar or block.
    """
    is_number = best >= float("-inf")
    higher = is_number & ((score <= best) == 0)  # also where the score is NaN
    return tl.where(higher, score, best), tl.where(higher, candidate, place)


SPECIALISATIONS: list[Specialisation] = []  # no kernels: what calls these functions lists its own
