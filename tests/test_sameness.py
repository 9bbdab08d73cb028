"""The C++ engine is the same as the reference: step by step from its state; running free where losses are smooth."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from factorization_problems import RULES, SEED, cast, covering_array, distance, in_double, problem

from spotfast import backends
from spotfast.ops.factorization_epoch import LOSSES
from spotfast.ops.tables import EpochRange, UpdateRule

WITHOUT_L2 = [name for name in RULES if name != "adam with weight decay"]
SMOOTH = [loss for loss in LOSSES if "hinge" not in loss]

pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(backends.missing("native", torch.device("cpu")) is not None, reason="no C++ extension"),
]

# Of a step: 64 interactions; one; or, in a batch that asks for more than there are, 60.
BATCHES = {"whole": (64, 64), "one row": (1, 64), "beyond the end": (60, 64)}
STEPS = covering_array(
    {
        "batch": tuple(BATCHES),
        "ids": ("zipf", "same", "distinct"),
        "sampler": ("uniform", "unseen", "popularity"),
        "weighted": (False, True),
        "slots": (1, 4),
    }
)


def assert_steps_agree(loss, rule, count):
    """From the state of the reference each time; all settings of a step come in turn."""
    case = problem(loss, rule, dim=9, sizes=(70, 100))
    for step in range(count):
        settings = dict(STEPS[step % len(STEPS)])
        interactions, batch_size = BATCHES[settings.pop("batch")]
        drawn = problem(loss, dim=1, count=interactions, sizes=(70, 100), seed=1000 + step, **settings)
        at = EpochRange(SEED, step, batch_size, step)
        case = replace(case, interactions=drawn.interactions, sampling=drawn.sampling, at=at)
        (native, mean), (case, expected) = case.trained("native"), case.trained("reference")
        assert mean == pytest.approx(expected, rel=1e-5, abs=1e-6)  # a hinge is a difference of scores
        assert_same_step(native, case)


def assert_same_step(actual, expected):
    """Users and items together: the gradient of a user's bias is a difference of those of items', and rounded as they
    are."""
    for own, other in zip(by_kind(actual), by_kind(expected), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6 * other.abs().max().item())


def by_kind(case):
    """Vectors, biases, and what is kept for each, of users and of items in one."""
    parts = case.measured
    return [torch.cat(pair) for pair in zip(parts[: len(parts) // 2], parts[len(parts) // 2 :], strict=True)]


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rule", RULES)
def test_steps_of_every_loss_and_rule(loss, rule):
    assert_steps_agree(loss, rule, len(STEPS))


@pytest.mark.parametrize(
    ("loss", "rule"),
    [
        ("bpr", "adam"),
        ("adaptive_hinge", "adam"),
        ("hinge", "adam with weight decay"),
        ("logistic", "adamw"),
        ("pointwise", "sparse_adam"),
        ("poisson", "momentum"),
        ("regression", "adagrad"),
        ("adaptive_hinge", "rowwise_adagrad"),
        ("hinge", "sgd"),
    ],
)
def test_200_steps(loss, rule):
    assert_steps_agree(loss, rule, 200)


@pytest.mark.slow
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("rule", RULES)
def test_200_steps_of_every_loss_and_rule(loss, rule):
    assert_steps_agree(loss, rule, 200)


def assert_epochs_agree(loss, rule, epochs):
    """Rows are owed up to hundreds of steps: early ones, that Adam replays, and from the 512th on its closed form.

    The reference computes in double precision: in single, that of AdamW is off by nearly what is allowed.
    """
    case = problem(loss, rule, count=2880, batch_size=4, sizes=(300, 200), seed=1)
    for epoch in range(epochs):
        case = replace(case, at=EpochRange(SEED, epoch, 4, 720 * epoch))
        native, mean = case.trained("native")
        exact, expected = in_double(case)
        assert mean == pytest.approx(expected, rel=1e-5)
        assert distance(exact, case) > 1e-2
        assert distance(native, exact) < 1e-5
        case = cast(exact, torch.float32)


@pytest.mark.parametrize(
    ("loss", "rule"),
    [("bpr", "adam"), ("bpr", "adamw"), ("bpr", "momentum"), ("pointwise", "adam"), ("poisson", "adam")],
)
def test_a_free_running_epoch(loss, rule):
    assert_epochs_agree(loss, rule, epochs=1)


@pytest.mark.slow
@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("rule", WITHOUT_L2)
def test_free_running_epochs_of_every_loss_and_rule(loss, rule):
    assert_epochs_agree(loss, rule, epochs=2)


@pytest.mark.slow
def test_decoupled_decay_that_leaves_nothing_of_a_row(monkeypatch):
    """The product of all factors is zero even in double precision: rows must be brought up to date before."""
    monkeypatch.setitem(RULES, "adamw", UpdateRule("adam", 1e-2, weight_decay=20.0, decoupled=True))
    case = problem("regression", "adamw", count=4200, batch_size=1, sizes=(300, 200))
    for table in (case.users, case.items):
        table.vectors.zero_()  # where they are nothing, rounding alone would choose their signs
    (native, loss), (plain, expected) = case.trained("native"), case.trained("reference")
    assert loss == pytest.approx(expected, rel=1e-5)
    for own, other in ((native.users, plain.users), (native.items, plain.items)):
        assert (own.biases - other.biases).norm() < 1e-5 * other.biases.norm()
